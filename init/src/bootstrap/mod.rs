// SPDX-License-Identifier: Apache-2.0
//! The bootstrap role: network, time, rack repository, payload, kexec. What to do next is decided in [`decide`]; here it is
//! done and told.

mod decide;
mod kexec;
mod network;
mod payload;
mod phases;
mod repository;
mod signs;
mod time;

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

use racklet_api::handoff::{BootInfo, Card, Handoff, Head, PayloadReport};
use racklet_api::tray::TrayConfig;
use racklet_linux::clock;
use racklet_net::backoff::{Backoff, Random};
use racklet_trust::root::RootError;
use racklet_trust::{Digest, TrustRoot, Verified};

use crate::console::{Topic, seconds, size};
use crate::mounts::{self, MountError};
use crate::pid1::{self, HandedError};
use crate::state::State;
use crate::state::boots::TRIES;
use decide::{Attempt, Next, Observed, Why};
use network::Network;
use payload::{Judge, PAYLOAD, Payloads};
use phases::Phases;
use racklet_tell::error::{Chain, chain};
use repository::{REPOSITORY, Repository, RepositoryError, Wanted, digest_of};
use signs::SignsOfLife;
use time::Time;

const INIT: Topic = Topic("init");
const NETWORK: Topic = Topic("network");
const BOOT: Topic = Topic("boot");
/// How long one attempt waits for the network.
const NETWORK_WAIT: Duration = Duration::from_secs(15);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why the bootstrap cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error("{0}")]
    Handed(
        #[source]
        #[from]
        HandedError,
    ),
    #[error("the image holds no trust root; make it again with `racklet image build`")]
    NoTrustRoot,
    #[error("the trust root in the image")]
    TrustRoot(
        #[source]
        #[from]
        RootError,
    ),
    #[error(
        "the image's trust root is of rack {0}, its tray configuration of rack {1}; make it again"
    )]
    OtherRack(String, String),
    #[error("{0}")]
    Mount(
        #[source]
        #[from]
        MountError,
    ),
    #[error("open the cache")]
    Cache(#[source] io::Error),
    #[error("{0}")]
    Repository(
        #[source]
        #[from]
        RepositoryError,
    ),
    #[error("nothing to start after {0} minutes of trying")]
    NothingToStart(u64),
}

/// Runs until a payload starts. Comes back only with a reason to reboot.
pub(crate) fn run(tray: &TrayConfig) -> Result<Infallible, Fatal> {
    let mut bootstrap = Bootstrap::begin(tray)?;
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut random = Random::new(network::seed());
    loop {
        match bootstrap.decide() {
            Next::Try => bootstrap.attempt(),
            Next::Wait => {
                let pause = backoff.wait(&mut random);
                bootstrap.tell(format_args!("try again in {}", seconds(pause)));
                bootstrap.pause(pause);
                bootstrap.attempt();
            }
            Next::Boot(digest, why) => {
                bootstrap.tell("start a payload from the cache");
                bootstrap.start(digest, why);
            }
            Next::Reboot => {
                bootstrap.tell("give up");
                return Err(Fatal::NothingToStart(decide::GIVE_UP.as_secs() / 60));
            }
        }
    }
}

struct Bootstrap<'a> {
    tray: &'a TrayConfig,
    boot: Option<BootInfo>,
    card: Card,
    began: Duration,
    phases: Phases,
    signs: SignsOfLife,
    state: Option<State>,
    time: Time,
    network: Option<Network>,
    repository: Repository,
    payloads: Payloads,
    wanted: Option<Wanted>,
    /// When the first attempt began.
    asking: Option<Duration>,
    attempts: u32,
    attempt: Attempt,
    /// Why it failed, until that is told.
    failed: Option<Failed>,
    /// Payloads that could not be loaded since the last attempt.
    spoiled: Vec<Digest>,
}

/// Why an attempt brought nothing to start.
struct Failed {
    topic: Topic,
    reason: String,
    lasting: bool,
}

