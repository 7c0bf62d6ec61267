// SPDX-License-Identifier: Apache-2.0
//! The vsock device: packets of the guest to connections, and back.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::connection::Connection;
use super::packet::{
    CREDIT_REQUEST, CREDIT_UPDATE, DATA, HEADER, Header, REQUEST, RESET, RESPONSE, SHUTDOWN, STREAM,
};
use super::{Dialer, Stream};
use crate::memory::Memory;
use crate::rate;
use crate::virtio::{Budget, Chain, Device, Fault, Queue, Turn};

/// Token of a host event that concerns no single connection: look at all whose streams tell nobody when they are ready.
pub const PUMP: u32 = u32::MAX;
/// Token of a host event: somebody wants a connection to the guest ([`Dialer::call`]).
pub const CALL: u32 = u32::MAX - 1;

const RX: usize = 0;
const TX: usize = 1;
const EVENTS: usize = 2;
/// The one event there is: connections are gone, and the guest's address may be another.
const TRANSPORT_RESET: u32 = 0;
const HOST_CID: u64 = 2;
/// Each is a descriptor where its host's end is a socket: `confine::limit` leaves room for them.
pub(crate) const MOST_CONNECTIONS: usize = 1024;
/// Resets that wait for the guest to offer buffers; more are dropped, the guest's connects then time out. All connections may end at
/// once.
const MOST_RESETS: usize = 2 * MOST_CONNECTIONS;
/// Bytes that the guest may send on a connection before its stream has taken them…
const BUFFER: u32 = 64 * 1024;
/// …for so many connections at a time. The others have less, so that a guest whose streams take nothing keeps at most 6 MiB here.
const MOST_LARGE: usize = 32;
const SMALL_BUFFER: u32 = 4096;
/// Nanoseconds in which a guest is to take or refuse a connection that the host wants. One whose port nobody listens at says so at once.
pub(crate) const PATIENCE: u64 = 10_000_000_000;
/// The host's ports of such connections are from here on, as in Firecracker: twice as many as there can be of the usual kind.
const FIRST_PORT: u32 = 1 << 30;
/// Largest data in one packet towards the guest: what Linux offers per buffer.
const MOST_DATA: usize = 4096;

/// Most packets of a turn in one direction, and bytes after which it ends.
const BATCH: u32 = 128;
const BATCH_BYTES: u64 = 1 << 19;

/// A connection's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ports {
    guest: u32,
    host: u32,
}

/// At most [`MOST_CONNECTIONS`] of both sides, each under its pair of ports and under a token for the host's events.
pub struct Vsock<D> {
    dialer: D,
    config: [u8; 8],
    cid: u64,
    connections: BTreeMap<u32, (Ports, Connection)>,
    by_ports: BTreeMap<Ports, u32>,
    /// Connections that may have something to say, each once: who has said something comes behind the others. Those that have nothing
    /// are not asked: with a thousand, asking costs as many system calls. What keeps its room when it is empty allocates nothing.
    ready: VecDeque<u32>,
    /// How many have the larger buffer.
    large: usize,
    resets: VecDeque<Ports>,
    /// A buffer of the guest that was taken from the queue and holds nothing yet.
    taken: Option<Chain>,
    /// The packet at hand asked for a connection that nobody took.
    untaken: bool,
    next_token: u32,
    next_port: u32,
    /// Connections that the guest was asked for, and until when it may answer; the oldest first.
    asked: VecDeque<(u64, u32)>,
    clock: fn() -> u64,
    /// The guest was restored and does not know yet.
    moved: bool,
}

impl<D: Dialer> Vsock<D> {
    /// A device for the guest with this CID.
    pub fn new(dialer: D, cid: u32) -> Vsock<D> {
        let cid = u64::from(cid);
        Vsock {
            dialer,
            config: cid.to_le_bytes(),
            cid,
            connections: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            ready: VecDeque::new(),
            large: 0,
            resets: VecDeque::new(),
            taken: None,
            untaken: false,
            next_token: 0,
            next_port: FIRST_PORT,
            asked: VecDeque::new(),
            clock: rate::now,
            moved: false,
        }
    }

