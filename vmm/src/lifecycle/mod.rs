// SPDX-License-Identifier: Apache-2.0
//! What happens to a microVM, decided: events in, actions out, no I/O and no clock.
//!
//! ```text
//! starting -> running --hello--> up --ended--> (release the guest) --reset or 10 s--> exited
//!                |                |
//!                |-- reset, triple fault, panic, a watchdog that barks --> crashed
//!                |-- power-off by firmware, or the kernel's word that it switches off --> powered-off
//!                '-- restart by firmware, or the kernel's word that it restarts, then the reset --> rebooted
//!
//! stop: order, then killed after the grace      kill: killed      power-off: order, and nothing else
//! pause, resume: beside all of these; no second passes for a guest that stands still, and a stop lets it go on
//! ```
//!
//! Time is counted in ticks of a second that the event loop delivers one by one: seconds in which the monitor itself did not
//! run (stopped by a signal, starved) cost its guest nothing.

use racklet_api::guest::{AgentOrder, AgentReport, CommandEnd};
use racklet_api::vmm::{POWER_OFF_S, REPORT_S, VmState, exit};

pub use self::said::{Said, Words};

mod said;

/// Grace when a stop names none and the guest's own default is not known here.
const GRACE_S: u32 = 60;
/// Seconds between the kernel's last word (a panic, a restart) and the reset that follows it; a kernel that was told to stay
/// (`panic=0`) is ended then.
const LAST_WORD_S: u32 = 5;
/// What a guest's kernel, its PID 1 and the making of its root may take: 12 s were seen, emulated beside two other machines. A
/// watchdog that barks during the boot would bark at every start.
const BOOT_S: u32 = 60;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first vCPU is about to run.
    Started,
    /// guest-init said something other than output.
    Report(AgentReport),
    /// guest-init sent output: a sign of life.
    Output,
    /// The guest's kernel said something on the console that concerns its own end.
    Said(Said),
    /// The guest pulled the reset line, which also the kernel's panic and guest-init do.
    Reset,
    /// The guest's firmware interface was asked for a restart: what [`Event::Reset`] is, and by name a restart.
    Restart,
    /// The guest's firmware interface was asked to switch the machine off.
    PowerOff,
    /// A vCPU fell into a triple fault.
    TripleFault,
    /// The guest went where no processor can go on, and how: execution outside of memory, for one.
    Lost(String),
    /// A vCPU cannot go on, and not by the guest's doing: what KVM said.
    VcpuFailed(String),
    /// A second is over.
    Tick,
    /// Somebody asked for an orderly end.
    Stop {
        /// Seconds that the command has between SIGTERM and SIGKILL; the guest's own where there are none.
        grace_s: Option<u32>,
        /// For the status of a guest that has to be killed: `request`, `a signal`.
        by: &'static str,
    },
    /// Somebody pressed the power button: the guest is asked for an orderly end, and has all the time it wants.
    PowerButton,
    /// Somebody asked for an end now.
    Kill,
    /// Somebody wants the processors to stand still.
    Pause,
    /// Somebody wants them to go on.
    Resume,
}

/// What the event loop is to do, in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the state known.
    Publish(VmState),
    /// Send this to guest-init; lost when it is not connected.
    Order(AgentOrder),
    /// Cause [`Event::Tick`] once a second from now on.
    Tick,
    /// Let the vCPUs stand still.
    Hold,
    /// Let them go on.
    Go,
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
    /// Its power button was pressed.
    pressed: bool,
    /// The guest kernel's panic line, if the console showed one.
    panic: Option<String>,
    /// The guest kernel said that it restarts.
    rebooting: bool,
    /// Ticks until the guest is over, whatever it does.
    left: Option<u32>,
    watchdog: Option<Watchdog>,
    ticking: bool,
    /// The vCPUs stand still, or are about to: no time passes for the guest.
    paused: bool,
}

#[derive(Debug)]
struct Stopping {
    grace_s: Option<u32>,
    by: &'static str,
}

#[derive(Debug)]
struct Watchdog {
    seconds: u32,
    /// Ticks without a sign of life.
    quiet: u32,
}

impl Lifecycle {
    /// A microVM that has not begun. With `watchdog_s`, a guest without a sign of life for as many seconds has hung; until its
    /// command runs it has [`BOOT_S`] seconds more.
    #[must_use]
    pub fn new(watchdog_s: Option<u32>) -> Self {
        Lifecycle {
            state: VmState::Starting,
            connected: false,
            ended: None,
            stopping: None,
            pressed: false,
            panic: None,
            rebooting: false,
            left: None,
            watchdog: watchdog_s.map(|seconds| Watchdog { seconds, quiet: 0 }),
            ticking: false,
            paused: false,
        }
    }

    /// The state that was published last, or is about to be.
    #[must_use]
    pub fn state(&self) -> &VmState {
        &self.state
    }