impl<'a> Bootstrap<'a> {
    fn begin(tray: &'a TrayConfig) -> Result<Self, Fatal> {
        let mut phases = Phases::begin("state");
        let began = clock::since_boot();
        let root = pid1::handed("/racklet/trust-root.json")?.ok_or(Fatal::NoTrustRoot)?;
        let root = Verified::<TrustRoot>::baked(&root)?;
        if root.rack().to_string() != tray.rack {
            return Err(Fatal::OtherRack(root.rack().to_string(), tray.rack.clone()));
        }
        let boot: Option<BootInfo> = pid1::handed_json("/racklet/boot.json")?;
        if let Some(boot) = &boot {
            INIT.say(format_args!(
                "slot {}, start {} since it was last healthy",
                boot.slot, boot.tries
            ));
        }
        let signs = SignsOfLife::begin();
        let mut card = pid1::card();
        let mut state = State::open(&tray.rack, &card, true)?;
        card.floors_lost = state.floors_lost();
        let time = Time::begin(tray.built.max(state.floors().time));
        let payloads = match Payloads::open(&state, &tray.board) {
            Ok(payloads) => payloads,
            Err(error) => {
                state = state.into_memory(&error)?;
                Payloads::open(&state, &tray.board).map_err(Fatal::Cache)?
            }
        };
        let mut repository = Repository::open(tray, root, &state)?;
        if let Some(tree) = &repository.tree {
            // Where floors were lost, the kept head says again what they were, as far as heads are concerned.
            if let Err(error) = state.raise(&tree.head().floors()) {
                REPOSITORY.failed(Chain(&error), "go on; the floors hold for this boot");
            }
        }
        repository.remote.pulse = signs.pulse();
        let wanted = repository.wanted(tray, &state).ok();
        phases.enter("network");
        Ok(Self {
            tray,
            boot,
            card,
            began,
            phases,
            signs,
            state: Some(state),
            time,
            network: None,
            repository,
            payloads,
            wanted,
            asking: None,
            attempts: 0,
            attempt: Attempt::None,
            failed: None,
            spoiled: Vec::new(),
        })
    }

