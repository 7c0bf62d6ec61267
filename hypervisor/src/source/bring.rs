// SPDX-License-Identifier: Apache-2.0
//! Bringing what the head in force asks for: root file systems of workloads, and the next operating system.
//!
//! Fetching takes turns with looking at the rack repository: a turn ends after a time, or when somebody asks for a look, and the next
//! one goes on from there.
//!
//! Nothing is used because it lies in the cache: in each run of this program, and again when the trust root changes, an
//! image's manifest is verified by its signatures and its file by the manifest, before a workload gets it.

use super::Source;
use super::pace::dice;
use super::turns::{BringError, Cut, FIRST_TURN, Nudges, next_turn};
use crate::console::say;
use crate::files;
use crate::handoff::Given;
use crate::init;
use crate::release::{self, Step, Tries};
use crate::shared::unix_time;
use crate::work::Order;
use racklet_api::init::Op;
use racklet_fetch::cache::Pin;
use racklet_fetch::limits::{Limits, Timeouts};
use racklet_fetch::progress::Phase;
use racklet_fetch::remote::Remote;
use racklet_fetch::tls::Credentials;
use racklet_rack as rack;
use racklet_tell::error::chain;
use racklet_trust::manifest::{Kind, Machine, NotForUs};
use racklet_trust::{Architecture, Digest, Manifest, TrustRoot, Verified};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Waits between tries for one image: doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// How long workloads may take to stop before a restart, whatever their grace.
const DRAIN: Duration = Duration::from_secs(90);

/// What has been brought, and what could not be.
#[derive(Default)]
pub(super) struct Brought {
    /// Verified in this run, under the trust root in force.
    verified: BTreeSet<Digest>,
    retries: BTreeMap<Digest, Retry>,
    /// What a turn was too short for, and how long the next one may take.
    turns: BTreeMap<Digest, Duration>,
    /// The restart that is planned.
    restart: Option<(Digest, Instant)>,
    /// Whether giving up was said.
    gave_up: Option<Digest>,
    /// The generation after which unused images were removed last.
    tidied: Option<u64>,
}

struct Retry {
    at: Instant,
    wait: Duration,
}

impl Brought {
    /// Another trust root: what counted under the old one is looked at again.
    pub(super) fn doubt(&mut self) {
        self.verified.clear();
        self.retries.clear();
    }

    fn due(&self, digest: Digest) -> bool {
        self.retries
            .get(&digest)
            .is_none_or(|retry| retry.at <= Instant::now())
    }

    fn turn(&self, digest: Digest) -> Duration {
        self.turns.get(&digest).copied().unwrap_or(FIRST_TURN)
    }

    /// A turn ended before it was done. Where it was too short, other things have theirs first.
    fn cut(&mut self, digest: Digest, cut: Cut) {
        let turn = next_turn(self.turn(digest), cut);
        self.turns.insert(digest, turn);
        if cut == Cut::Over {
            self.failed(digest);
        }
    }

    fn arrived(&mut self, digest: Digest) {
        self.retries.remove(&digest);
        self.turns.remove(&digest);
        self.verified.insert(digest);
    }

    fn failed(&mut self, digest: Digest) -> Duration {
        let wait = self
            .retries
            .get(&digest)
            .map_or(FIRST_RETRY, |retry| (retry.wait * 2).min(LAST_RETRY));
        let at = Instant::now() + wait;
        self.retries.insert(digest, Retry { at, wait });
        wait
    }

