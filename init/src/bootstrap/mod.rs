// SPDX-License-Identifier: Apache-2.0
//! The bootstrap role: network, time, rack repository, payload, kexec. Each state is a type, and a step to the next one consumes it;
//! one that fails gives back the state from which the next attempt goes on. When to try, how long to wait and what to start is decided
//! in [`decide`].
//!
//! ```text
//!   Begun ──go_online──> Online ──learn──> Learnt ──fetch──┐
//!     ^ │                 ^ │ ^                            │
//!     │ │ the cards fail  │ │ └──── each attempt ──────────┘
//!     └─┼─────────────────┘ │
//!       └───────take────────┴──> Ready ──load──> Left ──jump──> the next kernel
//! ```

mod begun;
mod decide;
mod kexec;
mod learnt;
mod network;
mod online;
mod own;
mod payload;
mod phases;
mod ready;
mod signs;
mod time;
mod wanted;

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use racklet_api::handoff::Lease;
use racklet_api::tray::TrayConfig;
use racklet_fetch::url::UrlError;
use racklet_follow::Hold;
use racklet_linux::clock;
use racklet_net::backoff::{Backoff, Random};
use racklet_tell::error::Chain;
use racklet_trust::Digest;
use racklet_trust::root::RootError;

use crate::console::{Topic, seconds};
use crate::mounts::MountError;
use crate::pid1::HandedError;
use crate::state::boots::TRIES;
use begun::Begun;
use decide::{Attempt, Next, Observed, Why};
use network::Network;
use online::Online;
use payload::PAYLOAD;
use ready::Ready;
use wanted::Wanted;

const INIT: Topic = Topic("init");
const NETWORK: Topic = Topic("network");
const REPOSITORY: Topic = Topic("repository");
const BOOT: Topic = Topic("boot");
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why the bootstrap cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error(transparent)]
    Handed(#[from] HandedError),
    #[error("the image holds no trust root; make it again with `racklet image build`")]
    NoTrustRoot,
    #[error("the trust root in the image")]
    TrustRoot(#[from] RootError),
    #[error(
        "the image's trust root is of rack {0}, its tray configuration of rack {1}; make it again"
    )]
    OtherRack(String, String),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("open the cache")]
    Cache(#[source] io::Error),
    #[error("the repository's address")]
    Repository(#[source] UrlError),
    #[error("nothing to start after {0} minutes of trying")]
    NothingToStart(u64),
}

/// From where attempts are made, and payloads of the cache are started.
enum Reached<'a> {
    Begun(Begun<'a>),
    Online(Online<'a>),
}

/// A step that failed.
struct Back<'a> {
    /// From where to go on.
    at: Reached<'a>,
    failed: Failed,
}

impl<'a> Back<'a> {
    fn to(at: Reached<'a>, failed: Failed) -> Box<Self> {
        Box::new(Self { at, failed })
    }
}

/// Why a step failed.
struct Failed {
    topic: Topic,
    reason: String,
    /// Trying again soon makes no sense.
    lasting: bool,
    /// For how long the server is to be left alone.
    hold: Hold,
}

impl Failed {
    fn passing(topic: Topic, reason: impl Display) -> Self {
        Self {
            topic,
            reason: reason.to_string(),
            lasting: false,
            hold: Hold::default(),
        }
    }

    fn lasting(topic: Topic, reason: impl Display) -> Self {
        Self {
            lasting: true,
            ..Self::passing(topic, reason)
        }
    }
}

/// Runs until a payload starts. Comes back only with a reason to reboot.
pub(crate) fn run(tray: &TrayConfig) -> Result<Infallible, Fatal> {
    let mut at = Reached::Begun(Begun::begin(tray)?);
    let mut asked = Asked::default();
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut random = Random::new(network::seed());
    loop {
        let next = asked.observed(at.begun(), decide::next);
        at = match next {
            Next::Try => asked.attempt(at),
            Next::Wait => {
                let pause = asked.hold() + backoff.wait(&mut random);
                let told = format_args!("try again in {}", seconds(pause));
                asked.tell(at.begun(), next, told);
                asked.attempt(at.pause(pause))
            }
            Next::Boot(digest, why) => {
                asked.tell(at.begun(), next, "start a payload from the cache");
                match at.take(digest, why).and_then(Ready::load) {
                    Ok(left) => left.jump(),
                    Err(back) => asked.spoil(digest, *back),
                }
            }
            Next::Reboot => {
                asked.tell(at.begun(), next, "give up");
                let tried = clock::since_boot().saturating_sub(at.begun().since);
                return Err(Fatal::NothingToStart(tried.as_secs() / 60));
            }
        };
    }
}

impl<'a> Reached<'a> {
    fn begun(&self) -> &Begun<'a> {
        match self {
            Self::Begun(begun) => begun,
            Self::Online(online) => &online.begun,
        }
    }

    fn begun_mut(&mut self) -> &mut Begun<'a> {
        match self {
            Self::Begun(begun) => begun,
            Self::Online(online) => &mut online.begun,
        }
    }

    fn into_parts(self) -> (Begun<'a>, Option<Network>) {
        match self {
            Self::Begun(begun) => (begun, None),
            Self::Online(Online { begun, network }) => (begun, Some(*network)),
        }
    }

    /// What to tell the next stage of the network.
    fn lease(&self) -> Option<Lease> {
        match self {
            Self::Begun(_) => None,
            Self::Online(online) => online.network.lease(),
        }
    }

    /// Waits, and keeps the network alive meanwhile.
    fn pause(self, pause: Duration) -> Self {
        let until = clock::since_boot() + pause;
        let mut at = match self {
            Self::Online(online) => online.pump(until),
            begun @ Self::Begun(_) => begun,
        };
        loop {
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() {
                return at;
            }
            std::thread::sleep(left.min(Duration::from_secs(1)));
            at.begun_mut().signs.give();
        }
    }

    /// Learns the newest head and gets what it pins, until `end` on the clock since boot, where there is one.
    fn learn_and_fetch(self, end: Option<Duration>) -> Result<Self, Box<Back<'a>>> {
        let online = match self {
            Self::Begun(begun) => begun.go_online()?,
            Self::Online(online) => online,
        };
        online.learn(end)?.fetch(end).map(Self::Online)
    }

    /// The files of a payload that could start: from memory, or read from the cache.
    fn take(mut self, digest: Digest, why: Why) -> Result<Ready<'a>, Box<Back<'a>>> {
        let begun = self.begun_mut();
        begun.phases.enter("load");
        let judge = begun::judge(&begun.follower, &begun.state, &begun.time);
        match begun.payloads.take(digest, judge, &mut begun.signs) {
            Ok(payload) => Ok(Ready {
                at: self,
                payload,
                why,
            }),
            Err(error) => Err(Back::to(self, Failed::passing(PAYLOAD, Chain(&error)))),
        }
    }
}

