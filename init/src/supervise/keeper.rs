// SPDX-License-Identifier: Apache-2.0
//! The one thread of PID 1 that writes to the card.
//!
//! A write takes as long as the card likes: a worn one minutes, one that is gone for ever. The main thread feeds the watchdog
//! and answers meanwhile; it never waits for this one, but for a bounded time on the way down.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use racklet_api::handoff::Handoff;
use racklet_api::init::{InstallStatus, Response, SlotsStatus, StateStatus};
use racklet_linux::clock;
use racklet_linux::power::Leave;
use racklet_tell::error::{Chain, chain};
use racklet_trust::Digest;
use racklet_trust::floors::Floors;

use super::slots::Slots;
use super::{HEALTH, INIT};
use crate::state::{HOUR, State};

/// How often the card is looked at when nothing is asked.
const LOOK: Duration = Duration::from_secs(10);
/// How long leaving waits for the card, less than the watchdog does.
const CLOSE: Duration = Duration::from_secs(15);

enum Job {
    Raise(Floors, Sender<Response>),
    MarkGood,
    Install(Digest),
    Withdraw(Sender<Response>),
    Close(Leave, Sender<Leave>),
}

/// How the card was when it was last looked at.
struct Shown {
    state: StateStatus,
    slots: Option<SlotsStatus>,
    /// What was asked to be written into a slot, until that is over.
    installing: Option<Digest>,
}

/// The main thread's end.
pub(super) struct Keeper {
    jobs: Sender<Job>,
    shown: Arc<Mutex<Shown>>,
}

impl Keeper {
    /// Starts the thread; `marked` is told what came of each [`Keeper::mark_good`].
    pub(super) fn start(
        state: State,
        slots: Slots,
        handoff: Handoff,
        marked: impl Fn(bool) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let shown = Arc::new(Mutex::new(Shown {
            state: state.status(),
            slots: None,
            installing: None,
        }));
        let show = Arc::clone(&shown);
        let mut work = Work {
            state,
            slots,
            handoff,
            unkept: Unkept::default(),
            time_tried: clock::since_boot(),
        };
        thread::Builder::new().name("card".into()).spawn(move || {
            let mut slots = work.slots.look();
            let mut installed = None;
            loop {
                let mut now = show.lock().unwrap_or_else(PoisonError::into_inner);
                now.state = work.state.status();
                now.slots.clone_from(&slots);
                if installed.is_some() {
                    now.installing = None;
                }
                drop(now);
                installed = None;
                let mut changed = true;
                match received.recv_timeout(LOOK) {
                    Ok(Job::Raise(floors, answer)) => {
                        work.raise(&floors, &answer);
                        changed = false;
                    }
                    Ok(Job::MarkGood) => marked(work.mark_good()),
                    Ok(Job::Install(manifest)) => {
                        work.slots.install(manifest);
                        installed = Some(manifest);
                    }
                    Ok(Job::Withdraw(answer)) => {
                        let _ = answer.send(match work.slots.withdraw() {
                            Ok(()) => Response::done(),
                            Err(error) => Response::refused(Chain(&error)),
                        });
                    }
                    Ok(Job::Close(how, done)) => {
                        work.keep_time(0);
                        work.state.close();
                        let _ = done.send(match how {
                            Leave::Reboot => work.slots.restart(),
                            how => how,
                        });
                        return;
                    }
                    Err(RecvTimeoutError::Timeout) => changed = false,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if clock::since_boot()
                    .saturating_sub(work.time_tried)
                    .as_secs()
                    >= HOUR
                {
                    work.keep_time(HOUR);
                }
                work.state.look();
                // Nobody but this thread changes them, and a look reads half a MiB.
                if changed {
                    slots = work.slots.look();
                }
            }
        })?;
        Ok(Self { jobs, shown })
    }

    /// How the state was when it was last looked at.
    pub(super) fn status(&self) -> StateStatus {
        self.shown().state.clone()
    }

    /// How the slots were when they were last looked at.
    pub(super) fn slots(&self) -> Option<SlotsStatus> {
        let shown = self.shown();
        let mut slots = shown.slots.clone()?;
        if let Some(manifest) = shown.installing {
            slots.install = Some(InstallStatus {
                manifest: manifest.to_string(),
                done: false,
                error: None,
            });
        }
        Some(slots)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a cached bootstrap into the slot that does not run. Says whether that has begun: one at a time.
    pub(super) fn install(&self, manifest: Digest) -> Result<(), &'static str> {
        let mut shown = self.shown();
        if shown.slots.is_none() {
            return Err("this tray has no slots");
        }
        if shown.installing.is_some() {
            return Err("a bootstrap is being written; ask again when that is done");
        }
        shown.installing = Some(manifest);
        let _ = self.jobs.send(Job::Install(manifest));
        Ok(())
    }

    /// Has what was installed and not tried yet not be tried, and answers when that is done.
    pub(super) fn withdraw(&self, answer: Sender<Response>) {
        let _ = self.jobs.send(Job::Withdraw(answer));
    }

    /// Raises the floors, and answers when that is done.
    pub(super) fn raise(&self, floors: Floors, answer: Sender<Response>) {
        // The thread ends with `close` only.
        let _ = self.jobs.send(Job::Raise(floors, answer));
    }

    /// This boot is good: payload's tries and floor, and the slot.
    pub(super) fn mark_good(&self) {
        let _ = self.jobs.send(Job::MarkGood);
    }

    /// Makes everything whole and gives the card up. How to leave in the end: a restart may have to be one for a trial.
    pub(super) fn close(self, how: Leave) -> Leave {
        let (done, closed) = mpsc::channel();
        let _ = self.jobs.send(Job::Close(how, done));
        closed.recv_timeout(CLOSE).unwrap_or_else(|_| {
            INIT.failed(
                format_args!("the card did not answer within {} s", CLOSE.as_secs()),
                "leave it; the journal repairs it",
            );
            how
        })
    }
}

struct Work {
    state: State,
    slots: Slots,
    handoff: Handoff,
    unkept: Unkept,
    /// When it was last tried to keep the time of day, since boot.
    time_tried: Duration,
}

impl Work {
    /// Keeps the time of day, where it is only this clock that knows it.
    fn keep_time(&mut self, grain: u64) {
        self.time_tried = clock::since_boot();
        if self.handoff.time.source.forgets()
            && let Err(error) = self.state.keep_time(clock::wall().as_secs(), grain)
        {
            INIT.failed(Chain(&error), "go on; the next start begins earlier");
        }
    }