    fn transmit(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Turn, Fault> {
        let mut budget = Budget::new(BATCH, BATCH_BYTES);
        while let Some(chain) = queue.pop(memory, &mut budget)? {
            budget.bytes(chain.readable_len());
            let good = self.packet(&chain, memory);
            if std::mem::take(&mut self.untaken) {
                queue.count_failed();
            }
            if good {
                queue.push(memory, chain, 0)?;
            } else {
                queue.refuse(memory, chain)?;
            }
        }
        Ok(budget.turn())
    }

    /// Says that the guest has been moved, once it has room for that.
    fn announce(&mut self, queue: &mut Queue, memory: &Memory) -> Result<(), Fault> {
        if !self.moved {
            return Ok(());
        }
        let mut budget = Budget::new(1, 1);
        if let Some(chain) = queue.pop(memory, &mut budget)? {
            let written = chain.write(memory, 0, &TRANSPORT_RESET.to_le_bytes());
            self.moved = written < size_of::<u32>();
            queue.push(memory, chain, u32::try_from(written).expect("at most 4"))?;
        }
        Ok(())
    }

    /// Takes a packet; false when it is not one.
    fn packet(&mut self, chain: &Chain, memory: &Memory) -> bool {
        let mut raw = [0; HEADER as usize];
        if chain.read(memory, 0, &mut raw) != raw.len() {
            return false;
        }
        let header = Header::parse(&raw);
        if header.len > BUFFER || u64::from(header.len) > chain.readable_len() - raw.len() as u64 {
            return false;
        }
        let ports = Ports {
            guest: header.source_port,
            host: header.target_port,
        };
        if header.source_cid != self.cid {
            return true; // not even an address to answer to
        }
        if header.target_cid != HOST_CID || header.kind != STREAM {
            self.refuse(ports, header.operation);
            return true;
        }
        let Some(token) = self.by_ports.get(&ports).copied() else {
            match header.operation {
                REQUEST => self.open(ports, &header),
                operation => self.refuse(ports, operation),
            }
            return true;
        };
        let (_, connection) = self
            .connections
            .get_mut(&token)
            .expect("both maps have the same entries");
        connection.credit(&header);
        if connection.becomes_ready() {
            self.ready.push_back(token);
        }
        match header.operation {
            RESPONSE if connection.is_asked() => {
                connection.taken(ports.host);
                self.answered(token, true);
            }
            // It has not taken it, and a reset says so, too.
            operation if connection.is_asked() => {
                self.forget(token);
                self.refuse(ports, operation);
                return true;
            }
            DATA => {
                let behind = u64::from(HEADER);
                connection.data(header.len, |at, piece| {
                    chain.read(memory, behind + at, piece);
                });
            }
            CREDIT_UPDATE => {}
            CREDIT_REQUEST => connection.want_update(),
            SHUTDOWN => connection.guest_shutdown(header.flags),
            RESET => {
                self.forget(token);
                return true;
            }
            // A second request for a live connection, or an unknown operation.
            _ => {
                self.forget(token);
                self.refuse(ports, header.operation);
                return true;
            }
        }
        self.bury(token);
        true
    }

    fn open(&mut self, ports: Ports, header: &Header) {
        let token = self.free_token();
        let opened = if self.connections.len() >= MOST_CONNECTIONS {
            Err(std::io::ErrorKind::QuotaExceeded.into())
        } else if self.dialer.admits(ports.host, ports.guest) {
            self.dialer.dial(ports.host, token)
        } else {
            Err(std::io::ErrorKind::PermissionDenied.into())
        };
        match opened {
            Ok(stream) => {
                let connection = Connection::new(stream, header, self.buffer());
                self.keep(token, ports, connection);
            }
            Err(_) => {
                self.untaken = true;
                self.refuse(ports, header.operation);
            }
        }
    }

    /// How much the next connection may have here.
    fn buffer(&mut self) -> u32 {
        if self.large < MOST_LARGE {
            self.large += 1;
            BUFFER
        } else {
            SMALL_BUFFER
        }
    }

    fn keep(&mut self, token: u32, ports: Ports, mut connection: Connection) {
        if connection.becomes_ready() {
            self.ready.push_back(token);
        }
        self.connections.insert(token, (ports, connection));
        self.by_ports.insert(ports, token);
    }

    /// Asks the guest for the connections that the host wants.
    fn calls(&mut self) {
        loop {
            let token = self.free_token();
            let Some((guest, stream)) = self.dialer.call(token) else {
                return;
            };
            if self.connections.len() >= MOST_CONNECTIONS {
                self.dialer.called(false);
                continue;
            }
            let host = self.free_port(guest);
            let connection = Connection::call(stream, self.buffer());
            self.keep(token, Ports { guest, host }, connection);
            let until = (self.clock)().saturating_add(PATIENCE);
            self.asked.push_back((until, token));
        }
    }

    /// A port of the host's that has no connection to this one of the guest's.
    fn free_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_port;
            self.next_port = FIRST_PORT | (host + 1) & (FIRST_PORT - 1);
            if !self.by_ports.contains_key(&Ports { guest, host }) {
                return host;
            }
        }
    }

    /// The guest was asked for this connection, and it is known what came of it.
    fn answered(&mut self, token: u32, taken: bool) {
        self.asked.retain(|(_, asked)| *asked != token);
        self.dialer.called(taken);
    }

    /// Gives up what the guest has not answered in time.
    fn expire(&mut self) -> Turn {
        while let Some((until, token)) = self.asked.front().copied() {
            if until > (self.clock)() {
                return Turn::At(until);
            }
            let (ports, _) = self.connections[&token];
            self.forget(token);
            self.refuse(ports, REQUEST);
        }
        Turn::Done
    }

    fn free_token(&mut self) -> u32 {
        while self.next_token >= CALL || self.connections.contains_key(&self.next_token) {
            self.next_token = self.next_token.wrapping_add(1);
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        token
    }

    fn refuse(&mut self, ports: Ports, operation: u16) {
        if operation != RESET && self.resets.len() < MOST_RESETS {
            self.resets.push_back(ports);
        }
    }

    fn forget(&mut self, token: u32) {
        if let Some((ports, connection)) = self.connections.remove(&token) {
            self.by_ports.remove(&ports);
            if connection.is_ready() {
                self.ready.retain(|ready| *ready != token);
            }
            self.large -= usize::from(connection.buffer() == BUFFER);
            if connection.is_asked() {
                self.answered(token, false);
            }
        }
    }

    /// The first connection from this token on whose stream tells nobody when it is ready.
    fn untold(&self, from: u32) -> Option<u32> {
        let mut connections = self.connections.range(from..);
        let found = connections.find(|(_, (_, connection))| !connection.tells());
        found.map(|(token, _)| *token)
    }

    /// Something happened at the connection's stream.
    fn woken(&mut self, token: u32) {
        let Some((_, connection)) = self.connections.get_mut(&token) else {
            return;
        };
        connection.flush();
        if connection.becomes_ready() {
            self.ready.push_back(token);
        }
        self.bury(token);
    }

    /// Ends the connection when it is over.
    fn bury(&mut self, token: u32) {
        if let Some((ports, connection)) = self.connections.get(&token)
            && connection.is_over()
        {
            let ports = *ports;
            self.forget(token);
            self.refuse(ports, REQUEST);
        }
    }

    /// Fills the guest's buffers with what there is to say.
    fn receive(&mut self, queue: &mut Queue, memory: &Memory) -> Result<Turn, Fault> {
        let mut budget = Budget::new(BATCH, BATCH_BYTES);
        let mut data = [0; MOST_DATA];
        loop {
            if self.taken.is_none() {
                self.taken = queue.pop(memory, &mut budget)?;
            }
            let Some(chain) = self.taken.take() else {
                return Ok(budget.turn());
            };
            let Some(room) = chain.writable_len().checked_sub(HEADER.into()) else {
                queue.refuse(memory, chain)?;
                continue;
            };
            let room = usize::try_from(room).map_or(MOST_DATA, |room| room.min(MOST_DATA));
            let Some(mut header) = self.next(&mut data[..room]) else {
                self.taken = Some(chain); // nothing to say: it waits for when there is
                return Ok(Turn::Done);
            };
            header.source_cid = HOST_CID;
            header.target_cid = self.cid;
            header.kind = STREAM;
            chain.write(memory, 0, &header.bytes());
            chain.write(memory, HEADER.into(), &data[..header.len as usize]);
            budget.bytes(u64::from(HEADER + header.len));
            queue.push(memory, chain, HEADER + header.len)?;
        }
    }

    fn next(&mut self, data: &mut [u8]) -> Option<Header> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(Header {
                source_port: ports.host,
                target_port: ports.guest,
                operation: RESET,
                ..Header::default()
            });
        }
        while let Some(token) = self.ready.pop_front() {
            let (ports, connection) = self
                .connections
                .get_mut(&token)
                .expect("those that are ready are there");
            if let Some(mut header) = connection.next(data) {
                (header.source_port, header.target_port) = (ports.host, ports.guest);
                self.ready.push_back(token);
                return Some(header);
            }
            connection.had_nothing();
            self.bury(token);
        }
        if self.resets.is_empty() {
            None
        } else {
            self.next(data)
        }
    }
}

