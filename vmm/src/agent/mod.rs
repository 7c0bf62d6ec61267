// SPDX-License-Identifier: Apache-2.0
//! The monitor's end of the agent channel: lines of guest-init in, orders out.
//!
//! Everything that comes in is a claim of the guest: bounded, parsed, and only then given on. The newest connection counts; an
//! older one ends.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use racklet_api::guest::{AgentOrder, AgentReport, CommandEnd, MAX_LINE, MAX_REASON};
use racklet_tell::text;

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
            state.reports.push_back(plain(report));
        }
        Ok(taken)
    }

    fn end(&mut self) {}

    fn tells(&self) -> bool {
        false
    }
}

/// From here on the guest's own words are text of bounded length that drives no terminal: `status.json`, the hypervisor's console
/// and `racklet status` show them as they are. Lines of output are the workload's, and stay as they are inside of their JSON.
fn plain(report: AgentReport) -> AgentReport {
    match report {
        AgentReport::Ended {
            end: CommandEnd::NotStarted { reason },
        } => AgentReport::Ended {
            end: CommandEnd::NotStarted {
                reason: text::line(&reason).chars().take(MAX_REASON).collect(),
            },
        },
        other => other,
    }
}

#[cfg(test)]
mod tests;
