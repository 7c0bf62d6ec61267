// SPDX-License-Identifier: Apache-2.0
//! Tests with as many connections as there may be, each with a stream of its own.

use std::io;
use std::sync::{Arc, Mutex};

use super::guest::{hear, offer, say};
use super::*;
use crate::devices::vsock::packet::{NO_RECEIVE, NO_SEND, RESPONSE};
use crate::testing::{Both, Driver, allocations, start, test_memory};

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
        offer(&self.memory, &mut self.rx, self.offered);
        self.offered += 1;
    }

    /// Sends a packet from this port, and gives what the device says then.
    fn send(
        &mut self,
        port: u32,
        operation: u16,
        flags: u32,
        data: &[u8],
    ) -> Vec<(Header, Vec<u8>)> {
        let (guest, host) = (port, 5000);
        let tx = (&self.memory, &mut self.tx);
        say(tx, Ports { guest, host }, operation, flags, data);
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
            while let Some(packet) = hear(&self.memory, &mut self.rx) {
                all.push(packet);
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

/// The end of a connection that takes all that it gets, and always has something to say but not two things at once.
struct Busy(bool);

impl Stream for Busy {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0 = !self.0;
        if self.0 {
            to[..100].fill(0);
            Ok(100)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }

    fn end(&mut self) {}
}

struct Line;

impl Dialer for Line {
    fn dial(&mut self, _port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Busy(false)))
    }
}

#[test]
fn a_packet_of_a_connection_allocates_in_neither_direction() {
    let mut crowd = crowd();
    crowd.t = Both::new(Box::new(Vsock::new(Line, 3)), &crowd.memory);
    let (t, drivers) = (&mut crowd.t, [&crowd.rx, &crowd.tx]);
    start(0, &drivers, |offset, value| t.set(offset, value));
    let ports = Ports {
        guest: 7,
        host: 5000,
    };
    let mut counted = 0;
    // Its credit is for 81 packets of 100 bytes: two a round at most.
    for round in 0..40 {
        let (operation, data) = if round == 0 {
            (REQUEST, &[][..])
        } else {
            (DATA, &[1; 6000][..])
        };
        say((&crowd.memory, &mut crowd.tx), ports, operation, 0, data);
        let count = allocations(|| {
            while crowd.t.engine.notify(TX) == Turn::More {}
            while crowd.t.engine.host_event(0) == Turn::More {}
        });
        assert!(crowd.tx.collect(&crowd.memory).is_some());
        let mut heard = 0;
        while hear(&crowd.memory, &mut crowd.rx).is_some() {
            heard += 1;
            offer(&crowd.memory, &mut crowd.rx, crowd.offered);
            crowd.offered += 1;
        }
        assert!(heard > 0, "{round}");
        counted += if round < 20 { 0 } else { count };
    }
    assert_eq!(counted, 0);
}