impl<D: Dialer> Device for Vsock<D> {
    fn id(&self) -> u32 {
        19
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[128, 128, 8]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn reset(&mut self) {
        let asked: Vec<u32> = self.asked.iter().map(|(_, token)| *token).collect();
        asked.into_iter().for_each(|token| self.forget(token));
        self.connections.clear();
        self.by_ports.clear();
        self.ready.clear();
        self.large = 0;
        self.resets.clear();
        self.taken = None;
        self.moved = false;
    }

    fn queue_off(&mut self, queue: usize) {
        if queue == RX {
            self.taken = None;
        }
    }

    fn notify(
        &mut self,
        queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        match queue {
            TX | EVENTS => self.more(queues, memory),
            _ => self.receive(&mut queues[RX], memory),
        }
    }

    fn host_event(
        &mut self,
        token: u32,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        if token == CALL {
            self.calls();
        }
        if token == PUMP {
            let mut from = 0;
            while let Some(token) = self.untold(from) {
                self.woken(token);
                from = token + 1; // there is none above CALL
            }
        } else {
            self.woken(token);
        }
        let later = self.expire();
        Ok(self.receive(&mut queues[RX], memory)?.and(later))
    }

    /// No connection is saved: its host's end is not the guest's to take along.
    fn save(&mut self, queues: &mut [Queue]) -> Value {
        if let Some(chain) = self.taken.take() {
            queues[RX].put_back(chain);
        }
        Value::Null
    }

    /// The driver is told that its connections are gone, and reads its address again (virtio 1.2, 5.10.6.7).
    fn restore(&mut self, _saved: &Value) -> Result<(), String> {
        self.moved = true;
        Ok(())
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.announce(&mut queues[EVENTS], memory)?;
        // Those that were made while it stood still.
        self.calls();
        let sent = self.transmit(&mut queues[TX], memory)?;
        let later = self.expire();
        let received = self.receive(&mut queues[RX], memory)?;
        Ok(sent.and(received).and(later))
    }
}

impl Dialer for Box<dyn Dialer> {
    fn admits(&self, port: u32, from: u32) -> bool {
        (**self).admits(port, from)
    }

    fn dial(&mut self, port: u32, token: u32) -> std::io::Result<Box<dyn Stream>> {
        (**self).dial(port, token)
    }

    fn call(&mut self, token: u32) -> Option<(u32, Box<dyn Stream>)> {
        (**self).call(token)
    }

    fn called(&mut self, taken: bool) {
        (**self).called(taken);
    }
}

#[cfg(test)]
mod calls;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod tests;
