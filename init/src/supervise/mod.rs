// SPDX-License-Identifier: Apache-2.0
//! PID 1 of the hypervisor OS: supervises `netd` and `hypervisor`, reaps, feeds the watchdog, marks the boot good, and takes
//! everything down in order. What to do when is decided in [`core`]; here it is done.

mod api;
mod button;
mod core;
mod keeper;
mod log;
pub(crate) mod slots;
mod workloads;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use racklet_api::handoff::{Handoff, Head};
use racklet_api::init::{FloorsReport, Op, Response, SOCKET, ServiceStatus, SlotsStatus, Status};
use racklet_api::tray::TrayConfig;
use racklet_linux::child::{self, Kill};
use racklet_linux::clock;
use racklet_linux::power::Leave;
use racklet_linux::session;
use racklet_linux::signal::{Signal, Signals};
use racklet_linux::watchdog::Watchdog;
use racklet_trust::Digest;
use racklet_trust::commit::ObjectId;
use racklet_trust::floors::Floors;

use crate::console::{Topic, seconds};
use crate::mounts;
use crate::pid1;
use crate::state::{self, State};
use api::Asked;
use core::{Action, Core, Event, Run};
use keeper::Keeper;
use racklet_tell::error::Chain;
use racklet_tell::text::count;
use slots::Slots;

const INIT: Topic = Topic("init");
const HEALTH: Topic = Topic("health");
const VMS: &str = "/run/racklet/vm";
/// The watchdog's time; it is fed every [`FEED`].
const WATCHDOG_S: u32 = 30;
const FEED: Duration = Duration::from_secs(5);
/// From the bootstrap's last look at the clock to ours, on the slowest machine.
const KEXEC_AT_MOST: Duration = Duration::from_secs(300);

/// What is supervised, in order of start. The last one starts workloads.
const SERVICES: [(&str, &str); 2] = [("netd", "/sbin/netd"), ("hypervisor", "/sbin/hypervisor")];
const KEEPER: usize = 1;

enum Input {
    Signal(Signal),
    Asked(Asked),
    WorkloadsStopped,
    MarkedGood(bool),
}

struct Supervisor {
    tray: TrayConfig,
    handoff: Handoff,
    keeper: Keeper,
    /// The floors in force: at least what the card holds, and what the bootstrap could not keep.
    held: Floors,
    core: Core,
    inputs: Sender<Input>,
    watchdog: Option<Watchdog>,
}

/// Runs the second role. Returns how to leave, with everything stopped and unmounted.
pub(crate) fn run(tray: TrayConfig, handoff: Handoff, signals: Signals) -> Leave {
    if let Err(error) = mounts::full() {
        INIT.failed(Chain(&error), "go on without it");
    }
    let _ = rustix::system::sethostname(tray.tray.as_bytes());
    set_clock(&handoff);
    // Before the wait for the disk, which is shorter than the shortest time of any board: what the stage before armed still counts.
    let watchdog = pid1::arm(&tray, WATCHDOG_S);
    let card = pid1::card();
    let mut state = match State::open(&tray.rack, &card, false) {
        Ok(state) => state,
        Err(error) => pid1::fatal(Chain(&error)),
    };
    if state.persistent() && forgets(&handoff, state.floors()) {
        state.note("the card did not keep what was written to it before this system started");
    }
    let (inputs, received) = mpsc::channel();
    let to_main = inputs.clone();
    let signal_thread = thread::Builder::new()
        .name("signals".into())
        .spawn(
            move || {
                while to_main.send(Input::Signal(signals.wait())).is_ok() {}
            },
        );
    if let Err(error) = signal_thread {
        pid1::fatal(format_args!("start a thread: {error}"));
    }
    let to_main = inputs.clone();
    button::watch(move || {
        let _ = to_main.send(Input::Signal(Signal::Power));
    });
    let to_main = inputs.clone();
    let served = fs::create_dir_all(VMS).and_then(|()| {
        api::serve(Path::new(SOCKET), move |asked| {
            let _ = to_main.send(Input::Asked(asked));
        })
    });
    if let Err(error) = served {
        INIT.failed(
            format_args!("listen at {SOCKET}: {error}"),
            "go on; nobody can report health",
        );
    }
    let mut held = state.floors().clone();
    held.raise(&floors_of(&handoff));
    let to_main = inputs.clone();
    let slots = Slots::new(handoff.boot.clone(), card.boot_partition, &tray.board);
    let keeper = Keeper::start(state, slots, handoff.clone(), move |worked| {
        let _ = to_main.send(Input::MarkedGood(worked));
    });
    let keeper = match keeper {
        Ok(keeper) => keeper,
        Err(error) => pid1::fatal(format_args!("start a thread: {error}")),
    };
    let core = Core::new(SERVICES.len(), KEEPER, clock::since_boot());
    let mut supervisor = Supervisor {
        tray,
        handoff,
        keeper,
        held,
        core,
        inputs,
        watchdog,
    };
    let how = supervisor.work(&received);
    supervisor.end(how)
}