    /// Whether somebody in the guest takes orders: guest-init has called.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.connected
    }

    /// Whether the vCPUs stand still, or are about to.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes an event; gives what follows from it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        if let (Event::Report(_) | Event::Output, Some(watchdog)) = (&event, &mut self.watchdog) {
            watchdog.quiet = 0;
        }
        match event {
            Event::Started => {
                let mut actions = vec![self.publish(VmState::Running)];
                if self.watchdog.is_some() {
                    actions.extend(self.tick());
                }
                actions
            }
            Event::Report(AgentReport::Hello { running, .. }) => self.hello(running),
            Event::Report(AgentReport::Ended { end }) => self.ended(end),
            Event::Report(AgentReport::Output(_) | AgentReport::Alive) | Event::Output => vec![],
            Event::Said(said) => self.said(said),
            Event::Reset if self.rebooting && self.ended.is_none() => {
                vec![self.finish(VmState::Rebooted, exit::REBOOTED)]
            }
            Event::Reset => vec![self.over("the guest reset without reporting an end")],
            // A kernel that panics asks for it, too, behind its words, and guest-init behind its report.
            Event::Restart if self.ended.is_none() && self.panic.is_none() => {
                vec![self.finish(VmState::Rebooted, exit::REBOOTED)]
            }
            Event::PowerOff if self.ended.is_none() && self.panic.is_none() => {
                vec![self.finish(VmState::PoweredOff, exit::POWERED_OFF)]
            }
            Event::Restart | Event::PowerOff => vec![self.over("the guest is off")],
            Event::TripleFault => vec![self.over("the guest fell into a triple fault")],
            Event::Lost(how) => vec![self.over(&how)],
            Event::VcpuFailed(reason) => {
                vec![self.finish(VmState::Failed { reason }, exit::FAILED)]
            }
            Event::Tick => self.second().into_iter().collect(),
            Event::Stop { grace_s, by } => self.stop(grace_s, by),
            Event::PowerButton => self.power_button(),
            Event::Kill => {
                let reason = "by request on the control socket".to_owned();
                vec![self.finish(VmState::Killed { reason }, exit::KILLED)]
            }
            Event::Pause if self.paused => vec![],
            Event::Pause => {
                self.paused = true;
                vec![Action::Hold]
            }
            Event::Resume => self.go_on().into_iter().collect(),
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

    fn tick(&mut self) -> Option<Action> {
        (!std::mem::replace(&mut self.ticking, true)).then_some(Action::Tick)
    }

    /// The guest is over in this many seconds, if not sooner: nothing that is asked for or said later puts it off.
    fn arm(&mut self, seconds: u32) -> Option<Action> {
        let seconds = seconds.max(1);
        self.left = Some(self.left.map_or(seconds, |left| left.min(seconds)));
        self.tick()
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
        } else if self.pressed {
            actions.push(Action::Order(AgentOrder::Stop { grace_s: None }));
        }
        actions
    }

    fn ended(&mut self, end: CommandEnd) -> Vec<Action> {
        // The order is repeated, for the first one may have been lost with a connection; the time is not.
        let mut actions = vec![Action::Order(AgentOrder::Release)];
        if self.ended.is_none() {
            self.ended = Some(end);
            // From here on it is the power-off that is waited for, and no longer the report.
            self.left = None;
            actions.extend(self.arm(POWER_OFF_S));
        }
        actions
    }

    fn said(&mut self, said: Said) -> Vec<Action> {
        match said {
            Said::Panic(line) => {
                self.panic.get_or_insert(line);
                self.arm(LAST_WORD_S).into_iter().collect()
            }
            Said::Restarting => {
                self.rebooting = true;
                self.arm(LAST_WORD_S).into_iter().collect()
            }
            // Linux says so when its devices are shut down and nothing but a halt is left, which nobody outside could see.
            Said::PoweringOff if self.ended.is_some() => vec![self.over("")],
            Said::PoweringOff => vec![self.finish(VmState::PoweredOff, exit::POWERED_OFF)],
        }
    }

    fn go_on(&mut self) -> Option<Action> {
        std::mem::replace(&mut self.paused, false).then_some(Action::Go)
    }

    fn stop(&mut self, grace_s: Option<u32>, by: &'static str) -> Vec<Action> {
        // Who stands still obeys no order.
        let mut actions: Vec<Action> = self.go_on().into_iter().collect();
        if self.ended.is_some() {
            return actions; // it is ending already
        }
        self.stopping = Some(Stopping { grace_s, by });
        let wait = grace_s.unwrap_or(GRACE_S).saturating_add(REPORT_S);
        actions.extend(self.arm(wait));
        if self.connected {
            actions.push(Action::Order(AgentOrder::Stop { grace_s }));
        }
        actions
    }

    /// Nothing is armed: a guest that does not end goes on, as a machine does.
    fn power_button(&mut self) -> Vec<Action> {
        // Who stands still obeys no order.
        let mut actions: Vec<Action> = self.go_on().into_iter().collect();
        if self.ended.is_some() || self.stopping.is_some() {
            return actions; // it is ending already
        }
        self.pressed = true;
        actions.push(Action::Order(AgentOrder::Stop { grace_s: None }));
        actions
    }

    fn second(&mut self) -> Option<Action> {
        if self.paused {
            return None;
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.quiet += 1;
            let boots = if self.state == VmState::Running {
                BOOT_S
            } else {
                0
            };
            let bound = watchdog.seconds.saturating_add(boots);
            if watchdog.quiet >= bound && self.ended.is_none() {
                let how = format!(
                    "the guest gave no sign of life for {bound} s, and its workload wants a watchdog"
                );
                return Some(self.over(&how));
            }
        }
        let left = self.left.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then(|| self.too_late())
    }

    fn too_late(&mut self) -> Action {
        if self.ended.is_some() {
            return self.over("the guest did not power off after its report");
        }
        if self.rebooting {
            return self.finish(VmState::Rebooted, exit::REBOOTED);
        }
        match &self.stopping {
            Some(Stopping { by, .. }) if self.panic.is_none() => {
                let reason = format!("the guest did not end in time after a stop order by {by}");
                self.finish(VmState::Killed { reason }, exit::KILLED)
            }
            _ => self.over("the guest did not go on"),
        }
    }

    /// The guest is gone.
    fn over(&mut self, how: &str) -> Action {
        if let Some(end) = self.ended.clone() {
            let stopped = self.stopping.is_some() || self.pressed;
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
