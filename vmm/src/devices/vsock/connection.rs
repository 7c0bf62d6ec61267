// SPDX-License-Identifier: Apache-2.0
//! One connection: credit in both directions, and what is to be said to the guest next.
//!
//! ```text
//! the host's REQUEST -> asked --RESPONSE--> open
//!                        '--anything else, or nothing in time--> over
//! REQUEST -> open --guest SHUTDOWN(both), all forwarded--> over (RESET)
//!              |----stream fails, guest breaks credit----> over (RESET)
//!              '----stream ends--> SHUTDOWN(no send) said, guest may go on sending
//! ```

use std::collections::VecDeque;
use std::io;
use std::num::Wrapping;

use super::Stream;
use super::packet::{
    CREDIT_UPDATE, DATA, Header, NO_RECEIVE, NO_SEND, REQUEST, RESPONSE, SHUTDOWN,
};

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes that the guest may send before they were forwarded.
    buffer: u32,
    /// Bytes of the guest that the stream has not taken yet; at most `buffer`.
    waiting: VecDeque<u8>,
    forwarded: Wrapping<u32>,
    forwarded_said: Wrapping<u32>,
    /// Bytes given to the guest, and what it said about its own side.
    sent: Wrapping<u32>,
    guest_buffer: u32,
    guest_forwarded: Wrapping<u32>,
    /// What is said first: [`RESPONSE`] to the guest's request, or the host's [`REQUEST`].
    first: Option<u16>,
    /// The guest was asked for it and has not answered.
    asked: bool,
    update: bool,
    guest_ended: bool,
    guest_deaf: bool,
    host_ended: bool,
    host_end_said: bool,
    broken: bool,
    /// It is among those that are asked for what they have to say.
    ready: bool,
}

/// Bytes that are copied at a time out of a packet.
const PIECE: usize = 4096;

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, request: &Header, buffer: u32) -> Connection {
        Connection {
            stream,
            buffer,
            waiting: VecDeque::new(),
            forwarded: Wrapping(0),
            forwarded_said: Wrapping(0),
            sent: Wrapping(0),
            guest_buffer: request.buffer,
            guest_forwarded: Wrapping(request.forwarded),
            first: Some(RESPONSE),
            asked: false,
            update: false,
            guest_ended: false,
            guest_deaf: false,
            host_ended: false,
            host_end_said: false,
            broken: false,
            ready: false,
        }
    }

    /// One that the host wants.
    pub(super) fn call(stream: Box<dyn Stream>, buffer: u32) -> Connection {
        Connection {
            first: Some(REQUEST),
            asked: true,
            ..Connection::new(stream, &Header::default(), buffer)
        }
    }

    /// The guest was asked for it and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// The guest has taken it; it sees it as one from this port.
    pub(super) fn taken(&mut self, port: u32) {
        self.asked = false;
        self.broken |= self.stream.taken(port).is_err();
    }

    /// It may have something to say; whether it was not among those already.
    pub(super) fn becomes_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.ready, true)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn had_nothing(&mut self) {
        self.ready = false;
    }

    pub(super) fn buffer(&self) -> u32 {
        self.buffer
    }

    /// Whether somebody is told when the stream is ready.
    pub(super) fn tells(&self) -> bool {
        self.stream.tells()
    }

    /// Every packet tells how much the guest can take.
    pub(super) fn credit(&mut self, header: &Header) {
        self.guest_buffer = header.buffer;
        self.guest_forwarded = Wrapping(header.forwarded);
    }

    pub(super) fn want_update(&mut self) {
        self.update = true;
    }

    pub(super) fn guest_shutdown(&mut self, flags: u32) {
        self.guest_deaf |= flags & NO_RECEIVE != 0;
        if flags & NO_SEND != 0 && !self.guest_ended {
            self.guest_ended = true;
            self.flush();
        }
    }

    /// So many bytes of the guest, which `read` copies from an offset on. More than it had credit for breaks the connection.
    pub(super) fn data(&mut self, len: u32, mut read: impl FnMut(u64, &mut [u8])) {
        let len = len as usize;
        if self.waiting.len() + len > self.buffer as usize || self.guest_ended {
            self.broken = true;
            return;
        }
        let mut piece = [0; PIECE];
        for at in (0..len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(len - at)];
            read(at as u64, piece);
            self.waiting.extend(&*piece);
        }
        self.flush();
    }

    /// Gives the stream what it takes.
    pub(super) fn flush(&mut self) {
        while !self.waiting.is_empty() && !self.broken {
            let (first, _) = self.waiting.as_slices();
            match self.stream.write(first) {
                Ok(0) => self.broken = true,
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.forwarded += u32::try_from(count).expect("at most 64 KiB wait");
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        if (self.forwarded - self.forwarded_said).0 >= self.buffer / 2 {
            self.update = true;
        }
        if self.guest_ended && self.waiting.is_empty() {
            self.stream.end();
        }
    }

    /// The connection is over and the guest is to be told by a reset.
    pub(super) fn is_over(&self) -> bool {
        self.broken || (self.guest_ended && self.guest_deaf && self.waiting.is_empty())
    }

    /// The next packet for the guest, its data in `data` (as long as a packet's data may be).
    pub(super) fn next(&mut self, data: &mut [u8]) -> Option<Header> {
        let mut header = Header::default();
        if let Some(operation) = self.first.take() {
            header.operation = operation;
        } else if self.asked {
            return None;
        } else if let Some(len) = self.take(data) {
            header.operation = DATA;
            header.len = len;
            self.sent += len;
        } else if self.update {
            header.operation = CREDIT_UPDATE;
        } else if self.host_ended && !self.host_end_said {
            self.host_end_said = true;
            header.operation = SHUTDOWN;
            header.flags = NO_SEND;
        } else {
            return None;
        }
        self.update = false;
        self.forwarded_said = self.forwarded;
        header.buffer = self.buffer;
        header.forwarded = self.forwarded.0;
        Some(header)
    }

    fn take(&mut self, data: &mut [u8]) -> Option<u32> {
        let on_the_way = (self.sent - self.guest_forwarded).0;
        let credit = self.guest_buffer.saturating_sub(on_the_way);
        let most = data.len().min(credit as usize);
        if most == 0 || self.host_ended || self.guest_deaf || self.broken {
            return None;
        }
        loop {
            match self.stream.read(&mut data[..most]) {
                Ok(0) => self.host_ended = true,
                Ok(count) => return Some(u32::try_from(count).expect("at most a packet")),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.broken = true,
            }
            return None;
        }
    }
}
