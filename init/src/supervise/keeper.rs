// SPDX-License-Identifier: Apache-2.0
//! The one thread of PID 1 that writes to the card.
//!
//! A write takes as long as the card likes: a worn one minutes, one that is gone for ever. The main thread feeds the watchdog
//! and answers meanwhile; it never waits for this one, but for a bounded time on the way down.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use racklet_api::handoff::{Card, Handoff};
use racklet_api::init::{Response, StateStatus};
use racklet_linux::clock;
use racklet_tell::error::{Chain, chain};
use racklet_trust::Digest;
use racklet_trust::floors::Floors;

use super::{HEALTH, INIT, slots};
use crate::state::{HOUR, State};

/// How often the card is looked at when nothing is asked.
const LOOK: Duration = Duration::from_secs(10);
/// How long leaving waits for the card, less than the watchdog does.
const CLOSE: Duration = Duration::from_secs(15);

enum Job {
    Raise(Floors, Sender<Response>),
    MarkGood,
    Close(Sender<()>),
}

/// The main thread's end.
pub(super) struct Keeper {
    jobs: Sender<Job>,
    status: Arc<Mutex<StateStatus>>,
}

impl Keeper {
    /// Starts the thread; `marked` is told what came of each [`Keeper::mark_good`].
    pub(super) fn start(
        state: State,
        card: Card,
        handoff: Handoff,
        marked: impl Fn(bool) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel();
        let status = Arc::new(Mutex::new(state.status()));
        let shown = Arc::clone(&status);
        let mut work = Work {
            state,
            card,
            handoff,
            unkept: Unkept::default(),
            time_tried: clock::since_boot(),
        };
        thread::Builder::new().name("card".into()).spawn(move || {
            loop {
                match received.recv_timeout(LOOK) {
                    Ok(Job::Raise(floors, answer)) => work.raise(&floors, &answer),
                    Ok(Job::MarkGood) => marked(work.mark_good()),
                    Ok(Job::Close(done)) => {
                        work.keep_time(0);
                        work.state.close();
                        let _ = done.send(());
                        return;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
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
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = work.state.status();
            }
        })?;
        Ok(Self { jobs, status })
    }

    /// How the state was when it was last looked at.
    pub(super) fn status(&self) -> StateStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

    /// Makes everything whole and gives the card up.
    pub(super) fn close(self) {
        let (done, closed) = mpsc::channel();
        let _ = self.jobs.send(Job::Close(done));
        if closed.recv_timeout(CLOSE).is_err() {
            INIT.failed(
                format_args!("the card did not answer within {} s", CLOSE.as_secs()),
                "leave it; the journal repairs it",
            );
        }
    }
}

struct Work {
    state: State,
    card: Card,
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
        let slot = match &self.handoff.boot {
            None => Ok("there is no slot to mark (started without the bootloader)".to_owned()),
            Some(boot) => slots::mark_good(boot, self.card.boot_partition.as_deref()),
        };
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
