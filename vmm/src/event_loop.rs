// SPDX-License-Identifier: Apache-2.0
//! The event loop: queues, taps, sockets, console, control, timer. It ends with the microVM.

use std::sync::Arc;
use std::time::Duration;

use racklet_api::guest::AgentReport;
use racklet_api::vmm::{ControlAction, VmState, exit};
use racklet_linux::signal::StopRequests;
use vmm_sys_util::timerfd::TimerFd;

use crate::agent::Agent;
use crate::bus::Bus;
use crate::control::Control;
use crate::devices::serial::Console;
use crate::devices::vsock::PUMP;
use crate::lifecycle::{Action, Event, Lifecycle};
use crate::log::Log;
use crate::poll::{Poll, Token};
use crate::status::StatusFile;

/// Longest part of a console line that is looked at for a panic.
const LOOK: usize = 300;
/// Longest panic line that is given on.
const SHOW: usize = 200;

/// Everything the loop works with.
pub(crate) struct EventLoop {
    pub(crate) poll: Poll,
    pub(crate) bus: Arc<Bus>,
    pub(crate) console: Arc<Console>,
    pub(crate) agent: Agent,
    pub(crate) vsock: u16,
    pub(crate) control: Control,
    pub(crate) status: StatusFile,
    pub(crate) console_log: Log,
    pub(crate) workload_log: Log,
    pub(crate) timer: TimerFd,
    pub(crate) signals: StopRequests,
    pub(crate) life: Lifecycle,
    pub(crate) line: PanicLine,
}

impl EventLoop {
    /// Runs until the microVM is over; gives the process's exit status.
    pub(crate) fn run(mut self) -> i32 {
        if let Some(status) = self.happen(Event::Started) {
            return status;
        }
        loop {
            let tokens = match self.poll.wait() {
                Ok(tokens) => tokens,
                Err(e) => {
                    let state = VmState::Failed {
                        reason: format!("the monitor cannot wait for events: {e}"),
                    };
                    return self.finish(state, exit::FAILED);
                }
            };
            for token in tokens {
                if let Some(status) = self.serve(token) {
                    return status;
                }
            }
        }
    }

    fn serve(&mut self, token: Token) -> Option<i32> {
        match token {
            Token::Queue { device, queue } => {
                if let Some(mut transport) = self.bus.device(usize::from(device)) {
                    transport.notify(queue as usize);
                }
                return if device == self.vsock {
                    self.reports()
                } else {
                    None
                };
            }
            Token::Host { device, token } => {
                if let Some(mut transport) = self.bus.device(usize::from(device)) {
                    transport.host_event(token);
                }
            }
            Token::Console => self.drain_console(),
            Token::Over => {
                let how = self.bus.over()?;
                self.drain_console();
                return self.last_words().or_else(|| self.happen(how));
            }
            Token::Timer => {
                // Reading takes the expiry; there is nothing to do about an error.
                let _ = self.timer.wait();
                return self.happen(Event::Timeout);
            }
            Token::Signal => {
                self.signals.take();
                return self.happen(Event::Stop {
                    grace_s: None,
                    by: "a signal",
                });
            }
            Token::Control => self.control.accept(),
            Token::Client(number) => return self.client(number),
        }
        None
    }

    fn client(&mut self, number: u32) -> Option<i32> {
        let status = self.status.status(self.life.state().clone());
        for action in self.control.serve(number, &status) {
            let ended = match action {
                ControlAction::State => None,
                ControlAction::Stop { grace_s } => self.happen(Event::Stop {
                    grace_s,
                    by: "request",
                }),
                ControlAction::Kill => self.happen(Event::Kill),
            };
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// What guest-init sent before the guest was over.
    fn last_words(&mut self) -> Option<i32> {
        let transmit = 1;
        self.bus.device(usize::from(self.vsock))?.notify(transmit);
        self.reports()
    }

    fn reports(&mut self) -> Option<i32> {
        loop {
            let reports = self.agent.take();
            if reports.is_empty() {
                return None;
            }
            for report in reports {
                if let AgentReport::Output(line) = report {
                    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
                    bytes.push(b'\n');
                    // A full `/run` costs log lines, never the workload.
                    let _ = self.workload_log.append(&bytes);
                } else if let Some(status) = self.happen(Event::Report(report)) {
                    return Some(status);
                }
            }
            // There is room for more now.
            self.pump();
        }
    }

    fn pump(&self) {
        if let Some(mut transport) = self.bus.device(usize::from(self.vsock)) {
            transport.host_event(PUMP);
        }
    }

    fn drain_console(&mut self) {
        let bytes = self.console.take();
        if !bytes.is_empty() {
            if let Some(line) = self.line.look(&bytes) {
                self.life.panicked(line);
            }
            let _ = self.console_log.append(&bytes);
        }
    }

    fn happen(&mut self, event: Event) -> Option<i32> {
        for action in self.life.on(event) {
            match action {
                Action::Publish(state) => self.publish(state),
                Action::Order(order) => {
                    self.agent.order(&order);
                    self.pump();
                }
                Action::Arm(seconds) => {
                    // Fails for impossible times only.
                    let _ = self
                        .timer
                        .reset(Duration::from_secs(seconds.max(1).into()), None);
                }
                Action::Finish(state, status) => return Some(self.finish(state, status)),
            }
        }
        None
    }

    fn publish(&mut self, state: VmState) {
        // Without room for the status the guest still runs; the control socket knows.
        let _ = self.status.write(&self.status.status(state));
    }

    fn finish(&mut self, state: VmState, status: i32) -> i32 {
        self.drain_console();
        self.publish(state);
        status
    }
}

/// Finds the guest kernel's panic line in its console output.
#[derive(Debug, Default)]
pub(crate) struct PanicLine {
    line: Vec<u8>,
}

impl PanicLine {
    /// Looks at more output; gives a panic line that has become whole.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Option<String> {
        let mut found = None;
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() < LOOK {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            if let Some(at) = line.find("Kernel panic - not syncing")
                && found.is_none()
            {
                // The guest's own words: shown as text only.
                let shown = racklet_tell::text::line(line[at..].trim_end());
                found = Some(shown.chars().take(SHOW).collect());
            }
            self.line.clear();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_however_the_output_is_cut() {
        let text = b"[    1.0] hello\n[    2.0] Kernel panic - not syncing: \x1b[31mVFS\r\nmore\n";
        for cut in 0..text.len() {
            let mut line = PanicLine::default();
            let found = line.look(&text[..cut]).or_else(|| line.look(&text[cut..]));
            assert_eq!(
                found.as_deref(),
                Some(r"Kernel panic - not syncing: \x1b[31mVFS"),
                "{cut}"
            );
        }
        assert_eq!(PanicLine::default().look(&vec![b'x'; 100_000]), None);
    }
}