/// What was tried, for [`decide`].
#[derive(Default)]
struct Asked {
    /// When the first attempt began, on the clock since boot.
    since: Option<Duration>,
    attempts: u32,
    attempt: Attempt,
    /// Why it failed, until that is told.
    failed: Option<Failed>,
    /// For how long the server wants to be left alone, and how often in a row it refused us.
    hold: Hold,
    refusals: u32,
    /// Payloads that could not be loaded since the last attempt.
    spoiled: Vec<Digest>,
}

impl Asked {
    /// The least time until the server is asked again.
    fn hold(&self) -> Duration {
        self.hold.wait(self.refusals)
    }

    /// What `ask` says to what is known now.
    fn observed<T>(&self, begun: &Begun<'_>, ask: impl FnOnce(&Observed<'_>) -> T) -> T {
        let now = clock::since_boot();
        ask(&Observed {
            elapsed: now.saturating_sub(begun.since),
            asking: self
                .since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            attempts: self.attempts,
            attempt: self.attempt,
            refused: !self.hold().is_zero(),
            pinned: begun.wanted.as_ref().map(Wanted::digest),
            candidates: &begun.candidates(&self.spoiled),
        })
    }

    fn attempt<'a>(&mut self, at: Reached<'a>) -> Reached<'a> {
        self.attempts += 1;
        self.since.get_or_insert_with(clock::since_boot);
        // Before what could not be loaded gets another chance: as long as that is all there is, nothing can start instead.
        let left = self.observed(at.begun(), decide::time_left);
        self.spoiled.clear();
        let mut at = match at.learn_and_fetch(left.map(|left| clock::since_boot() + left)) {
            Ok(at) => {
                self.attempt = Attempt::Done;
                (self.hold, self.refusals) = (Hold::default(), 0);
                at
            }
            Err(back) => {
                let Back { at, failed } = *back;
                self.attempt = match failed.lasting {
                    true => Attempt::Lasting,
                    false => Attempt::Passing,
                };
                self.hold = failed.hold;
                self.refusals = match failed.hold.is_refusal() {
                    true => self.refusals.saturating_add(1),
                    false => 0,
                };
                self.failed = Some(failed);
                at
            }
        };
        at.begun_mut().signs.give();
        at
    }

    /// Tells why the newest attempt brought nothing, once it is known what happens next.
    fn tell(&mut self, begun: &Begun<'_>, next: Next, told: impl Display) {
        if let Some(failed) = self.failed.take() {
            failed.topic.failed(failed.reason, told);
        } else if let (Attempt::Done, Next::Wait, Some(wanted)) =
            (self.attempt, next, &begun.wanted)
        {
            let reason = format!(
                "{} was started {TRIES} times and never healthy; waiting for another",
                wanted.payload.name
            );
            PAYLOAD.failed(reason, told);
        }
    }

    /// A payload could not be started.
    fn spoil<'a>(&mut self, digest: Digest, back: Back<'a>) -> Reached<'a> {
        let failed = back.failed;
        failed
            .topic
            .failed(failed.reason, "start another one, or fetch it anew");
        self.spoiled.push(digest);
        self.attempt = Attempt::Passing;
        back.at
    }
}
