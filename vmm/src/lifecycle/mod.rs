// SPDX-License-Identifier: Apache-2.0
//! What happens to a microVM, decided: events in, actions out, no I/O.
//!
//! ```text
//! starting -> running --hello--> up --ended--> (release the guest) --reset or 10 s--> exited
//!                |                |
//!                '-- reset -------'--> crashed      stop: order, then killed after the grace      kill: killed
//! ```

use racklet_api::guest::{AgentOrder, AgentReport, CommandEnd};
use racklet_api::vmm::{POWER_OFF_S, REPORT_S, VmState, exit};

/// Grace when a stop names none and the guest's own default is not known here.
const GRACE_S: u32 = 60;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first vCPU is about to run.
    Started,
    /// guest-init said something other than output.
    Report(AgentReport),
    /// The guest pulled the reset line.
    Reset,
    /// A vCPU fell into a triple fault.
    TripleFault,
    /// A vCPU cannot go on: what KVM said.
    VcpuFailed(String),
    /// The time armed last is over.
    Timeout,
    /// Somebody asked for an orderly end.
    Stop {
        /// Seconds that the command has between SIGTERM and SIGKILL; the guest's own where there are none.
        grace_s: Option<u32>,
        /// For the status of a guest that has to be killed: `request`, `a signal`.
        by: &'static str,
    },
    /// Somebody asked for an end now.
    Kill,
}

/// What the event loop is to do, in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the state known.
    Publish(VmState),
    /// Send this to guest-init; lost when it is not connected.
    Order(AgentOrder),
    /// Cause [`Event::Timeout`] after this many seconds, instead of what was armed before.
    Arm(u32),
    /// Make the state known and end the process with this status.
    Finish(VmState, i32),
}

/// What is known of the microVM.
#[derive(Debug)]
pub struct Lifecycle {
    state: VmState,
    connected: bool,
    ended: Option<CommandEnd>,
    stopping: Option<Stopping>,
    /// The guest kernel's panic line, if the console showed one.
    panic: Option<String>,
}

#[derive(Debug)]
struct Stopping {
    grace_s: Option<u32>,
    by: &'static str,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle {
            state: VmState::Starting,
            connected: false,
            ended: None,
            stopping: None,
            panic: None,
        }
    }
}

impl Lifecycle {
    /// The state that was published last, or is about to be.
    #[must_use]
    pub fn state(&self) -> &VmState {
        &self.state
    }

    /// The console showed a kernel panic; the first one counts.
    pub fn panicked(&mut self, line: String) {
        self.panic.get_or_insert(line);
    }

    /// Takes an event; gives what follows from it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Started => vec![self.publish(VmState::Running)],
            Event::Report(AgentReport::Hello { running, .. }) => self.hello(running),
            Event::Report(AgentReport::Ended { end }) => {
                let mut actions = vec![Action::Order(AgentOrder::Release)];
                // Armed once: a guest that says it again and again does not put off its end. The order is repeated, for the first
                // one may have been lost with a connection.
                if self.ended.is_none() {
                    self.ended = Some(end);
                    actions.push(Action::Arm(POWER_OFF_S));
                }
                actions
            }
            Event::Report(AgentReport::Output(_)) => vec![],
            Event::Reset => vec![self.over("the guest reset without reporting an end")],
            Event::TripleFault => vec![self.over("the guest fell into a triple fault")],
            Event::VcpuFailed(reason) => {
                vec![self.finish(VmState::Failed { reason }, exit::FAILED)]
            }
            Event::Timeout => vec![self.timeout()],
            Event::Stop { grace_s, by } => self.stop(grace_s, by),
            Event::Kill => {
                let reason = "by request on the control socket".to_owned();
                vec![self.finish(VmState::Killed { reason }, exit::KILLED)]
            }
        }
    }

    fn publish(&mut self, state: VmState) -> Action {
        self.state = state.clone();
        Action::Publish(state)
    }

    fn finish(&mut self, state: VmState, status: i32) -> Action {
        self.state = state.clone();
        Action::Finish(state, status)
    }

    fn hello(&mut self, running: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        if running && self.state == VmState::Running {
            actions.push(self.publish(VmState::Up));
        }
        self.connected = true;
        // The order may have been lost with the last connection; guest-init takes it twice.
        if let Some(stopping) = &self.stopping {
            actions.push(Action::Order(AgentOrder::Stop {
                grace_s: stopping.grace_s,
            }));
        }
        actions
    }

    fn stop(&mut self, grace_s: Option<u32>, by: &'static str) -> Vec<Action> {
        if self.ended.is_some() {
            return vec![]; // it is ending already
        }
        self.stopping = Some(Stopping { grace_s, by });
        let wait = grace_s.unwrap_or(GRACE_S).saturating_add(REPORT_S);
        let mut actions = vec![Action::Arm(wait)];
        if self.connected {
            actions.push(Action::Order(AgentOrder::Stop { grace_s }));
        }
        actions
    }

    fn timeout(&mut self) -> Action {
        match &self.stopping {
            _ if self.ended.is_some() => self.over("the guest did not power off after its report"),
            Some(Stopping { by, .. }) => {
                let reason = format!("the guest did not end in time after a stop order by {by}");
                self.finish(VmState::Killed { reason }, exit::KILLED)
            }
            None => Action::Publish(self.state.clone()),
        }
    }

    /// The guest is gone.
    fn over(&mut self, how: &str) -> Action {
        if let Some(end) = self.ended.clone() {
            let stopped = self.stopping.is_some();
            return self.finish(VmState::Exited { end, stopped }, exit::EXITED);
        }
        let reason = match &self.panic {
            Some(line) => format!("guest kernel: {line}"),
            None => format!("{how}; the end of console.log may say why"),
        };
        self.finish(VmState::Crashed { reason }, exit::CRASHED)
    }
}

#[cfg(test)]
mod tests;