    fn raise(&mut self, floors: &Floors, answer: &Sender<Response>) {
        let response = match self.state.raise(floors) {
            Ok(()) => Response::done(),
            Err(error) => Response::refused(format_args!(
                "{}; held in memory until the next start",
                Chain(&error)
            )),
        };
        let _ = answer.send(response);
    }

    fn mark_good(&mut self) -> bool {
        let payload = &self.handoff.payload;
        let Ok(manifest) = payload.manifest.parse::<Digest>() else {
            HEALTH.failed("the handoff does not name its payload", "nothing is marked");
            return true;
        };
        let boots = self.state.boots().clone().healthy(manifest);
        let floors = Floors {
            payloads: [(payload.name.clone(), payload.version)].into(),
            ..Floors::default()
        };
        // All are tried, whatever comes of the first: each alone is worth having.
        let kept = [self.state.keep_boots(boots), self.state.raise(&floors)];
        let slot = self.slots.mark_good();
        let mut trouble: Vec<String> = kept
            .iter()
            .filter_map(|kept| kept.as_ref().err())
            .map(|error| chain(error))
            .collect();
        trouble.extend(slot.as_ref().err().map(|error| chain(error)));
        if let Ok(text) = slot
            && trouble.is_empty()
        {
            HEALTH.say(format_args!(
                "this boot is good: payload {}-{}; {text}",
                payload.name, payload.version
            ));
        }
        self.unkept.said(trouble.join("; "))
    }
}

/// What keeps a good boot from being marked, said when it changes and not at every try.
#[derive(Debug, Default)]
struct Unkept(String);

impl Unkept {
    /// Takes in what is in the way now, nothing if empty; true when nothing is.
    fn said(&mut self, trouble: String) -> bool {
        if trouble != self.0 && !trouble.is_empty() {
            HEALTH.failed(
                format_args!("this boot is good, which cannot be kept: {trouble}"),
                "go on as it is, and try again from time to time",
            );
        }
        self.0 = trouble;
        self.0.is_empty()
    }
}