/// The clock goes on from where the bootstrap left it, even on a board whose real-time clock is absent or decades off: the
/// kernel read that again.
fn set_clock(handoff: &Handoff) {
    let left = Duration::from_secs(handoff.time.unix.max(handoff.time_floor));
    if let Some(to) = corrected(clock::wall(), left, clock::since_boot())
        && let Err(error) = clock::set_wall(to)
    {
        INIT.failed(
            format_args!("set the clock: {error}"),
            "go on with the clock as it is",
        );
    }
}

/// What to set a clock to that says `wall`, when the bootstrap left it at `left` and this system runs for `up`.
fn corrected(wall: Duration, left: Duration, up: Duration) -> Option<Duration> {
    let credible = left..left + up + KEXEC_AT_MOST;
    (!credible.contains(&wall)).then_some(left + up)
}

impl Supervisor {
    fn work(&mut self, received: &mpsc::Receiver<Input>) -> Leave {
        let mut fed = Duration::ZERO;
        let mut events = vec![Event::Tick];
        loop {
            if let Some(how) = self.react(events) {
                return how;
            }
            let now = clock::since_boot();
            if now.saturating_sub(fed) >= FEED {
                if let Some(dog) = &mut self.watchdog {
                    // A watchdog that cannot be fed resets the machine: that is its purpose.
                    let _ = dog.feed();
                }
                fed = now;
            }
            let wake = self.core.wake().unwrap_or(now + FEED).min(fed + FEED);
            events = match received.recv_timeout(wake.saturating_sub(now)) {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    vec![Event::Tick]
                }
            };
        }
    }

    /// Turns an input into events for the core. One signal may stand for several children.
    fn take(&mut self, input: Input) -> Vec<Event> {
        let event = match input {
            Input::Signal(Signal::Child) => {
                let ended = child::reap().into_iter();
                // The last one is looked at first: time passes after the ends, and also when none of them was ours.
                return std::iter::once(Event::Tick)
                    .chain(ended.map(|(pid, how)| Event::Ended(pid, how)))
                    .collect();
            }
            Input::Signal(Signal::Terminate) => Event::Leave(Leave::Reboot),
            Input::Signal(Signal::Power) => Event::Leave(Leave::Poweroff),
            Input::WorkloadsStopped => Event::WorkloadsStopped,
            Input::MarkedGood(worked) => Event::MarkedGood(worked),
            Input::Asked(Asked { request, answer }) => {
                if let Op::Raise {
                    head,
                    trust_root,
                    time,
                    in_memory,
                } = request.op
                {
                    if let Some(by) = self.raise(&head, trust_root, time, &answer) {
                        if in_memory {
                            let _ = answer.send(Response::done());
                        } else {
                            self.keeper.raise(by, answer);
                        }
                    }
                    return vec![Event::Tick];
                }
                if let Op::Withdraw = request.op {
                    self.keeper.withdraw(answer);
                    return vec![Event::Tick];
                }
                let (response, event) = self.answer(request.op);
                let _ = answer.send(response);
                event
            }
        };
        vec![event]
    }

    /// Remembers a head that the hypervisor accepted. The hypervisor judges by the same floors; a daemon that lost or never had them
    /// is stopped here, and told so. It holds from now on, whatever the card does; gives what is still to be kept.
    fn raise(
        &mut self,
        head: &Head,
        trust_root: u64,
        time: u64,
        answer: &Sender<Response>,
    ) -> Option<Floors> {
        let Some(id) = ObjectId::from_hex(&head.commit) else {
            let _ = answer.send(Response::refused("the head is not a commit's name"));
            return None;
        };
        let by = Floors {
            trust_root,
            head: Some((id, head.generation)),
            time,
            ..Floors::default()
        };
        if let Err(lower) = self.held.judge(&by) {
            let _ = answer.send(Response::refused(lower));
            return None;
        }
        self.held.raise(&by);
        Some(by)
    }

    fn answer(&mut self, op: Op) -> (Response, Event) {
        match op {
            // Answered by the card's thread.
            Op::Raise { .. } | Op::Withdraw => (Response::refused("not here"), Event::Tick),
            Op::Install { manifest } => {
                let asked = match manifest.parse::<Digest>() {
                    // What is installed is tried first, until the slot that runs is marked good.
                    _ if !self.core.marked_good() => Err("this boot was not found good yet"),
                    Ok(manifest) => self.keeper.install(manifest),
                    Err(_) => Err("the manifest is not a SHA-256 in hex"),
                };
                let response = match asked {
                    Ok(()) => Response::done(),
                    Err(reason) => Response::refused(reason),
                };
                (response, Event::Tick)
            }
            Op::Status => {
                let status = Box::new(self.status());
                (
                    Response {
                        status: Some(status),
                        ..Response::done()
                    },
                    Event::Tick,
                )
            }
            Op::Health {
                service,
                healthy,
                message,
            } => {
                let Some(id) = SERVICES.iter().position(|(name, _)| *name == service) else {
                    return (
                        Response::refused(format_args!("there is no service {service}")),
                        Event::Tick,
                    );
                };
                let message: String = message.chars().take(500).collect();
                if self.core.services()[id].healthy != Some(healthy) {
                    let state = if healthy { "healthy" } else { "NOT healthy" };
                    HEALTH.say(format_args!("{service} {state}: {message}"));
                }
                (Response::done(), Event::Health(id, healthy, message))
            }
            Op::Reboot => (Response::done(), Event::Leave(Leave::Reboot)),
            Op::Poweroff => (Response::done(), Event::Leave(Leave::Poweroff)),
        }
    }

    fn status(&self) -> Status {
        let services = SERVICES
            .iter()
            .zip(self.core.services())
            .map(|((name, _), service)| {
                let (state, pid) = match service.run {
                    Run::Running(pid, _) => ("running", Some(pid)),
                    Run::Waiting(_) | Run::Starting => ("waiting", None),
                    Run::Stopped => ("stopped", None),
                };
                let status = ServiceStatus {
                    state: state.to_owned(),
                    pid,
                    restarts: service.restarts,
                    healthy: service.healthy,
                    message: service.message.clone(),
                };
                ((*name).to_owned(), status)
            });
        Status {
            tray: self.tray.tray.clone(),
            rack: self.tray.rack.clone(),
            handoff: self.handoff.clone(),
            floors: Some(report(&self.held)),
            marked_good: self.core.marked_good(),
            uptime: clock::since_boot().as_secs(),
            state: self.keeper.status(),
            slots: self.keeper.slots().map(|slots| SlotsStatus {
                good: self.core.marked_good(),
                ..slots
            }),
            services: services.collect::<BTreeMap<_, _>>(),
        }
    }

    /// Steps the core and does what it says, until there is nothing more to do. What it returns is said once: the end of the
    /// last service on the way down is as good a moment for it as any.
    #[must_use]
    fn react(&mut self, mut events: Vec<Event>) -> Option<Leave> {
        while let Some(event) = events.pop() {
            let jitter = u8::try_from(clock::since_boot().subsec_micros() & 0xff).unwrap_or(0);
            if let Event::Leave(how) = event
                && !self.core.leaving()
            {
                INIT.say(format_args!("going down: {how:?}"));
            }
            for action in self.core.step(clock::since_boot(), event, jitter) {
                match action {
                    Action::Start(id) => events.push(self.start(id)),
                    Action::Terminate(pid) => child::kill_group(pid, Kill::Terminate),
                    Action::Kill(pid) => child::kill_group(pid, Kill::Kill),
                    Action::Report(id, how, pause) => {
                        let next = match self.core.leaving() {
                            true => "nothing, the tray goes down".to_owned(),
                            false => format!("start it again in {}", seconds(pause)),
                        };
                        INIT.failed(format_args!("{} ended: {how}", SERVICES[id].0), next);
                    }
                    Action::StopWorkloads => self.stop_workloads(),
                    Action::MarkGood => self.keeper.mark_good(),
                    Action::Leave(how) => return Some(how),
                }
            }
        }
        None
    }

    fn start(&mut self, id: usize) -> Event {
        let (name, path) = SERVICES[id];
        let started = std::io::pipe().and_then(|(read, write)| {
            let mut command = Command::new(path);
            command
                .env_clear()
                .env("PATH", "/sbin")
                .current_dir("/")
                .stdin(Stdio::null());
            command.stdout(write.try_clone()?).stderr(write);
            session::own(&mut command);
            let child = command.spawn()?;
            let folder = Path::new(state::ROOT).join("log");
            thread::Builder::new()
                .name(format!("log-{name}"))
                .stack_size(128 << 10)
                .spawn(move || log::follow(Topic(name), read, &folder))?;
            Ok(child.id())
        });
        match started {
            Ok(pid) => {
                INIT.say(format_args!("{name} started, pid {pid}"));
                Event::Started(id, pid)
            }
            Err(error) => {
                INIT.failed(format_args!("start {path}: {error}"), "try again later");
                Event::NotStarted(id, error.to_string())
            }
        }
    }

    fn stop_workloads(&self) {
        let inputs = self.inputs.clone();
        let stop = move || {
            let (there, left) = workloads::stop_all(Path::new(VMS), core::WORKLOAD_GRACE);
            match (there, left) {
                (0, _) => {}
                (_, 0) => INIT.say(format_args!("{} stopped", count(there as u64, "workload"))),
                _ => INIT.failed(
                    format_args!("{left} of {} did not stop", count(there as u64, "workload")),
                    "kill them",
                ),
            }
            let _ = inputs.send(Input::WorkloadsStopped);
        };
        if let Err(error) = thread::Builder::new().name("stop".into()).spawn(stop) {
            INIT.failed(format_args!("stop the workloads: {error}"), "kill them");
            let _ = self.inputs.send(Input::WorkloadsStopped);
        }
    }

    fn end(self, how: Leave) -> Leave {
        child::kill_all(Kill::Terminate);
        let deadline = clock::since_boot() + Duration::from_secs(2);
        // ECHILD ends this early: nobody is left.
        while clock::since_boot() < deadline && child::any() {
            child::reap();
            thread::sleep(Duration::from_millis(20));
        }
        child::kill_all(Kill::Kill);
        child::reap();
        let how = self.keeper.close(how);
        INIT.say(match how {
            Leave::Reboot | Leave::Trial => "everything stopped; rebooting",
            Leave::Poweroff => "everything stopped; switching off",
        });
        how
    }
}

