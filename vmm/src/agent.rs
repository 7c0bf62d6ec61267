// SPDX-License-Identifier: Apache-2.0
//! The monitor's end of the agent channel: lines of guest-init in, orders out.
//!
//! Everything that comes in is a claim of the guest: bounded, parsed, and only then given on. The newest connection counts; an
//! older one ends.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use racklet_api::vmm::{AgentOrder, AgentReport, MAX_LINE};

use crate::devices::vsock::Stream;
use crate::lock::lock;

/// Reports that wait for the event loop; then the guest waits.
const MOST_REPORTS: usize = 256;

#[derive(Default)]
struct State {
    /// Which connection counts; others have ended.
    generation: u64,
    line: Vec<u8>,
    reports: VecDeque<AgentReport>,
    orders: VecDeque<u8>,
}

/// The agent channel, shared by the event loop and the vsock device.
#[derive(Clone, Default)]
pub struct Agent(Arc<Mutex<State>>);

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// A new connection, which replaces the one before.
    #[must_use]
    pub fn connect(&self) -> Box<dyn Stream> {
        let mut state = self.state();
        state.generation += 1;
        state.line.clear();
        state.orders.clear();
        Box::new(AgentStream {
            agent: self.clone(),
            generation: state.generation,
        })
    }

    /// The reports that came in since the last call.
    #[must_use]
    pub fn take(&self) -> VecDeque<AgentReport> {
        std::mem::take(&mut self.state().reports)
    }

    /// Sends an order; lost when nobody is connected.
    pub fn order(&self, order: &AgentOrder) {
        let mut line = serde_json::to_vec(order).expect("an order is plain data");
        line.push(b'\n');
        let mut state = self.state();
        if state.generation > 0 && state.orders.len() < MAX_LINE {
            state.orders.extend(line);
        }
    }
}

struct AgentStream {
    agent: Agent,
    generation: u64,
}

impl Stream for AgentStream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut state = self.agent.state();
        if state.generation != self.generation {
            return Ok(0);
        }
        let count = state.orders.len().min(to.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in to.iter_mut().zip(state.orders.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    // untrusted: agent_lines
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut state = self.agent.state();
        if state.generation != self.generation {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if state.reports.len() >= MOST_REPORTS {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let end = from.iter().position(|b| *b == b'\n');
        let taken = end.map_or(from.len(), |at| at + 1);
        if state.line.len() + taken > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        state.line.extend_from_slice(&from[..taken]);
        if end.is_some() {
            let line = std::mem::take(&mut state.line);
            let report = serde_json::from_slice(&line)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            state.reports.push_back(report);
        }
        Ok(taken)
    }

    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use racklet_api::vmm::{CommandEnd, V1};

    use super::*;

    fn write_all(stream: &mut dyn Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = stream.write(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    #[test]
    fn reports_come_in_whole_however_they_are_cut() {
        let agent = Agent::default();
        let mut stream = agent.connect();
        let text = b"{\"report\":\"hello\",\"v\":1,\"running\":true}\n{\"report\":\"ended\",\"end\":\"code\",\"code\":4}\n";
        for byte in text {
            stream.write(&[*byte]).unwrap();
        }
        let hello = AgentReport::Hello {
            v: V1,
            running: true,
        };
        let ended = AgentReport::Ended {
            end: CommandEnd::Code { code: 4 },
        };
        assert_eq!(agent.take(), [hello.clone(), ended.clone()]);
        write_all(&mut *stream, text).unwrap();
        assert_eq!(agent.take(), [hello, ended]);
    }

    #[test]
    fn an_order_reaches_only_the_newest_connection() {
        let agent = Agent::default();
        let mut old = agent.connect();
        agent.order(&AgentOrder::Release);
        let mut new = agent.connect();
        agent.order(&AgentOrder::Stop { grace_s: Some(1) });
        let mut bytes = [0; 100];
        assert_eq!(old.read(&mut bytes).unwrap(), 0);
        let count = new.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"{\"order\":\"stop\",\"grace_s\":1}\n");
        assert_eq!(
            new.read(&mut bytes).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(old.write(b"x").is_err());
    }

    #[test]
    fn endless_lines_nonsense_and_floods_are_stopped() {
        let mut stream = Agent::default().connect();
        assert!(write_all(&mut *stream, &vec![b'x'; MAX_LINE + 1]).is_err());
        let mut stream = Agent::default().connect();
        assert!(write_all(&mut *stream, b"{\"report\":\"reboot\"}\n").is_err());
        let agent = Agent::default();
        let mut stream = agent.connect();
        let flood = b"{\"report\":\"hello\",\"v\":1,\"running\":true}\n".repeat(MOST_REPORTS + 1);
        assert_eq!(
            write_all(&mut *stream, &flood).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(agent.take().len(), MOST_REPORTS);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = write_all(&mut *Agent::default().connect(), &bytes);
        }
    }
}
