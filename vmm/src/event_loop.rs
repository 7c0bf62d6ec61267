// SPDX-License-Identifier: Apache-2.0
//! The event loop: cards, sockets, entropy, balloon, console, control, timer. It ends with the microVM.
//!
//! It is the thread of every device but the disks, whose files may make them wait. A device that has more to do than a turn's budget
//! gets its next turn when everything else has been looked at.

use std::sync::Arc;
use std::time::Duration;

use racklet_api::V1;
use racklet_api::guest::{AgentOrder, AgentReport};
use racklet_api::vmm::balloon::BalloonState;
use racklet_api::vmm::console::Bytes;
use racklet_api::vmm::metrics::{BootTimes, CallCounts, DeviceMetrics, VmMetrics};
use racklet_api::vmm::{AfterSnapshot, ControlAction, ControlReply, Mac, VmState, exit};
use racklet_linux::clock;
use racklet_linux::signal::StopRequests;
use vmm_sys_util::timerfd::TimerFd;

use crate::agent::Agent;
use crate::bus::Bus;
use crate::calls::{Calls, Waiting};
use crate::control::{Answers, Control, History};
use crate::devices::balloon::{ASK, Account};
use crate::devices::rng;
use crate::devices::serial::Console;
use crate::devices::vsock::{CALL, PUMP};
use crate::lifecycle::{Action, Event, Lifecycle, Said, Words};
use crate::log::Log;
use crate::mark::Mark;
use crate::places::Places;
use crate::poll::{Poll, Token};
use crate::rate::{self, Knobs};
use crate::snapshot::{Desk, Order};
use crate::status::StatusFile;
use crate::virtio::{Counters, Engine, Turn};

/// How long console output waits for the rest of its line before it is passed on without.
const REST_OF_LINE: Duration = Duration::from_millis(30);
const SECOND: Duration = Duration::from_secs(1);

/// Turns that the sockets get when the guest is over: 8 times what a queue holds. Another vCPU may still make requests available.
const LAST_TURNS: usize = 8;

/// A snapshot on its way.
pub(crate) struct Saving {
    /// Who asked.
    client: u32,
    then: AfterSnapshot,
    /// Until it is given to the saver, when all vCPUs stand.
    order: Option<Order>,
    /// The guest ran when it was asked for, and is to run again.
    resumes: bool,
    /// Somebody let the guest go on meanwhile: it does so when it is saved.
    go: bool,
}

/// Everything the loop works with.
pub(crate) struct EventLoop {
    pub(crate) poll: Poll,
    pub(crate) bus: Arc<Bus>,
    /// By number; none where a device has a thread of its own.
    pub(crate) engines: Vec<Option<Engine>>,
    /// What metrics call the devices, by number.
    pub(crate) names: Vec<String>,
    /// Devices that are to have another turn: bit n for device n, of which there are at most 32 (`arch::MOST_DEVICES`).
    pub(crate) unfinished: u32,
    /// When devices whose rate is limited are to have another turn, by number: a time of `rate::now`.
    pub(crate) later: Vec<Option<u64>>,
    /// How fast disks and cards may be.
    pub(crate) knobs: Knobs,
    pub(crate) places: Places,
    pub(crate) console: Arc<Console>,
    pub(crate) agent: Agent,
    pub(crate) vsock: u16,
    /// Number of the balloon, and what it is to have and has.
    pub(crate) balloon: (u16, Account),
    /// Most MiB that it may be asked to have.
    pub(crate) balloon_most: u32,
    pub(crate) control: Control,
    pub(crate) calls: Calls,
    /// Those that the sockets' device has not looked at yet, and how many were taken.
    pub(crate) waiting: Waiting,
    /// The end of the console's output.
    pub(crate) history: History,
    pub(crate) status: StatusFile,
    pub(crate) console_log: Log,
    pub(crate) workload_log: Log,
    /// Delivers seconds, once the lifecycle wants them.
    pub(crate) timer: TimerFd,
    /// Runs while output waits for the rest of its line (`flushing`).
    pub(crate) flush: TimerFd,
    pub(crate) flushing: bool,
    pub(crate) signals: StopRequests,
    pub(crate) desk: Arc<Desk>,
    /// A snapshot that is being made.
    pub(crate) saving: Option<Saving>,
    /// The guest goes on from a snapshot, and its cards are called so now.
    pub(crate) restored: Option<Vec<Mac>>,
    /// guest-init has called.
    pub(crate) called: Mark,
    pub(crate) life: Lifecycle,
    pub(crate) words: Words,
}

