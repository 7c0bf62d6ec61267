// SPDX-License-Identifier: Apache-2.0
//! The connection to the monitor: reports out, orders in. It may break and come back at any time; what could not be sent
//! meanwhile is kept up to a bound, then counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::SyncSender;
use std::thread;

use racklet_api::vmm::{
    AGENT_PORT, AgentOrder, AgentReport, MAX_LINE, OutputStream, V1, WorkloadLine,
};
use racklet_linux::vsock;

use crate::supervise::Event;

/// Output kept while the monitor cannot be reached, in bytes.
const KEPT: usize = 256 * 1024;

/// The channel.
pub(crate) struct Agent {
    events: SyncSender<Event>,
    connection: Option<File>,
    /// Number of the present connection: events of older ones do not count.
    generation: u64,
    kept: VecDeque<String>,
    kept_bytes: usize,
    lost: u64,
}

impl Agent {
    pub(crate) fn new(events: SyncSender<Event>) -> Agent {
        Agent {
            events,
            connection: None,
            generation: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            lost: 0,
        }
    }

    pub(crate) fn connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Connects if there is no connection, introduces itself and sends what was kept.
    pub(crate) fn connect(&mut self, running: bool, now_ms: u64) {
        if self.connection.is_some() {
            return;
        }
        let Ok(connection) = vsock::connect(vsock::HOST, AGENT_PORT) else {
            return;
        };
        let Ok(reader) = connection.try_clone() else {
            return;
        };
        self.generation += 1;
        let (generation, events) = (self.generation, self.events.clone());
        thread::spawn(move || read_orders(reader, generation, &events));
        self.connection = Some(connection);
        self.send(&AgentReport::Hello { v: V1, running });
        while let Some(line) = self.kept.pop_front() {
            self.kept_bytes -= line.len();
            self.send_line(line);
            if self.connection.is_none() {
                return;
            }
        }
        if self.lost > 0 {
            let line = format!(
                "{} lines were lost while the monitor could not be reached",
                self.lost
            );
            self.lost = 0;
            self.send(&AgentReport::Output(WorkloadLine {
                time_ms: now_ms,
                stream: OutputStream::Init,
                line,
                partial: false,
            }));
        }
    }

    /// Sends a report, or keeps it.
    pub(crate) fn send(&mut self, report: &AgentReport) {
        if let Ok(mut line) = serde_json::to_string(report) {
            line.push('\n');
            self.send_line(line);
        }
    }

    fn send_line(&mut self, line: String) {
        if let Some(connection) = &mut self.connection {
            if connection.write_all(line.as_bytes()).is_ok() {
                return;
            }
            self.broken();
        }
        if self.kept_bytes + line.len() > KEPT {
            self.lost += 1;
        } else {
            self.kept_bytes += line.len();
            self.kept.push_back(line);
        }
    }

    /// The connection is gone.
    pub(crate) fn broken(&mut self) {
        self.connection = None;
        self.generation += 1;
    }
}

fn read_orders(connection: File, generation: u64, events: &SyncSender<Event>) {
    let mut reader = BufReader::with_capacity(1024, connection);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        if read.is_err() || line.last() != Some(&b'\n') {
            break;
        }
        // An order of a later protocol is not ours to guess.
        if let Ok(order) = serde_json::from_slice::<AgentOrder>(&line)
            && events.send(Event::Order(generation, order)).is_err()
        {
            return;
        }
    }
    // Nobody listens only when PID 1 is on its way out.
    let _ = events.send(Event::Broken(generation));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_cannot_be_sent_is_kept_up_to_a_bound_and_then_counted() {
        let (events, _orders) = sync_channel(1);
        let mut agent = Agent::new(events);
        let report = AgentReport::Output(WorkloadLine {
            time_ms: 1,
            stream: OutputStream::Stdout,
            line: "x".repeat(1000),
            partial: false,
        });
        for _ in 0..1000 {
            agent.send(&report);
        }
        assert!(agent.kept_bytes <= KEPT);
        assert_eq!(agent.kept.len() as u64 + agent.lost, 1000);
        assert!(agent.kept.len() > 200);
    }
}
