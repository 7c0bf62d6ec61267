// SPDX-License-Identifier: Apache-2.0
//! Tests with as many connections as there may be, each with a stream of its own.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::vsock::packet::{NO_RECEIVE, NO_SEND, RESPONSE};
use crate::testing::{Both, Driver, start, test_memory};

/// The host's end of one connection.
#[derive(Default)]
struct End {
    token: u32,
    to_guest: Vec<u8>,
    received: Vec<u8>,
    /// Bytes that it takes.
    room: usize,
    /// How often it was asked for bytes.
    asked: usize,
    ended: bool,
    closed: bool,
}

#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<Arc<Mutex<End>>>>>);

struct Socket(Arc<Mutex<End>>);

impl Dialer for Ends {
    fn dial(&mut self, _port: u32, token: u32) -> io::Result<Box<dyn Stream>> {
        let end = Arc::new(Mutex::new(End {
            token,
            room: usize::MAX,
            ..End::default()
        }));
        self.0.lock().unwrap().push(end.clone());
        Ok(Box::new(Socket(end)))
    }
}

impl Stream for Socket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut end = self.0.lock().unwrap();
        end.asked += 1;
        let count = end.to_guest.len().min(to.len());
        if count == 0 && !end.closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        to[..count].copy_from_slice(&end.to_guest[..count]);
        end.to_guest.drain(..count);
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut end = self.0.lock().unwrap();
        let count = end.room.min(from.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.room -= count;
        end.received.extend(&from[..count]);
        Ok(count)
    }

    fn end(&mut self) {
        self.0.lock().unwrap().ended = true;
    }
}

struct Crowd {
    memory: Memory,
    t: Both,
    rx: Driver,
    tx: Driver,
    ends: Ends,
    offered: u64,
}

fn crowd() -> Crowd {
    let memory = test_memory();
    let ends = Ends::default();
    let mut crowd = Crowd {
        t: Both::new(Box::new(Vsock::new(ends.clone(), 3)), &memory),
        rx: Driver::at(&memory, 128, 0x1000),
        tx: Driver::at(&memory, 128, 0x5000),
        memory,
        ends,
        offered: 0,
    };
    let (t, drivers) = (&mut crowd.t, [&crowd.rx, &crowd.tx]);
    start(0, &drivers, |offset, value| t.set(offset, value));
    for _ in 0..100 {
        crowd.offer();
    }
    crowd
}

impl Crowd {
    /// A buffer for the device, where the number of its descriptor says.
    fn offer(&mut self) {
        let at = 0x20000 + 0x1100 * (self.offered % 128);
        self.offered += 1;
        self.rx.offer(&self.memory, &[(at, 44 + 4096, true)]);
    }

    /// Sends a packet from this port, and gives what the device says then.
    fn send(
        &mut self,
        port: u32,
        operation: u16,
        flags: u32,
        data: &[u8],
    ) -> Vec<(Header, Vec<u8>)> {
        let header = Header {
            source_cid: 3,
            target_cid: 2,
            source_port: port,
            target_port: 5000,
            len: u32::try_from(data.len()).unwrap(),
            kind: STREAM,
            operation,
            flags,
            buffer: 8192,
            forwarded: 0,
        };
        let packet = [&header.bytes()[..], data].concat();
        self.memory
            .write_slice(&packet, GuestAddress(0x9000))
            .unwrap();
        let len = u32::try_from(packet.len()).unwrap();
        self.tx.offer(&self.memory, &[(0x9000, len, false)]);
        let _ = self.t.engine.notify(TX);
        while self.tx.collect(&self.memory).is_some() {}
        self.heard()
    }

    /// Something happened at this end.
    fn happen(
        &mut self,
        end: &Arc<Mutex<End>>,
        act: impl FnOnce(&mut End),
    ) -> Vec<(Header, Vec<u8>)> {
        let token = {
            let mut end = end.lock().unwrap();
            act(&mut end);
            end.token
        };
        let _ = self.t.engine.host_event(token);
        self.heard()
    }

    fn heard(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            while let Some((head, len)) = self.rx.collect(&self.memory) {
                let mut raw = vec![0; len as usize];
                let at = GuestAddress(0x20000 + 0x1100 * u64::from(head));
                self.memory.read_slice(&mut raw, at).unwrap();
                let header = Header::parse(raw[..44].try_into().unwrap());
                all.push((header, raw[44..].to_vec()));
                self.offer();
            }
            let before = self.t.window.counters().returned;
            let _ = self.t.engine.notify(RX);
            if self.t.window.counters().returned == before {
                return all;
            }
        }
    }

    /// Opens this many connections, from the ports 0 on.
    fn open(&mut self, count: usize) -> Vec<Arc<Mutex<End>>> {
        for port in 0..u32::try_from(count).unwrap() {
            let said = self.send(port, REQUEST, 0, &[]);
            assert_eq!(said.len(), 1);
            assert_eq!(
                (said[0].0.operation, said[0].0.target_port),
                (RESPONSE, port)
            );
        }
        self.ends.0.lock().unwrap().clone()
    }
}