impl EventLoop {
    /// Runs until the microVM is over; gives the process's exit status.
    pub(crate) fn run(mut self) -> i32 {
        if let Some(status) = self.happen(Event::Started) {
            return status;
        }
        let mut tokens = Vec::new();
        loop {
            if let Err(e) = self.poll.wait(self.patience(), &mut tokens) {
                let state = VmState::Failed {
                    reason: format!("the monitor cannot wait for events: {e}"),
                };
                return self.finish(state, exit::FAILED);
            }
            let mut unfinished = std::mem::take(&mut self.unfinished) | self.due();
            for token in &tokens {
                if let Some(status) = self.serve(*token) {
                    return status;
                }
            }
            while unfinished != 0 {
                let device = u16::try_from(unfinished.trailing_zeros()).expect("a bit of 32");
                unfinished &= unfinished - 1;
                if let Some(status) = self.device(device, Engine::more) {
                    return status;
                }
            }
        }
    }

    /// How long the loop may wait for something to happen.
    fn patience(&self) -> Option<Duration> {
        if self.unfinished != 0 {
            return Some(Duration::ZERO);
        }
        let calls = self.calls.until();
        let first = self.later.iter().flatten().chain(&calls).min()?;
        Some(Duration::from_nanos(first.saturating_sub(rate::now())))
    }

    /// Devices whose time has come, as bits.
    fn due(&mut self) -> u32 {
        if self.later.iter().all(Option::is_none) && self.calls.until().is_none() {
            return 0; // mostly, and then nobody asks what time it is
        }
        let now = rate::now();
        self.calls.expire(now);
        let mut due = 0;
        for (device, later) in self.later.iter_mut().enumerate() {
            if later.is_some_and(|at| at <= now) {
                *later = None;
                due |= 1 << device;
            }
        }
        due
    }

    /// Gives a device a turn, and hears what the guest's agent said if it is the sockets'.
    fn device(&mut self, device: u16, act: impl FnOnce(&mut Engine) -> Turn) -> Option<i32> {
        // A device that has more to do is remembered there.
        let _ = self.turn(device, act);
        if device == self.vsock {
            return self.reports();
        }
        None
    }

    fn turn(&mut self, device: u16, act: impl FnOnce(&mut Engine) -> Turn) -> Turn {
        let engine = self.engines.get_mut(usize::from(device));
        let turn = engine.and_then(Option::as_mut).map_or(Turn::Done, act);
        match turn {
            Turn::More => self.unfinished |= 1 << device,
            // Another part of the device may wait for an earlier time.
            Turn::At(at) => {
                if let Some(later) = self.later.get_mut(usize::from(device)) {
                    *later = Some(later.map_or(at, |before| before.min(at)));
                }
            }
            Turn::Done => {}
        }
        turn
    }