fn report(floors: &Floors) -> FloorsReport {
    FloorsReport {
        head: floors.head.map(|(id, generation)| Head {
            commit: id.to_string(),
            generation,
        }),
        trust_root: floors.trust_root,
        time: floors.time,
    }
}

/// What the bootstrap verified holds here too, whatever the card kept of it.
fn floors_of(handoff: &Handoff) -> Floors {
    let head = handoff.head.as_ref();
    Floors {
        trust_root: handoff.trust_root,
        head: head.and_then(|head| Some((ObjectId::from_hex(&head.commit)?, head.generation))),
        time: handoff.time_floor,
        ..Floors::default()
    }
}

/// Whether a card that takes writes kept less than the bootstrap wrote to it a moment ago.
fn forgets(handoff: &Handoff, kept: &Floors) -> bool {
    let generation = handoff.head.as_ref().map_or(0, |head| head.generation);
    handoff.persistent && kept.head.map_or(0, |(_, generation)| generation) < generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_forgets_what_was_written_is_noticed() {
        let handoff = |persistent| -> Handoff {
            serde_json::from_value(serde_json::json!({
                "v": 1, "head": {"commit": "ab".repeat(20), "generation": 7}, "trustRoot": 1,
                "timeFloor": 5, "time": {"unix": 6, "source": "floor"}, "boot": null,
                "payload": {"manifest": "", "name": "stable", "version": 1, "fallback": null},
                "lease": null, "persistent": persistent,
            }))
            .expect("parses")
        };
        let kept = floors_of(&handoff(true));
        assert!(!forgets(&handoff(true), &kept), "what was written is there");
        assert!(forgets(&handoff(true), &Floors::default()));
        assert!(
            !forgets(&handoff(false), &Floors::default()),
            "nothing could be written"
        );
    }

    #[test]
    fn the_clock_goes_on_from_where_the_bootstrap_left_it() {
        let seconds = Duration::from_secs;
        let (left, up) = (seconds(1_790_000_000), seconds(2));
        for (wall, set) in [
            (0, Some(1_790_000_002)),
            (1_790_000_003, None),
            // A real-time clock that the bootstrap did not believe, or that time servers corrected.
            (1_790_086_400, Some(1_790_000_002)),
            (3_155_760_000, Some(1_790_000_002)),
        ] {
            assert_eq!(
                corrected(seconds(wall), left, up),
                set.map(seconds),
                "{wall}"
            );
        }
    }
}