    /// How long until something is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let retries = self.retries.values().map(|retry| retry.at);
        let restart = self.restart.iter().map(|(_, at)| *at);
        retries
            .chain(restart)
            .min()
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl Source {
    /// Brings at most one thing; true when there is more to do at once.
    pub(super) fn bring(&mut self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let pins: Vec<rack::Pin> = desired
            .workloads
            .values()
            .map(|w| w.rootfs.clone())
            .collect();
        let wanted: BTreeSet<Digest> = pins.iter().map(|pin| pin.manifest.into()).collect();
        let release = desired.release.as_ref();
        let release = release.map(|pin| Digest::from(pin.manifest));
        let still = |digest: &Digest| wanted.contains(digest) || release == Some(*digest);
        self.brought.retries.retain(|digest, _| still(digest));
        self.brought.turns.retain(|digest, _| still(digest));
        for pin in pins {
            let digest = pin.manifest.into();
            if !self.brought.verified.contains(&digest) && self.brought.due(digest) {
                self.bring_image(&pin);
                return true;
            }
        }
        let more = self.bring_release();
        self.tidy();
        more
    }

    fn bring_image(&mut self, pin: &rack::Pin) {
        let digest: Digest = pin.manifest.into();
        match self.image(pin) {
            Ok(received) => {
                if received > 0 {
                    say(&format!(
                        "image {} {} is here: {received} bytes received",
                        pin.name,
                        short(digest)
                    ));
                }
                self.brought.arrived(digest);
                let mut view = self.shared.view();
                view.images.remove(&digest.to_string());
                view.ready.insert(digest.to_string());
                drop(view);
                self.orders.give(Order::Look);
            }
            Err(error) => {
                if let Some(cut) = error.cut() {
                    return self.brought.cut(digest, cut);
                }
                let text = chain(&error);
                let wait = self.brought.failed(digest);
                let message = format!("image {} {}: {text}", pin.name, short(digest));
                let news = self
                    .shared
                    .view()
                    .images
                    .insert(digest.to_string(), message.clone())
                    != Some(message.clone());
                if news {
                    say(&format!("{message}; next try in {} s", wait.as_secs()));
                }
                self.orders.give(Order::Look);
            }
        }
    }

    /// The image complete and verified; how many bytes that took.
    fn image(&mut self, pin: &rack::Pin) -> Result<u64, BringError> {
        let digest: Digest = pin.manifest.into();
        let root = self.root();
        // What is cached may be damaged or no longer be vouched for: then it is fetched again, and that says what is wrong.
        match self.cached_image(digest, &root) {
            Ok(Some(manifest)) => {
                self.fits(&manifest, 0)?;
                return Ok(0);
            }
            Ok(None) => {}
            Err(error) => say(&format!(
                "image {} {}: {}; fetching it again",
                pin.name,
                short(digest),
                chain(&error)
            )),
        }
        let (manifest, received) = self.fetch(Kind::Artifact, pin, &root, &Limits::ARTIFACT)?;
        self.fits(&manifest, 0)?;
        self.cache.check_rootfs(digest, &manifest)?;
        Ok(received)
    }

    fn cached_image(
        &self,
        digest: Digest,
        root: &Verified<TrustRoot>,
    ) -> Result<Option<Verified<Manifest>>, BringError> {
        let Some(manifest) = self.cache.manifest(Kind::Artifact, digest, root)? else {
            return Ok(None);
        };
        self.cache.check_rootfs(digest, &manifest)?;
        Ok(Some(manifest))
    }

    /// The time that expiry dates are judged by, as in the bootstrap.
    fn vouched_time(&self) -> u64 {
        let signed = self.accepted.as_ref().map_or(0, |tree| tree.head().time);
        let Given { tray, handoff, .. } = &self.given;
        handoff.time.source.vouched(
            !tray.time_servers.is_empty(),
            unix_time(),
            handoff.time_floor.max(signed),
        )
    }

    fn fits(&self, manifest: &Verified<Manifest>, floor: u64) -> Result<(), NotForUs> {
        manifest.accept(&Machine {
            architecture: Architecture::HERE,
            board: &self.given.tray.board,
            now: Some(self.vouched_time()),
            floor,
        })
    }

    fn fetch(
        &mut self,
        kind: Kind,
        pin: &rack::Pin,
        root: &Verified<TrustRoot>,
        limits: &Limits,
    ) -> Result<(Verified<Manifest>, u64), BringError> {
        let digest: Digest = pin.manifest.into();
        let wanted = Pin {
            kind,
            name: pin.name.to_string(),
            manifest: digest,
        };
        let mut config = self.remote_config()?;
        config.timeouts.pack = Timeouts::default().pack;
        config.pulse = Arc::new(Nudges(Arc::clone(&self.shared)));
        if let Some(url) = &pin.repository {
            config.url = url.as_str().parse()?;
            // The rack repository's secrets are for the rack repository.
            config.credentials = Credentials::default();
        }
        let mut remote = Remote::new(&config)?;
        remote.finish_by(Some(Instant::now() + self.brought.turn(digest)));
        let shared = Arc::clone(&self.shared);
        let mut shown = 0;
        let mut progress = move |phase: Phase, bytes: u64| {
            if phase == Phase::Receiving && bytes >= shown + (1 << 20) {
                shown = bytes;
                let text = format!(
                    "its root file system is being fetched: {} MiB so far",
                    bytes >> 20
                );
                shared.view().images.insert(digest.to_string(), text);
            }
        };
        let keep = self.keep();
        let arrived = self
            .cache
            .fetch(&mut remote, &wanted, root, &keep, limits, &mut progress);
        self.shared.view().received += remote.received();
        let arrived = arrived.map_err(Box::new)?;
        if let Some(reason) = &arrived.not_cached {
            say(&format!(
                "{} {} is not cached: {}",
                wanted.name,
                short(digest),
                chain(reason)
            ));
        }
        Ok((arrived.manifest, arrived.report.received))
    }

    /// What must stay in the cache: what is wanted, what runs, and the operating systems that may be booted next.
    fn keep(&self) -> Vec<Digest> {
        let mut keep: Vec<Digest> = self.given.running().into_iter().collect();
        if let Some(desired) = &self.desired {
            keep.extend(desired.release.iter().map(|pin| Digest::from(pin.manifest)));
            keep.extend(
                desired
                    .workloads
                    .values()
                    .map(|w| Digest::from(w.rootfs.manifest)),
            );
        }
        keep.extend(
            self.shared
                .view()
                .workloads
                .iter()
                .filter_map(|w| w.rootfs.parse::<Digest>().ok()),
        );
        keep
    }

    /// Once everything is as wanted, what nobody needs any more is removed.
    fn tidy(&mut self) {
        let converged = self.shared.view().converged;
        if converged.is_none() || converged == self.brought.tidied {
            return;
        }
        let keep = self.keep();
        if let Err(error) = self.cache.retain(&keep) {
            say(&format!("images that nothing needs stay for now: {error}"));
        }
        self.brought.tidied = converged;
    }

    fn bring_release(&mut self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let pin = desired.release.clone();
        let longest = desired.reboot_wait.as_secs();
        let pinned: Option<Digest> = pin.as_ref().map(|pin| pin.manifest.into());
        let cached = pinned.is_some_and(|digest| self.brought.verified.contains(&digest));
        let tries = self.tries();
        let step = release::decide(
            pinned,
            self.given.running(),
            cached,
            tries,
            longest,
            dice().into(),
        );
        let (Some(pin), Some(digest)) = (pin, pinned) else {
            self.show_release(None, None);
            return false;
        };
        match step {
            Step::Nothing => {
                self.brought.restart = None;
                self.show_release(None, None);
            }
            Step::GiveUp => {
                let text = "the tray was restarted for it several times and came up with another one: see its console; a new pin is tried again";
                self.show_release(Some(digest), Some(text));
                if self.brought.gave_up.replace(digest) != Some(digest) {
                    say(&format!(
                        "operating system {} {}: {text}",
                        pin.name,
                        short(digest)
                    ));
                }
            }
            Step::Fetch if self.brought.due(digest) => {
                self.show_release(Some(digest), Some("it is being fetched"));
                self.bring_payload(&pin, digest);
                return true;
            }
            Step::Fetch => {}
            Step::RestartIn(seconds) => match self.brought.restart {
                Some((planned, at)) if planned == digest => {
                    if at <= Instant::now() {
                        self.restart(digest, tries);
                    }
                }
                _ => {
                    say(&format!(
                        "operating system {} {}: restarting into it in {seconds} s",
                        pin.name,
                        short(digest)
                    ));
                    self.brought.restart =
                        Some((digest, Instant::now() + Duration::from_secs(seconds)));
                    self.show_release(
                        Some(digest),
                        Some("it is here; the tray restarts into it shortly"),
                    );
                    return seconds == 0;
                }
            },
        }
        false
    }

    fn bring_payload(&mut self, pin: &rack::Pin, digest: Digest) {
        let root = self.root();
        let running = &self.given.handoff.payload;
        let floor = if running.name == pin.name.as_str() {
            running.version
        } else {
            0
        };
        let limits = Limits::PAYLOAD;
        let result =
            self.fetch(Kind::Payload, pin, &root, &limits)
                .and_then(|(manifest, received)| {
                    self.fits(&manifest, floor)?;
                    Ok((manifest.version, received))
                });
        match result {
            Ok((version, received)) => {
                say(&format!(
                    "operating system {} {version} is here: {received} bytes received",
                    pin.name
                ));
                self.brought.arrived(digest);
            }
            Err(error) => {
                if let Some(cut) = error.cut() {
                    return self.brought.cut(digest, cut);
                }
                let wait = self.brought.failed(digest);
                let text = chain(&error);
                self.show_release(Some(digest), Some(&text));
                say(&format!(
                    "operating system {} {}: {text}; next try in {} s",
                    pin.name,
                    short(digest),
                    wait.as_secs()
                ));
            }
        }
    }

    /// Stops the workloads in order and has `init` restart the machine.
    fn restart(&mut self, digest: Digest, tries: Tries) {
        self.brought.restart = None;
        let record = serde_json::to_vec(&tries.next(digest)).expect("two plain fields");
        let path = self.tries_file();
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| files::replace(&path, &record));
        if let Err(error) = written {
            // Without the record a payload that does not come up would restart the tray for ever.
            say(&format!(
                "no restart into another operating system: {}: {error}",
                path.display()
            ));
            self.brought.failed(digest);
            return;
        }
        say("stopping workloads to restart into another operating system");
        let (done, stopped) = sync_channel(1);
        self.orders.give(Order::Drain(done));
        if stopped.recv_timeout(DRAIN).is_err() {
            say("some workloads did not stop in time");
        }
        if let Err(error) = init::ask(&self.options.socket("init"), Op::Reboot) {
            say(&format!(
                "no restart: {}; the workloads start again",
                chain(&error)
            ));
            self.want_again();
        }
    }

    fn tries_file(&self) -> PathBuf {
        self.options.state.join("hypervisor/restarts.json")
    }

    fn tries(&self) -> Tries {
        let bytes = files::read_bounded(&self.tries_file(), 4096).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn show_release(&self, wanted: Option<Digest>, message: Option<&str>) {
        let mut view = self.shared.view();
        view.release.wanted = wanted.map(|digest| digest.to_string());
        view.release.message = match message {
            Some(text) => Some(text.to_owned()),
            None => self.given.handoff.payload.fallback.clone(),
        };
    }
}

fn short(digest: Digest) -> String {
    digest.to_string()[..10].to_owned()
}
