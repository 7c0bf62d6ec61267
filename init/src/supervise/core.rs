// SPDX-License-Identifier: Apache-2.0
//! What the supervisor does next: a pure state machine over events and time.
//!
//! ```text
//!   service:   Waiting(until) ──due──> Running ──ended──> Waiting(back-off)
//!   tray:      Up ──reboot, poweroff, SIGTERM──> StoppingKeeper ──ended──> StoppingWorkloads ──grace──> StoppingServices ──> Leave
//!              (the keeper is the service that would start again the workloads that are being stopped)
//!   goodness:  netd and hypervisor healthy without a break for SETTLE ──> MarkGood ──worked──> Yes
//!                                                                            ^    └──failed──> Unkept(until) ─┐
//!                                                                            └──────────── due, back-off ─────┘
//! ```
//!
//! At one moment nothing is asked for twice: whatever fails is tried again later, never at once. Otherwise the caller, which
//! feeds back what came of each action, would go round without ever feeding the watchdog.

use std::time::Duration;

use racklet_linux::child::Ended;
use racklet_linux::power::Leave;

/// The services must be healthy for so long before the boot is marked good.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);
/// A service that ran so long starts with the shortest wait again.
const STEADY: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Waits between tries to mark the boot good, doubling from the first to the last: a card that refuses writes now seldom
/// takes them a second later, and each try writes to it.
const FIRST_MARK_WAIT: Duration = Duration::from_secs(30);
const LAST_MARK_WAIT: Duration = Duration::from_secs(600);
/// What workloads get to stop by themselves, then services.
pub(crate) const WORKLOAD_GRACE: Duration = Duration::from_secs(20);
const SERVICE_GRACE: Duration = Duration::from_secs(5);
/// Never healthy for so long: the boot has failed; start again and let the tries count.
pub(crate) const UNHEALTHY_LIMIT: Duration = Duration::from_secs(600);

/// Index into the service table.
pub(crate) type Id = usize;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A service was started as this process.
    Started(Id, u32),
    /// A service could not be started.
    NotStarted(Id, String),
    /// A process ended; it may be nobody we know.
    Ended(u32, Ended),
    /// A service says how it is.
    Health(Id, bool, String),
    /// Somebody wants to leave.
    Leave(Leave),
    /// All workloads have stopped.
    WorkloadsStopped,
    /// Marking the boot good worked, or not.
    MarkedGood(bool),
    /// Nothing but time.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a service.
    Start(Id),
    /// Ask a service's process group to stop.
    Terminate(u32),
    /// Make it stop.
    Kill(u32),
    /// Tell: a service ended.
    Report(Id, Ended, Duration),
    /// Ask the workloads to stop.
    StopWorkloads,
    /// Slot, tries, floors: this boot is good.
    MarkGood,
    /// Unmount and go.
    Leave(Leave),
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    /// To be started at this time.
    Waiting(Duration),
    /// Starting was asked for.
    Starting,
    /// Running as this process since then.
    Running(u32, Duration),
    /// Not to be started again.
    Stopped,
}

/// A service and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// How it is.
    pub(crate) run: Run,
    /// Times it was started again.
    pub(crate) restarts: u64,
    /// What it last said.
    pub(crate) healthy: Option<bool>,
    /// In its words.
    pub(crate) message: String,
    wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    StoppingKeeper(Leave, Duration, bool),
    StoppingWorkloads(Leave, Duration),
    StoppingServices(Leave, Duration, bool),
    Left,
}

/// The supervisor's memory.
#[derive(Debug)]
pub(crate) struct Core {
    services: Vec<Service>,
    keeper: Id,
    phase: Phase,
    healthy_since: Option<Duration>,
    good: Good,
    began: Duration,
}

/// Whether this boot is good, and whether that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    /// It was not healthy for long enough.
    NotYet,
    /// It is, and marking it has begun; with the wait before the next try if this one fails.
    Asked(Duration),
    /// It is, and could not be marked: tried again at this time, with the wait after that. Health does not count any more,
    /// since what is at fault is the card.
    Unkept(Duration, Duration),
    /// It is, and that was kept.
    Yes,
}

