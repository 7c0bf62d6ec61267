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
use crate::lifecycle::{Action, Event, Lifecycle, Said, Words};
use crate::log::Log;
use crate::poll::{Poll, Token};
use crate::status::StatusFile;

/// How long console output waits for the rest of its line before it is passed on without.
const REST_OF_LINE: Duration = Duration::from_millis(30);
const SECOND: Duration = Duration::from_secs(1);

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
    /// Delivers seconds, once the lifecycle wants them.
    pub(crate) timer: TimerFd,
    /// Runs while output waits for the rest of its line (`flushing`).
    pub(crate) flush: TimerFd,
    pub(crate) flushing: bool,
    pub(crate) signals: StopRequests,
    pub(crate) life: Lifecycle,
    pub(crate) words: Words,
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
            Token::Console if self.console.has_lines() => return self.console(),
            Token::Console => {
                // Never put off: the first byte waits the longest.
                if !std::mem::replace(&mut self.flushing, true) {
                    // Fails for impossible times only.
                    let _ = self.flush.reset(REST_OF_LINE, None);
                }
            }
            Token::Flush => {
                // Reading takes the expiry; there is nothing to do about an error.
                let _ = self.flush.wait();
                self.flushing = false;
                return self.console();
            }
            Token::Over => {
                let how = self.bus.over()?;
                return self
                    .last_words()
                    .or_else(|| self.console())
                    .or_else(|| self.happen(how));
            }
            Token::Timer => {
                // Reading takes all expiries that there were: seconds in which this process did not run count as one, together.
                let _ = self.timer.wait();
                // What the guest has sent by now was in time, whenever this process came to read it.
                return self.last_words().or_else(|| self.happen(Event::Tick));
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
                    self.life.on(Event::Output);
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

    /// Passes console output on; what the kernel says there of its end may be the guest's end.
    fn console(&mut self) -> Option<i32> {
        let said = self.drain_console();
        said.into_iter()
            .find_map(|said| self.happen(Event::Said(said)))
    }

    fn drain_console(&mut self) -> Vec<Said> {
        let bytes = self.console.take();
        if bytes.is_empty() {
            return Vec::new();
        }
        // A full `/run` costs log lines, never the workload.
        let _ = self.console_log.append(&bytes);
        self.words.look(&bytes)
    }

    fn happen(&mut self, event: Event) -> Option<i32> {
        for action in self.life.on(event) {
            match action {
                Action::Publish(state) => self.publish(state),
                Action::Order(order) => {
                    self.agent.order(&order);
                    self.pump();
                }
                Action::Tick => {
                    // Fails for impossible times only.
                    let _ = self.timer.reset(SECOND, Some(SECOND));
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
        // The end is decided; what the console still holds belongs to the log.
        self.drain_console();
        self.publish(state);
        status
    }
}
