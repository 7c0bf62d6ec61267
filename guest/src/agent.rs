// SPDX-License-Identifier: Apache-2.0
//! The connection to the monitor: reports out, orders in. It may break and come back at any time; what could not be sent
//! meanwhile is kept up to a bound, then counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::SyncSender;
use std::thread;

use racklet_api::V1;
use racklet_api::guest::{
    AGENT_PORT, AgentOrder, AgentReport, MAX_LINE, OutputStream, WorkloadLine,
};
use racklet_linux::vsock;

use crate::event::Event;

/// Output kept while the monitor cannot be reached, in bytes.
const KEPT: usize = 256 * 1024;

/// The channel to the monitor. It reconnects when `supervise` says so; what cannot be sent meanwhile is kept up to [`KEPT`]
/// bytes, then counted.
pub(crate) struct Agent {
    dial: Dial,
    events: SyncSender<Event>,
    connection: Option<File>,
    /// Number of the present connection: events of older ones do not count.
    generation: u64,
    kept: VecDeque<String>,
    kept_bytes: usize,
    lost: u64,
}

/// Opens a connection to the monitor.
pub(crate) type Dial = Box<dyn Fn() -> io::Result<File>>;

/// As the monitor wants it: from a port that only the guest's root can bind.
pub(crate) fn monitor() -> Dial {
    Box::new(|| vsock::connect_reserved(vsock::HOST, AGENT_PORT))
}

impl Agent {
    pub(crate) fn new(dial: Dial, events: SyncSender<Event>) -> Agent {
        Agent {
            dial,
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
        let Ok(connection) = (self.dial)() else {
            return;
        };
        let Ok(reader) = connection.try_clone() else {
            return;
        };
        self.generation += 1;
        let (generation, events) = (self.generation, self.events.clone());
        thread::spawn(move || {
            read_orders(reader, |order| {
                events.send(Event::Order(generation, order)).is_ok()
            });
            // Nobody listens only when PID 1 is on its way out.
            let _ = events.send(Event::Broken(generation));
        });
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

/// Gives on the monitor's orders, one a line, until the connection ends, a line is longer than any order, or `give` says that nobody
/// wants more.
pub fn read_orders(connection: impl Read, mut give: impl FnMut(AgentOrder) -> bool) {
    let mut reader = BufReader::with_capacity(1024, connection);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        if read.is_err() || line.last() != Some(&b'\n') {
            return;
        }
        // An order of a later protocol is not ours to guess.
        if let Ok(order) = serde_json::from_slice(&line)
            && !give(order)
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn what_cannot_be_sent_is_kept_up_to_a_bound_and_then_counted() {
        let (events, _orders) = sync_channel(1);
        let mut agent = Agent::new(monitor(), events);
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

    fn orders(bytes: &[u8]) -> Vec<AgentOrder> {
        let mut orders = Vec::new();
        read_orders(bytes, |order| {
            orders.push(order);
            orders.len() < 3
        });
        orders
    }

    #[test]
    fn orders_are_taken_line_by_line_and_unknown_ones_passed_over() {
        let stop = AgentOrder::Stop { grace_s: Some(4) };
        let text = b"{\"order\":\"stop\",\"grace_s\":4}\n{\"order\":\"dance\"}\n\n{\"order\":\"release\"}\n";
        assert_eq!(orders(text), [stop, AgentOrder::Release]);
        let release = b"{\"order\":\"release\"}\n";
        assert_eq!(orders(&release.repeat(9)).len(), 3, "nobody wanted more");
        assert_eq!(orders(&release[..release.len() - 1]), [], "cut off");
    }

    #[test]
    fn a_line_longer_than_any_order_ends_the_connection() {
        let mut bytes = vec![b' '; MAX_LINE];
        bytes.extend(b"\n{\"order\":\"release\"}\n");
        assert_eq!(orders(&bytes), []);
    }
}