/// One packet, of this operation, to this port.
#[track_caller]
fn is(said: &[(Header, Vec<u8>)], operation: u16, port: usize) -> &[u8] {
    assert_eq!(said.len(), 1, "{said:?}");
    let (header, data) = &said[0];
    let to = usize::try_from(header.target_port).unwrap();
    assert_eq!((header.operation, to), (operation, port));
    data
}

#[test]
fn a_thousand_connections_carry_their_own_bytes_end_by_halves_and_are_asked_only_when_they_are_ready()
 {
    let mut crowd = crowd();
    let ends = crowd.open(MOST_CONNECTIONS);
    for (n, end) in ends.iter().enumerate() {
        let (port, text) = (u32::try_from(n).unwrap(), n.to_string().into_bytes());
        let said = crowd.happen(end, |end| end.to_guest = text.clone());
        assert_eq!(is(&said, DATA, n), text);
        assert!(crowd.send(port, DATA, 0, &text).is_empty());
        assert_eq!(end.lock().unwrap().received, text);
        if n % 2 == 0 {
            // The guest has said all: the other direction goes on.
            assert!(crowd.send(port, SHUTDOWN, NO_SEND, &[]).is_empty());
            assert!(end.lock().unwrap().ended);
            let said = crowd.happen(end, |end| end.to_guest = text.clone());
            assert_eq!(is(&said, DATA, n), text);
        } else {
            let said = crowd.happen(end, |end| end.closed = true);
            is(&said, SHUTDOWN, n);
            assert!(crowd.send(port, DATA, 0, &text).is_empty());
            assert_eq!(end.lock().unwrap().received.len(), 2 * text.len());
        }
    }
    // One packet needs at most a question for its bytes and one whether there are more; each end had 5.
    let most = ends.iter().map(|end| end.lock().unwrap().asked).max();
    assert!(most.is_some_and(|most| most <= 10), "{most:?}");
    for (n, end) in ends.iter().enumerate() {
        let said = crowd.send(
            u32::try_from(n).unwrap(),
            SHUTDOWN,
            NO_SEND | NO_RECEIVE,
            &[],
        );
        is(&said, RESET, n);
        assert!(end.lock().unwrap().ended);
        assert_eq!(Arc::strong_count(end), 2, "the device has let it go");
    }
    assert_eq!(crowd.t.window.counters().failed, 0);
}

#[test]
fn a_connection_too_many_is_reset_and_counted_and_has_room_when_another_ends() {
    let mut crowd = crowd();
    crowd.open(MOST_CONNECTIONS);
    for port in [5000, 5001] {
        let said = crowd.send(port, REQUEST, 0, &[]);
        is(&said, RESET, port as usize);
    }
    let counted = crowd.t.window.counters();
    assert_eq!((counted.failed, counted.refused), (2, 0));
    assert_eq!(crowd.ends.0.lock().unwrap().len(), MOST_CONNECTIONS);
    crowd.send(7, RESET, 0, &[]);
    let said = crowd.send(5000, REQUEST, 0, &[]);
    is(&said, RESPONSE, 5000);
}

#[test]
fn a_guest_whose_streams_take_nothing_keeps_no_more_than_a_few_mib() {
    let mut crowd = crowd();
    let ends = crowd.open(MOST_CONNECTIONS);
    let mut credit = 0;
    for (n, end) in ends.iter().enumerate() {
        end.lock().unwrap().room = 0;
        let port = u32::try_from(n).unwrap();
        // It says how much it takes when it is asked.
        let said = crowd.send(port, CREDIT_REQUEST, 0, &[]);
        is(&said, CREDIT_UPDATE, n);
        let room = said[0].0.buffer;
        credit += room;
        for _ in 0..room / 4096 {
            assert!(crowd.send(port, DATA, 0, &[1; 4096]).is_empty());
        }
    }
    assert!(credit <= 6 << 20, "{credit} bytes");
    let last = MOST_CONNECTIONS - 1;
    let said = crowd.happen(&ends[last], |end| end.room = 4096);
    is(&said, CREDIT_UPDATE, last);
    assert_eq!(ends[last].lock().unwrap().received, [1; 4096]);
    let said = crowd.send(0, DATA, 0, &[1]);
    is(&said, RESET, 0);
    // The larger buffer of the one that ended is the next one's.
    let said = crowd.send(5000, REQUEST, 0, &[]);
    assert_eq!(said[0].0.buffer, BUFFER);
    let said = crowd.send(1000, RESET, 0, &[]);
    assert!(said.is_empty());
    let said = crowd.send(5001, REQUEST, 0, &[]);
    assert_eq!(said[0].0.buffer, SMALL_BUFFER);
}