    fn serve(&mut self, token: Token) -> Option<i32> {
        match token {
            Token::Queue { device, queue } => {
                return self.device(device, |engine| engine.notify(queue as usize));
            }
            Token::Host { device, token } => {
                return self.device(device, |engine| engine.host_event(token));
            }
            Token::Order { device } => {
                return self.device(device, |engine| {
                    let turn = engine.receive();
                    engine.refresh();
                    turn.and(engine.more())
                });
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
            Token::Still => {
                if self.bus.gate.is_still() {
                    self.stands(true);
                    self.save_if_still();
                }
            }
            Token::Disk { disk } => {
                if let Some((client, reply)) = self.places.answer(disk) {
                    self.control.answer(client, &reply);
                }
            }
            Token::Saved => return self.saved(),
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
            Token::Calls => self.calls.accept(),
            Token::Caller(number) => {
                let sockets = self.engines.get(usize::from(self.vsock));
                let listens = sockets.is_some_and(|s| s.as_ref().is_some_and(Engine::active));
                if self.calls.serve(number, listens) {
                    return self.device(self.vsock, |engine| engine.host_event(CALL));
                }
            }
        }
        None
    }

    fn client(&mut self, number: u32) -> Option<i32> {
        let answers = Answers {
            status: &self.status.status(self.life.state().clone()),
            history: &self.history,
            rate: &|order| {
                let device = self.knobs.turn(order)?;
                self.bus.wake(device);
                Ok(())
            },
            listens: self.life.listens(),
            metrics: &|| VmMetrics {
                calls: self.waiting.counts(),
                boot: BootTimes {
                    entered_us: self.bus.entered.micros(),
                    console_us: self.console.spoke.micros(),
                    guest_init_us: self.called.micros(),
                },
                ..metrics(&self.bus, &self.names, &self.balloon.1)
            },
            balloon: &|mib| want(&self.balloon.1, mib, self.balloon_most),
            enter: &|bytes| {
                let taken = self.console.enter(bytes);
                self.bus.parts.input();
                taken
            },
        };
        let served = self.control.serve(number, &answers);
        let mut files = served.files;
        for action in served.actions {
            let ended = match action {
                ControlAction::State
                | ControlAction::Rate(_)
                | ControlAction::Console { .. }
                | ControlAction::Input { .. } => None,
                // For the next time somebody asks.
                ControlAction::Metrics => {
                    self.device(self.balloon.0, |engine| engine.host_event(ASK))
                }
                ControlAction::Balloon { .. } => self.device(self.balloon.0, |engine| {
                    engine.refresh();
                    Turn::Done
                }),
                ControlAction::Pause => {
                    if let Some(saving) = &mut self.saving {
                        saving.resumes = false;
                    }
                    self.happen(Event::Pause)
                }
                ControlAction::Snapshot { then, since } => {
                    let order = Order::new(std::mem::take(&mut files), since);
                    self.snapshot(number, then, order)
                }
                ControlAction::Resize { disk } => {
                    let asked = self.places.look(number, disk);
                    self.disk(number, asked)
                }
                ControlAction::Attach(says) => {
                    let files = std::mem::take(&mut files);
                    let asked = self.places.attach(number, says, files);
                    self.disk(number, asked)
                }
                ControlAction::Detach { disk } => {
                    let asked = self.places.detach(number, disk);
                    self.disk(number, asked)
                }
                ControlAction::Resume => self.happen(Event::Resume),
                ControlAction::Stop { grace_s } => self.happen(Event::Stop {
                    grace_s,
                    by: "request",
                }),
                ControlAction::PowerOff => self.happen(Event::PowerButton),
                ControlAction::Kill => self.happen(Event::Kill),
                ControlAction::Exec(call) => {
                    self.agent.order(&AgentOrder::Exec(call));
                    self.pump();
                    None
                }
            };
            if ended.is_some() {
                return ended;
            }
        }
        None
    }

    /// Wakes a disk that has an order, or says why it has none.
    fn disk(&mut self, client: u32, asked: Result<u16, String>) -> Option<i32> {
        match asked {
            Ok(device) => self.bus.wake(device),
            Err(reason) => {
                self.control.answer(client, &ControlReply::Error { reason });
            }
        }
        None
    }

    /// Begins a snapshot: its files are written when all vCPUs stand.
    fn snapshot(&mut self, client: u32, then: AfterSnapshot, order: Option<Order>) -> Option<i32> {
        let refused = if self.saving.is_some() {
            "a snapshot is being made: ask again when it is there"
        } else if let Some(order) = order {
            self.saving = Some(Saving {
                client,
                then,
                order: Some(order),
                resumes: !self.life.is_paused(),
                go: false,
            });
            let ended = self.happen(Event::Pause);
            self.save_if_still();
            return ended;
        } else {
            "a snapshot takes two files along with the request, for its state and its memory, and a difference the other's memory as a third"
        };
        let reason = refused.to_owned();
        self.control.answer(client, &ControlReply::Error { reason });
        None
    }

    fn save_if_still(&mut self) {
        if let Some(saving) = &mut self.saving
            && self.bus.gate.is_still()
            && let Some(order) = saving.order.take()
        {
            self.desk.order(order);
        }
    }

    /// The saver is done, and devices go on: answers, and lets the guest go on or ends it.
    fn saved(&mut self) -> Option<i32> {
        let outcome = self.desk.outcome()?;
        let saving = self.saving.take()?;
        let ends = outcome.is_ok() && saving.then == AfterSnapshot::End;
        let reply = match outcome {
            Ok(bytes) => ControlReply::Snapshot(bytes),
            Err(reason) => ControlReply::Error { reason },
        };
        // Who asked keeps the files. Where nobody is there any more the snapshot may be gone as well, and the guest is all there is.
        let heard = self.control.answer(saving.client, &reply);
        if ends && heard {
            return self.happen(Event::Kill);
        }
        // Sockets that had room or news while the device stood still said so once, and then to nobody.
        self.pump();
        if saving.go {
            self.go();
        }
        if saving.resumes {
            return self.happen(Event::Resume);
        }
        None
    }

    fn go(&mut self) {
        if let Some(saving) = &mut self.saving {
            saving.go = true;
            return;
        }
        self.bus.gate.open();
        self.stands(false);
    }

    /// What guest-init sent before the guest was over.
    fn last_words(&mut self) -> Option<i32> {
        for _ in 0..LAST_TURNS {
            let turn = self.turn(self.vsock, Engine::more);
            let ended = self.reports();
            if ended.is_some() || turn == Turn::Done {
                return ended;
            }
        }
        None
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
                    continue;
                }
                if let AgentReport::Hello { .. } = &report {
                    self.called.set();
                    if let Some(cards) = &self.restored {
                        self.agent.order(&restored(cards));
                    }
                }
                if let Some(status) = self.happen(Event::Report(report)) {
                    return Some(status);
                }
            }
            // There is room for more now.
            self.pump();
        }
    }

    fn pump(&mut self) {
        let _ = self.turn(self.vsock, |engine| engine.host_event(PUMP));
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
        self.history.append(&bytes);
        self.control.feed(&self.history);
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
                Action::Hold => {
                    // Who let it go on while it was being saved, and then had it stand again, wants it to stand.
                    if let Some(saving) = &mut self.saving {
                        saving.go = false;
                    }
                    self.bus.gate.close();
                }
                Action::Go => self.go(),
                Action::Finish(state, status) => return Some(self.finish(state, status)),
            }
        }
        None
    }

    /// The guest stands still, or is not to any more: makes it known, and answers who waits for it.
    fn stands(&mut self, still: bool) {
        self.status.pause(still);
        self.publish(self.life.state().clone());
        let status = self.status.status(self.life.state().clone());
        self.control.still(&status);
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

/// Has the guest do without so much from now on, where it is said.
fn want(account: &Account, mib: Option<u32>, most: u32) -> Result<BalloonState, String> {
    match mib {
        Some(mib) if mib > most => {
            return Err(format!(
                "{mib} MiB are more than {most}, which leave the guest the least it can have"
            ));
        }
        Some(mib) => account.want(mib),
        None => {}
    }
    Ok(account.state())
}

/// What a guest is told that goes on from a snapshot. Without fresh random numbers it still learns the time and its cards.
fn restored(cards: &[Mac]) -> AgentOrder {
    let mut seed = vec![0; 32];
    let _ = rng::fill(&mut seed);
    AgentOrder::Restored {
        seed: Bytes(seed),
        time_ms: u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX),
        cards: cards.to_vec(),
    }
}

/// What has been counted so far.
fn metrics(bus: &Bus, names: &[String], account: &Account) -> VmMetrics {
    let device = |(name, of): (&String, Counters)| DeviceMetrics {
        device: name.clone(),
        returned: of.returned,
        refused: of.refused,
        failed: of.failed,
        cut_turns: of.cut_turns,
        throttled: of.throttled,
        interrupts: of.interrupts,
        resets: of.resets,
        faults: of.faults,
    };
    VmMetrics {
        v: V1,
        devices: names.iter().zip(bus.counters()).map(device).collect(),
        exits: bus.exits().counts(),
        balloon: account.metrics(),
        calls: CallCounts::default(),
        boot: BootTimes::default(),
    }
}