impl Core {
    /// Supervises `services` services, all to be started now; `keeper` is the one that starts workloads.
    pub(crate) fn new(services: usize, keeper: Id, now: Duration) -> Self {
        let service = Service {
            run: Run::Waiting(now),
            restarts: 0,
            healthy: None,
            message: "not started yet".into(),
            wait: FIRST_WAIT,
        };
        Self {
            services: vec![service; services],
            keeper,
            phase: Phase::Up,
            healthy_since: None,
            good: Good::NotYet,
            began: now,
        }
    }

    /// The services.
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }

    /// Whether this boot was marked good.
    pub(crate) fn marked_good(&self) -> bool {
        self.good == Good::Yes
    }

    /// Whether the tray is on its way down.
    pub(crate) fn leaving(&self) -> bool {
        self.phase != Phase::Up
    }

    /// Takes an event in and says what to do. `jitter` in 0..=255 spreads restarts.
    pub(crate) fn step(&mut self, now: Duration, event: Event, jitter: u8) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Started(id, pid) => self.started(id, pid, now, &mut actions),
            Event::NotStarted(id, reason) => {
                self.services[id].message = reason;
                self.wait_again(id, now, jitter);
            }
            Event::Ended(pid, how) => self.ended(pid, how, now, jitter, &mut actions),
            Event::Health(id, healthy, message) => {
                self.services[id].healthy = Some(healthy);
                self.services[id].message = message;
            }
            Event::Leave(how) if self.phase == Phase::Up => self.leave(how, now, &mut actions),
            Event::WorkloadsStopped => {
                if let Phase::StoppingWorkloads(how, _) = self.phase {
                    self.stop_services(how, now, &mut actions);
                }
            }
            Event::MarkedGood(worked) => self.marked(worked, now),
            Event::Leave(_) | Event::Tick => {}
        }
        self.time(now, &mut actions);
        actions
    }

    /// When [`Core::step`] should be called again at the latest.
    pub(crate) fn wake(&self) -> Option<Duration> {
        let starts = self.services.iter().filter_map(|s| match s.run {
            Run::Waiting(at) => Some(at),
            _ => None,
        });
        let phase = match self.phase {
            Phase::Up => match (self.good, self.healthy_since) {
                (Good::NotYet, Some(since)) => Some(since + SETTLE),
                (Good::NotYet, None) => Some(self.began + UNHEALTHY_LIMIT),
                (Good::Unkept(at, _), _) => Some(at),
                (Good::Asked(_) | Good::Yes, _) => None,
            },
            Phase::StoppingKeeper(_, until, _)
            | Phase::StoppingWorkloads(_, until)
            | Phase::StoppingServices(_, until, _) => Some(until),
            Phase::Left => None,
        };
        starts.chain(phase).min()
    }

    /// Begins to leave: first the keeper, or it would start again what is being stopped.
    fn leave(&mut self, how: Leave, now: Duration, actions: &mut Vec<Action>) {
        self.phase = Phase::StoppingKeeper(how, now + SERVICE_GRACE, false);
        for service in &mut self.services {
            if let Run::Waiting(_) = service.run {
                service.run = Run::Stopped;
            }
        }
        if let Run::Running(pid, _) = self.services[self.keeper].run {
            actions.push(Action::Terminate(pid));
        }
    }

    fn started(&mut self, id: Id, pid: u32, now: Duration, actions: &mut Vec<Action>) {
        self.services[id].run = Run::Running(pid, now);
        self.services[id].healthy = None;
        self.services[id].message = "started".into();
        if self.leaving() {
            actions.push(Action::Terminate(pid));
        }
    }

    fn ended(
        &mut self,
        pid: u32,
        how: Ended,
        now: Duration,
        jitter: u8,
        actions: &mut Vec<Action>,
    ) {
        let found = self
            .services
            .iter()
            .position(|s| matches!(s.run, Run::Running(p, _) if p == pid));
        let Some(id) = found else { return };
        let Run::Running(_, since) = self.services[id].run else {
            return;
        };
        let ran = now.saturating_sub(since);
        self.services[id].healthy = Some(false);
        self.services[id].message = how.to_string();
        if self.leaving() {
            self.services[id].run = Run::Stopped;
        } else {
            if ran >= STEADY {
                self.services[id].wait = FIRST_WAIT;
            }
            self.services[id].restarts += 1;
            self.wait_again(id, now, jitter);
        }
        actions.push(Action::Report(id, how, self.pause(id, now)));
    }

    /// How long until a service starts again.
    fn pause(&self, id: Id, now: Duration) -> Duration {
        match self.services[id].run {
            Run::Waiting(at) => at.saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    fn wait_again(&mut self, id: Id, now: Duration, jitter: u8) {
        let service = &mut self.services[id];
        if self.phase != Phase::Up {
            service.run = Run::Stopped;
            return;
        }
        service.run = Run::Waiting(now + service.wait + service.wait * u32::from(jitter) / 512);
        service.wait = (service.wait * 2).min(LONGEST_WAIT);
    }

    fn stop_services(&mut self, how: Leave, now: Duration, actions: &mut Vec<Action>) {
        self.phase = Phase::StoppingServices(how, now + SERVICE_GRACE, false);
        for service in &mut self.services {
            match service.run {
                Run::Running(pid, _) => actions.push(Action::Terminate(pid)),
                // Its `Started` or `NotStarted` is on its way.
                Run::Starting => {}
                Run::Waiting(_) | Run::Stopped => service.run = Run::Stopped,
            }
        }
    }

    fn time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Up => {
                for id in 0..self.services.len() {
                    if matches!(self.services[id].run, Run::Waiting(at) if at <= now) {
                        self.services[id].run = Run::Starting;
                        actions.push(Action::Start(id));
                    }
                }
                self.judge_health(now, actions);
                self.mark_again(now, actions);
            }
            Phase::StoppingKeeper(how, until, killed) => {
                let keeper = &self.services[self.keeper].run;
                let there = matches!(keeper, Run::Running(..) | Run::Starting);
                if there && now < until {
                    return;
                }
                match *keeper {
                    Run::Running(pid, _) if !killed => {
                        actions.push(Action::Kill(pid));
                        self.phase = Phase::StoppingKeeper(how, now + SERVICE_GRACE, true);
                    }
                    _ => {
                        self.phase = Phase::StoppingWorkloads(how, now + WORKLOAD_GRACE);
                        actions.push(Action::StopWorkloads);
                    }
                }
            }
            Phase::StoppingWorkloads(how, until) if now >= until => {
                self.stop_services(how, now, actions);
            }
            Phase::StoppingServices(how, until, killed) => {
                let running = self.services.iter().filter_map(|s| match s.run {
                    Run::Running(pid, _) => Some(pid),
                    _ => None,
                });
                let running: Vec<u32> = running.collect();
                if running.is_empty() || (killed && now >= until) {
                    self.phase = Phase::Left;
                    actions.push(Action::Leave(how));
                } else if now >= until {
                    actions.extend(running.into_iter().map(Action::Kill));
                    self.phase = Phase::StoppingServices(how, now + SERVICE_GRACE, true);
                }
            }
            Phase::StoppingWorkloads(..) | Phase::Left => {}
        }
    }

    fn judge_health(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let healthy = |s: &Service| matches!(s.run, Run::Running(..)) && s.healthy == Some(true);
        if !self.services.iter().all(healthy) {
            self.healthy_since = None;
            if self.good == Good::NotYet && now.saturating_sub(self.began) >= UNHEALTHY_LIMIT {
                self.leave(Leave::Reboot, now, actions);
            }
            return;
        }
        let since = *self.healthy_since.get_or_insert(now);
        if self.good == Good::NotYet && now.saturating_sub(since) >= SETTLE {
            self.good = Good::Asked(FIRST_MARK_WAIT);
            actions.push(Action::MarkGood);
        }
    }

    fn mark_again(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Good::Unkept(at, wait) = self.good
            && at <= now
        {
            self.good = Good::Asked(wait);
            actions.push(Action::MarkGood);
        }
    }

    fn marked(&mut self, worked: bool, now: Duration) {
        self.good = match self.good {
            _ if worked => Good::Yes,
            Good::Asked(wait) => Good::Unkept(now + wait, (wait * 2).min(LAST_MARK_WAIT)),
            // Nobody asked.
            other => other,
        };
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
