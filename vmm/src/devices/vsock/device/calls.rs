// SPDX-License-Identifier: Apache-2.0
//! Tests of connections that the host wants.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use super::guest::{hear, offer, say};
use super::*;
use crate::devices::vsock::packet::{NO_RECEIVE, NO_SEND};
use crate::testing::{Driver, set_clock, test_clock, test_memory};

/// What the host's clients want, send, hear, and how their calls ended.
#[derive(Default)]
struct Clients {
    wanted: VecDeque<u32>,
    to_guest: Vec<u8>,
    heard: Vec<u8>,
    told: Vec<u32>,
    ended: bool,
    /// Streams that there are.
    open: usize,
    deaf: bool,
    taken: u32,
    refused: u32,
}

#[derive(Clone, Default)]
struct Host(Arc<Mutex<Clients>>);

struct Client(Host);

impl Dialer for Host {
    fn dial(&mut self, _: u32, _: u32) -> io::Result<Box<dyn Stream>> {
        self.0.lock().unwrap().open += 1;
        Ok(Box::new(Client(self.clone())))
    }

    fn call(&mut self, _: u32) -> Option<(u32, Box<dyn Stream>)> {
        let mut clients = self.0.lock().unwrap();
        let port = clients.wanted.pop_front()?;
        clients.open += 1;
        Some((port, Box::new(Client(self.clone()))))
    }

    fn called(&mut self, taken: bool) {
        let mut clients = self.0.lock().unwrap();
        clients.taken += u32::from(taken);
        clients.refused += u32::from(!taken);
    }
}

impl Stream for Client {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut clients = self.0.0.lock().unwrap();
        let count = clients.to_guest.len().min(to.len());
        if count == 0 && !clients.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in to.iter_mut().zip(clients.to_guest.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().heard.extend(from);
        Ok(from.len())
    }

    fn end(&mut self) {}

    fn taken(&mut self, port: u32) -> io::Result<()> {
        let mut clients = self.0.0.lock().unwrap();
        clients.told.push(port);
        if clients.deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().open -= 1;
    }
}

struct Scene {
    memory: Memory,
    rx: Driver,
    tx: Driver,
    queues: [Queue; 3],
    host: Host,
    device: Vsock<Host>,
}

/// The guest's port that is wanted.
const PORT: u32 = 700;

impl Scene {
    fn new() -> Scene {
        set_clock(0);
        let memory = test_memory();
        let (mut rx, tx) = (
            Driver::at(&memory, 128, 0x1000),
            Driver::at(&memory, 128, 0x5000),
        );
        let queues = [rx.queue(&memory), tx.queue(&memory), Queue::off()];
        for n in 0..64 {
            offer(&memory, &mut rx, n);
        }
        let host = Host::default();
        let mut device = Vsock::new(host.clone(), 3);
        device.clock = test_clock;
        Scene {
            memory,
            rx,
            tx,
            queues,
            host,
            device,
        }
    }

    fn clients<T>(&self, act: impl FnOnce(&mut Clients) -> T) -> T {
        act(&mut self.host.0.lock().unwrap())
    }

    /// Somebody wants this port; what the guest hears, and when the device wants another turn.
    fn call(&mut self, port: u32) -> (Vec<(Header, Vec<u8>)>, Turn) {
        self.clients(|clients| clients.wanted.push_back(port));
        self.event(CALL)
    }

    fn event(&mut self, token: u32) -> (Vec<(Header, Vec<u8>)>, Turn) {
        let turn = self
            .device
            .host_event(token, &mut self.queues, &self.memory)
            .unwrap();
        (self.heard(), turn)
    }

    fn heard(&mut self) -> Vec<(Header, Vec<u8>)> {
        std::iter::from_fn(|| hear(&self.memory, &mut self.rx)).collect()
    }

    /// The guest says this on the connection that it was asked for.
    fn say(&mut self, asked: &Header, operation: u16, flags: u32, data: &[u8]) -> Vec<u16> {
        let (guest, host) = (asked.target_port, asked.source_port);
        let tx = (&self.memory, &mut self.tx);
        say(tx, Ports { guest, host }, operation, flags, data);
        let _ = self
            .device
            .notify(TX, &mut self.queues, &self.memory)
            .unwrap();
        while self.tx.collect(&self.memory).is_some() {}
        let heard = self.heard();
        heard.iter().map(|(header, _)| header.operation).collect()
    }

    /// A connection that the guest was asked for.
    #[track_caller]
    fn asked(&mut self) -> Header {
        let (heard, _) = self.call(PORT);
        let [(header, data)] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert!(data.is_empty());
        *header
    }

    fn counts(&self) -> (u32, u32, usize) {
        self.clients(|clients| (clients.taken, clients.refused, clients.open))
    }
}

