// SPDX-License-Identifier: Apache-2.0
//! A tray's controller on the bus: it speaks when it is asked, one frame, and never else.

use racklet_wire::{
    bus::{Content, Frame, Hello, Station},
    serial::{OnLine, Receiver},
};

use super::{Busy, Channel};

/// What a tray's controller knows of the bus.
#[derive(Debug)]
pub struct Node {
    station: Station,
    channel: Channel,
    receiver: Receiver,
    hello: Hello,
    damaged: u32,
}

impl Node {
    /// The one at this place, in a new session (never the number of the last one: a counter in flash gives it).
    #[must_use]
    pub const fn new(station: Station, session: u16, hello: Hello) -> Self {
        Self {
            station,
            channel: Channel::new(session),
            receiver: Receiver::new(),
            hello,
            damaged: 0,
        }
    }

    /// Says from now on whether its tray has power.
    pub const fn powered(&mut self, powered: bool) {
        self.hello.powered = powered;
    }

    /// Frames that came damaged, whomever they were for.
    #[must_use]
    pub const fn damaged(&self) -> u32 {
        self.damaged
    }

    /// Takes a byte of the bus. With the last one of a question to this node it gives the answer, which is to be on the line within
    /// [`racklet_wire::bus::ANSWER_WITHIN`] and no sooner than [`racklet_wire::bus::TURNAROUND`]; later it would meet somebody else's turn
    /// and has to be dropped.
    pub fn take(&mut self, byte: u8) -> Option<OnLine> {
        let body = match self.receiver.take(byte)? {
            Ok(body) => body,
            Err(_) => {
                self.damaged = self.damaged.saturating_add(1);
                return None;
            }
        };
        let frame = Frame::decode(body).ok()?;
        if frame.to != self.station || frame.from != Station::Rack {
            return None;
        }
        let content = match frame.content {
            Content::Ask => {
                self.channel.hear(&frame, None);
                Content::Hello(self.hello)
            }
            Content::Poll(piece) => {
                self.channel.hear(&frame, piece);
                Content::Answer(self.channel.piece())
            }
            // An answer in the rack's name: nobody's.
            Content::Hello(_) | Content::Answer(_) => return None,
        };
        let carried = matches!(content, Content::Answer(Some(_)));
        let answer = Frame {
            to: Station::Rack,
            from: self.station,
            session: self.channel.session(),
            sequence: self.channel.sequence(carried),
            acknowledge: self.channel.acknowledge(),
            content,
        };
        answer.encode().ok()
    }

    /// Whether [`Self::offer`] takes a packet.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.channel.is_free()
    }

    /// Takes a packet for the rack's controller.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn offer(&mut self, packet: &[u8]) -> Result<(), Busy> {
        self.channel.offer(packet)
    }

    /// The packet that came, once; to be fetched before the next question.
    pub fn packet(&mut self) -> Option<&[u8]> {
        self.channel.packet()
    }
}