    fn state(&self) -> &State {
        self.state
            .as_ref()
            .expect("closed only on the way out of this program")
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            root: self.repository.root(),
            floors: self.state().floors(),
            now: self.time.trusted_now(),
        }
    }

    fn decide(&self) -> Next {
        self.observed(decide::next)
    }

    /// What `ask` says to what is known now.
    fn observed<T>(&self, ask: impl FnOnce(&Observed<'_>) -> T) -> T {
        let candidates =
            self.payloads
                .candidates(self.judge(), self.state().boots(), &self.spoiled);
        let now = clock::since_boot();
        ask(&Observed {
            elapsed: now.saturating_sub(self.began),
            asking: self
                .asking
                .map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            attempts: self.attempts,
            attempt: self.attempt,
            pinned: self
                .wanted
                .as_ref()
                .map(|wanted| digest_of(&wanted.payload)),
            candidates: &candidates,
        })
    }

    /// Tells why the newest attempt brought nothing, once it is known what happens next.
    fn tell(&mut self, next: impl Display) {
        if let Some(failed) = self.failed.take() {
            failed.topic.failed(failed.reason, next);
        } else if let (Attempt::Done, Next::Wait, Some(wanted)) =
            (self.attempt, self.decide(), &self.wanted)
        {
            let reason = format!(
                "{} was started {TRIES} times and never healthy; waiting for another",
                wanted.payload.name
            );
            PAYLOAD.failed(reason, next);
        }
    }

    /// Waits, and keeps the network alive meanwhile.
    fn pause(&mut self, pause: Duration) {
        let until = clock::since_boot() + pause;
        let signs = &mut self.signs;
        if let Some(network) = &mut self.network
            && network.pump(until, &mut || signs.give()).is_err()
        {
            self.network = None;
        }
        loop {
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_secs(1)));
            self.signs.give();
        }
    }

    /// Learns the newest head and gets what it pins.
    fn attempt(&mut self) {
        self.attempts += 1;
        self.asking.get_or_insert_with(clock::since_boot);
        // Before what could not be loaded gets another chance: as long as that is all there is, nothing can start instead.
        let end = self
            .observed(decide::time_left)
            .map(|left| clock::since_boot() + left);
        self.spoiled.clear();
        self.attempt = match self.learn_and_fetch(end) {
            Ok(()) => Attempt::Done,
            Err(failed) => {
                let kind = if failed.lasting {
                    Attempt::Lasting
                } else {
                    Attempt::Passing
                };
                self.failed = Some(failed);
                kind
            }
        };
        self.signs.give();
    }

    /// All of it until `end`, on the clock since boot, where there is one.
    fn learn_and_fetch(&mut self, end: Option<Duration>) -> Result<(), Failed> {
        self.phases.enter("network");
        let signs = &mut self.signs;
        let network = match &mut self.network {
            Some(network) => network,
            empty => empty
                .insert(Network::open(self.tray).map_err(|error| passing(NETWORK, Chain(&error)))?),
        };
        let until = clock::since_boot() + NETWORK_WAIT;
        let until = end.map_or(until, |end| until.min(end));
        let up = network.wait(until, &mut || signs.give());
        up.map_err(|error| passing(NETWORK, Chain(&error)))?;

        self.phases.enter("time");
        self.time
            .ask(&self.tray.time_servers, &network.time_servers());
        signs.give();

        self.phases.enter("repository");
        let failed = |error: &RepositoryError| Failed {
            topic: REPOSITORY,
            reason: Chain(error).to_string(),
            lasting: error.is_lasting(),
        };
        let finish_by = end.map(|end| Instant::now() + end.saturating_sub(clock::since_boot()));
        let mut remote = self.repository.connect().map_err(|error| failed(&error))?;
        remote.finish_by(finish_by);
        let state = self
            .state
            .as_mut()
            .expect("closed only on the way out of this program");
        self.repository
            .update(&mut remote, state, &mut self.signs)
            .map_err(|error| failed(&error))?;
        self.time.raise(self.state().floors().time);
        let wanted = self.repository.wanted(self.tray, self.state());
        let wanted = wanted.map_err(|error| lasting(REPOSITORY, Chain(&error)))?;
        let pin = wanted.payload.clone();
        let keep = wanted.images.iter().copied().chain([digest_of(&pin)]);
        let keep: Vec<Digest> = keep.chain(self.state().boots().good()).collect();
        self.wanted = Some(wanted);

        self.phases.enter("payload");
        let judge = Judge {
            root: self.repository.root(),
            floors: self
                .state
                .as_ref()
                .expect("closed only on the way out of this program")
                .floors(),
            now: self.time.trusted_now(),
        };
        let has = self
            .payloads
            .has(&pin, judge, &mut self.signs)
            .map_err(|error| lasting(PAYLOAD, Chain(&error)))?;
        if has {
            return Ok(());
        }
        let mut other = match &pin.repository {
            Some(url) => Some(
                self.repository
                    .connect_to(url.as_str())
                    .map_err(|error| failed(&error))?,
            ),
            None => None,
        };
        if let Some(other) = &mut other {
            other.finish_by(finish_by);
        }
        let remote = other.as_mut().unwrap_or(&mut remote);
        let fetched = self
            .payloads
            .fetch(remote, &pin, judge, &keep, &mut self.signs);
        fetched.map_err(|error| Failed {
            topic: PAYLOAD,
            reason: Chain(&error).to_string(),
            lasting: error.is_lasting(),
        })?;
        Ok(())
    }

    /// Starts a payload; comes back when that failed.
    fn start(&mut self, digest: Digest, why: Why) {
        self.phases.enter("load");
        let error = match self.try_start(digest, why) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        PAYLOAD.failed(error, "start another one, or fetch it anew");
        self.spoiled.push(digest);
        self.attempt = Attempt::Passing;
    }

    fn try_start(&mut self, digest: Digest, why: Why) -> Result<Infallible, String> {
        let taken = self
            .payloads
            .take(digest, self.repository.root(), &mut self.signs);
        let ready = taken.map_err(|error| chain(&error))?;
        let fallback = fallback(why);
        let (name, version) = (ready.manifest.name.clone(), ready.manifest.version);
        let tries = self.state().boots().tries(digest) + 1;
        BOOT.say(format_args!(
            "{name}-{version}{}{}",
            if tries > 1 {
                format!(", start {tries} of {TRIES}")
            } else {
                String::new()
            },
            fallback
                .as_ref()
                .map_or_else(String::new, |why| format!(" ({why})")),
        ));
        let handoff = self.handoff(digest, &ready.manifest, fallback);
        let roots = [self.repository.root(), self.repository.baked()];
        let archive = kexec::handoff_archive(roots, self.tray, &handoff, &self.card)
            .map_err(|e| chain(&e))?;
        let sizes: Vec<String> = ready
            .files
            .iter()
            .map(|(name, bytes)| format!("{name} {}", size(bytes.len() as u64)))
            .collect();
        kexec::load(ready, self.tray, &archive).map_err(|error| chain(&error))?;
        BOOT.say(format_args!(
            "loaded from sealed memory: {}, handoff {}",
            sizes.join(", "),
            size(archive.len() as u64)
        ));

        // Counted before it is used: a kernel that hangs has had its try.
        self.phases.enter("leave");
        let mut state = self.state.take().expect("closed only here");
        if let Err(error) = state.keep_boots(state.boots().clone().started(digest)) {
            BOOT.failed(Chain(&error), "start it uncounted");
        }
        self.signs.give();
        let phases = std::mem::replace(&mut self.phases, Phases::begin("")).finish();
        BOOT.say(format_args!(
            "handing over after {}",
            seconds(clock::since_boot().saturating_sub(self.began))
        ));
        println!("racklet: phases {phases}");
        state.close();
        mounts::kernel_talk(mounts::KernelTalk::All);
        let error = racklet_linux::kexec::jump();
        // The state is closed and the kernel would not go: only the firmware can help now.
        pid1::fatal(chain(&error))
    }

    fn handoff(
        &self,
        digest: Digest,
        manifest: &racklet_trust::Manifest,
        fallback: Option<String>,
    ) -> Handoff {
        let floors = self.state().floors();
        Handoff {
            v: 1,
            head: floors.head.map(|(id, generation)| Head {
                commit: id.to_string(),
                generation,
            }),
            trust_root: self.repository.root().version(),
            time_floor: floors.time.max(self.tray.built),
            time: self.time.report(),
            boot: self.boot.clone(),
            payload: PayloadReport {
                manifest: digest.to_string(),
                name: manifest.name.clone(),
                version: manifest.version,
                fallback,
            },
            lease: self.network.as_ref().and_then(Network::lease),
            persistent: self.state().persistent(),
        }
    }
}

fn passing(topic: Topic, reason: impl Display) -> Failed {
    Failed {
        topic,
        reason: reason.to_string(),
        lasting: false,
    }
}

fn lasting(topic: Topic, reason: impl Display) -> Failed {
    Failed {
        topic,
        reason: reason.to_string(),
        lasting: true,
    }
}

/// For people, when it is not simply the pinned one.
fn fallback(why: Why) -> Option<String> {
    match why {
        Why::Pinned => None,
        Why::PinnedBefore => {
            Some("pinned by the head accepted before; the server could not be asked".to_owned())
        }
        Why::Unavailable => Some("from the cache; the pinned payload is not available".to_owned()),
        Why::PinnedFails => Some(format!(
            "the pinned payload was started {TRIES} times and never healthy"
        )),
        Why::LastResort => Some("the last resort: every payload here has failed before".to_owned()),
    }
}