#[test]
fn the_guest_is_asked_and_its_answer_opens_a_connection_that_ends_by_halves() {
    let mut scene = Scene::new();
    scene.clients(|clients| clients.to_guest = b"early".to_vec());
    let asked = scene.asked();
    assert_eq!((asked.operation, asked.target_port), (REQUEST, PORT));
    assert_eq!((asked.source_cid, asked.target_cid), (2, 3));
    assert_eq!((asked.source_port, asked.buffer), (1 << 30, BUFFER));
    assert!(scene.event(PUMP).0.is_empty(), "nothing before the answer");
    assert_eq!(scene.counts(), (0, 0, 1));
    assert_eq!(scene.say(&asked, RESPONSE, 0, &[]), [DATA]);
    assert_eq!(scene.counts(), (1, 0, 1));
    assert_eq!(scene.clients(|clients| clients.told.clone()), [1 << 30]);
    assert_eq!(scene.device.asked.len(), 0);
    // Nobody waits for it any more.
    set_clock(u64::MAX);
    let (heard, turn) = scene.event(CALL);
    assert_eq!((heard.len(), turn), (0, Turn::Done));
    scene.clients(|clients| clients.ended = true);
    let (heard, _) = scene.event(0);
    assert_eq!(heard[0].0.operation, SHUTDOWN);
    assert!(scene.say(&asked, DATA, 0, b"answer").is_empty());
    assert_eq!(scene.clients(|clients| clients.heard.clone()), b"answer");
    let both = NO_SEND | NO_RECEIVE;
    assert_eq!(scene.say(&asked, SHUTDOWN, both, &[]), [RESET]);
    assert_eq!(scene.counts(), (1, 0, 0));
}

#[test]
fn a_guest_that_refuses_or_says_anything_else_first_has_not_taken_it() {
    for (operation, answer) in [
        (RESET, &[][..]),
        (DATA, &[RESET]),
        (REQUEST, &[RESET]),
        (SHUTDOWN, &[RESET]),
        (CREDIT_UPDATE, &[RESET]),
        (CREDIT_REQUEST, &[RESET]),
        (42, &[RESET]),
    ] {
        let mut scene = Scene::new();
        let asked = scene.asked();
        assert_eq!(scene.say(&asked, operation, 0, &[]), answer, "{operation}");
        assert_eq!(scene.counts(), (0, 1, 0), "{operation}");
        assert!(scene.device.connections.is_empty() && scene.device.asked.is_empty());
        assert!(scene.device.by_ports.is_empty());
    }
    // An answer that nobody asked for opens nothing, and a second one ends what it was the second of.
    let mut scene = Scene::new();
    let asked = scene.asked();
    let other = Header {
        source_port: asked.source_port + 1,
        ..asked
    };
    assert_eq!(scene.say(&other, RESPONSE, 0, &[]), [RESET]);
    assert_eq!(scene.counts(), (0, 0, 1));
    assert!(scene.say(&asked, RESPONSE, 0, &[]).is_empty());
    assert_eq!(scene.say(&asked, RESPONSE, 0, &[]), [RESET]);
    assert_eq!(scene.counts(), (1, 0, 0));
    // Who does not want to hear that it is there does not have it.
    scene.clients(|clients| clients.deaf = true);
    let asked = scene.asked();
    assert_eq!(scene.say(&asked, RESPONSE, 0, &[]), [RESET]);
    assert_eq!(scene.counts().2, 0);
}

#[test]
fn a_guest_that_does_not_answer_is_waited_for_so_long_and_no_longer() {
    let mut scene = Scene::new();
    let first = scene.asked();
    set_clock(1);
    let (heard, turn) = scene.call(PORT);
    assert_eq!(turn, Turn::At(PATIENCE));
    assert_ne!(heard[0].0.source_port, first.source_port);
    set_clock(PATIENCE);
    let turn = scene.device.more(&mut scene.queues, &scene.memory);
    assert_eq!(turn, Ok(Turn::At(PATIENCE + 1)));
    let heard = scene.heard();
    assert_eq!(
        (heard[0].0.operation, heard[0].0.source_port),
        (RESET, first.source_port)
    );
    assert_eq!(scene.counts(), (0, 1, 1));
    // Too late.
    assert_eq!(scene.say(&first, RESPONSE, 0, &[]), [RESET]);
    assert_eq!(scene.counts(), (0, 1, 1));
    scene.device.reset();
    assert_eq!(scene.counts(), (0, 2, 0));
}

#[test]
fn both_sides_together_have_no_more_connections_than_there_may_be() {
    let mut scene = Scene::new();
    let guest = Header {
        source_port: 5000,
        ..Header::default()
    };
    for port in 0..u32::try_from(MOST_CONNECTIONS).unwrap() {
        let from = Header {
            target_port: port,
            ..guest
        };
        scene.say(&from, REQUEST, 0, &[]);
    }
    assert_eq!(scene.counts(), (0, 0, MOST_CONNECTIONS));
    let _ = scene.call(PORT);
    assert_eq!(scene.counts(), (0, 1, MOST_CONNECTIONS));
}

#[test]
fn a_port_of_the_hosts_that_has_a_connection_is_not_taken_twice() {
    let mut scene = Scene::new();
    // The guest may use any of the host's ports.
    let own = Header {
        source_port: FIRST_PORT,
        target_port: PORT,
        ..Header::default()
    };
    scene.say(&own, REQUEST, 0, &[]);
    assert_eq!(scene.asked().source_port, FIRST_PORT + 1);
    scene.device.next_port = u32::MAX >> 1;
    assert_eq!(scene.asked().source_port, u32::MAX >> 1);
    assert_eq!(scene.asked().source_port, FIRST_PORT + 2, "round again");
}
