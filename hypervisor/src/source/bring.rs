// SPDX-License-Identifier: Apache-2.0
//! Bringing what the head in force asks for: root file systems of workloads, the next operating system and the next bootstrap.
//!
//! Fetching takes turns with looking at the rack repository: a turn ends after a time, or when somebody asks for a look, and the next
//! one goes on from there.
//!
//! Nothing is used because it lies in the cache: in each run of this program, and again when the trust root changes, an
//! image's manifest is verified by its signatures and its file by the manifest, before a workload gets it.

use super::Source;
use super::release::Next;
use super::turns::{Cut, FIRST_TURN, NotBrought, Nudges, next_turn};
use crate::console::say;
use crate::handoff::Given;
use crate::shared::unix_time;
use crate::work::Order;
use racklet_api::handoff::TimeSource;
use racklet_fetch::cache::Rootfs;
use racklet_fetch::limits::Timeouts;
use racklet_fetch::progress::Phase;
use racklet_fetch::remote::Remote;
use racklet_follow::{BringError, Fetched, Here, Hold, Judge};
use racklet_rack as rack;
use racklet_tell::error::chain;
use racklet_tell::text::{short, size};
use racklet_trust::floors::Floors;
use racklet_trust::{Digest, Verified, expiry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Waits between tries for one image: doubling from the first to the last.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What has been brought, and what could not be.
#[derive(Default)]
pub(super) struct Brought {
    /// The operating system that was verified in this run, under the trust root in force, and is in the cache.
    pub(super) release: Option<Digest>,
    /// The bootstrap, likewise.
    pub(super) bootstrap: Option<Digest>,
    retries: BTreeMap<Digest, Retry>,
    /// What a turn was too short for, and how long the next one may take.
    turns: BTreeMap<Digest, Duration>,
    /// The restart that is planned, and into what.
    pub(super) restart: Option<(Next, Instant)>,
    /// When `init` is to be asked again what came of something.
    pub(super) ask_again: Option<Instant>,
    /// Whether giving up was said.
    pub(super) gave_up: Option<Digest>,
    /// What was last said about the bootstrap.
    pub(super) said: Option<(Digest, String)>,
    /// The generation after which unused images were removed last.
    tidied: Option<u64>,
}

struct Retry {
    at: Instant,
    wait: Duration,
    /// How often in a row the server refused us.
    refusals: u32,
}

impl Brought {
    /// Another trust root: what counted under the old one is looked at again.
    pub(super) fn doubt(&mut self) {
        self.release = None;
        self.bootstrap = None;
        self.retries.clear();
    }

    pub(super) fn due(&self, digest: Digest) -> bool {
        self.retries
            .get(&digest)
            .is_none_or(|retry| retry.at <= Instant::now())
    }

    fn turn(&self, digest: Digest) -> Duration {
        self.turns.get(&digest).copied().unwrap_or(FIRST_TURN)
    }

    /// A turn ended before it was done. Where it was too short, other things have theirs first.
    pub(super) fn cut(&mut self, digest: Digest, cut: Cut) {
        let turn = next_turn(self.turn(digest), cut);
        self.turns.insert(digest, turn);
        if cut == Cut::Over {
            self.failed(digest, Hold::default());
        }
    }

    pub(super) fn arrived(&mut self, digest: Digest) {
        self.retries.remove(&digest);
        self.turns.remove(&digest);
    }

    /// How long until it is tried again; `hold` is what its server said to that.
    pub(super) fn failed(&mut self, digest: Digest, hold: Hold) -> Duration {
        let before = self.retries.get(&digest);
        let wait = before.map_or(FIRST_RETRY, |retry| (retry.wait * 2).min(LAST_RETRY));
        let refusals = match hold.is_refusal() {
            true => before.map_or(0, |retry| retry.refusals).saturating_add(1),
            false => 0,
        };
        let least = wait.max(hold.wait(refusals));
        let at = Instant::now() + least;
        let retry = Retry { at, wait, refusals };
        self.retries.insert(digest, retry);
        least
    }

    /// How long until something is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let retries = self.retries.values().map(|retry| retry.at);
        let restart = self.restart.iter().map(|(_, at)| *at);
        retries
            .chain(restart)
            .chain(self.ask_again)
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
        let os = [&desired.release, &desired.bootstrap];
        let os = os.map(|pin| pin.as_ref().map(|pin| Digest::from(pin.manifest)));
        let still = |digest: &Digest| wanted.contains(digest) || os.contains(&Some(*digest));
        self.brought.retries.retain(|digest, _| still(digest));
        self.brought.turns.retain(|digest, _| still(digest));
        for pin in pins {
            let digest = pin.manifest.into();
            if !self.images.has(digest) && self.brought.due(digest) {
                self.bring_image(&pin);
                return true;
            }
        }
        let more = self.bring_os();
        self.tidy();
        more
    }

    fn bring_image(&mut self, pin: &rack::Pin) {
        let digest: Digest = pin.manifest.into();
        match self.image(pin) {
            Ok((rootfs, received)) => {
                let came = match received {
                    0 => String::new(),
                    received => format!("{} received, ", size(received)),
                };
                let verified = match rootfs.sealed() {
                    Some(_) => "verified whenever it is read (fs-verity)".to_owned(),
                    None => format!("verified now, {} hashed", size(rootfs.read())),
                };
                let (name, digest_text) = (&pin.name, short(digest));
                say(&format!(
                    "image {name} {digest_text} is here: {came}{verified}"
                ));
                self.brought.arrived(digest);
                self.images.put(digest, rootfs);
                self.orders.give(Order::Look);
            }
            Err(error) => {
                if let Some(cut) = error.cut() {
                    return self.brought.cut(digest, cut);
                }
                let text = chain(&error);
                let wait = self.brought.failed(digest, error.hold());
                if error.hold().is_refusal() && pin.repository.is_none() {
                    self.held = Some(Instant::now() + wait);
                }
                let message = format!("image {} {}: {text}", pin.name, short(digest));
                if self.images.lacks(digest, &message) {
                    say(&format!("{message}; next try in {} s", wait.as_secs()));
                }
                self.orders.give(Order::Look);
            }
        }
    }

    /// The image complete and verified; how many bytes that took.
    fn image(&self, pin: &rack::Pin) -> Result<(Verified<Rootfs>, u64), NotBrought> {
        let digest: Digest = pin.manifest.into();
        let floors = Floors::default();
        let judge = self.judge_of(&floors);
        if self.images.take_suspect(digest) {
            self.shelf.probe_image(digest);
        }
        let here = self.shelf.image(digest, judge)?;
        let images = Arc::clone(&self.images);
        let mut shown = 0;
        let mut progress = move |phase: Phase, bytes: u64| {
            if phase == Phase::Receiving && bytes >= shown + (1 << 20) {
                shown = bytes;
                let text = format!(
                    "its root file system is being fetched: {} MiB so far",
                    bytes >> 20
                );
                images.lacks(digest, &text);
            }
        };
        let fetch = |remote: &mut Remote, keep: &[Digest]| {
            (self.shelf).fetch_image(remote, pin, judge, keep, &mut progress)
        };
        let (rootfs, fetched) = self.here_or_fetched("image", pin, here, fetch)?;
        Ok((rootfs, fetched.map_or(0, |it| it.report.received)))
    }

    /// What the cache has of something pinned, or what its server gives, with what is to be said of that.
    pub(super) fn here_or_fetched<T>(
        &self,
        what: &str,
        pin: &rack::Pin,
        here: Here<T>,
        fetch: impl FnOnce(&mut Remote, &[Digest]) -> Result<(T, Fetched), BringError>,
    ) -> Result<(T, Option<Fetched>), NotBrought> {
        match here {
            Here::Yes(it) => return Ok((it, None)),
            Here::No => {}
            Here::Damaged(error) => say(&format!(
                "{what} {} {}: {}; fetching it again",
                pin.name,
                short(Digest::from(pin.manifest)),
                chain(&error)
            )),
        }
        let mut remote = self.remote_for(pin)?;
        let fetched = fetch(&mut remote, &self.keep());
        self.shared.view().received += remote.received();
        self.tell_beside(&remote);
        let (it, fetched) = fetched?;
        Ok((it, Some(fetched)))
    }

    /// A conversation with the server of something pinned, as long as its turn is.
    pub(super) fn remote_for(&self, pin: &rack::Pin) -> Result<Remote, NotBrought> {
        // Each of a dozen images would be one more attempt with credentials that are no good. What the cache holds needs no server.
        if pin.repository.is_none() && self.held.is_some_and(|until| Instant::now() < until) {
            return Err(NotBrought::LeftAlone);
        }
        let mut config = self.follower.config_for(pin)?;
        config.timeouts = Timeouts::default();
        config.pulse = Arc::new(Nudges(Arc::clone(&self.shared)));
        let mut remote = Remote::new(&config)?;
        let turn = self.brought.turn(pin.manifest.into());
        remote.finish_by(Some(Instant::now() + turn));
        Ok(remote)
    }

    /// By whose word and when something is judged now.
    pub(super) fn judge_of<'j>(&'j self, floors: &'j Floors) -> Judge<'j> {
        Judge {
            root: self.follower.root(),
            floors,
            now: self.vouched_time(),
        }
    }

    /// An operating system is not followed by an older one of its name.
    pub(super) fn payload_floors(&self) -> Floors {
        let running = &self.given.handoff.payload;
        Floors {
            payloads: BTreeMap::from([(running.name.clone(), running.version)]),
            ..Floors::default()
        }
    }

    /// The time that expiry dates are judged by, as in the bootstrap.
    fn vouched_time(&self) -> u64 {
        let signed = self.follower.accepted().map_or(0, |tree| tree.head().time);
        let Given { tray, handoff, .. } = &self.given;
        let set_by_owner = handoff.time.source == TimeSource::Sntp && !tray.time_servers.is_empty();
        expiry::now(set_by_owner, unix_time(), handoff.time_floor.max(signed))
    }

    /// What must stay in the cache: what is wanted, what runs, and the operating systems that may be booted next. Until this boot was
    /// found good these are all that are here: the one before may have to start once more.
    pub(super) fn keep(&self) -> Vec<Digest> {
        let mut keep: Vec<Digest> = self.given.running().into_iter().collect();
        if !self.init.marked_good() {
            let payloads = self.shelf.payloads(self.follower.root());
            keep.extend(payloads.into_iter().map(|(digest, _)| digest));
        }
        if let Some(desired) = &self.desired {
            keep.extend(desired.release.iter().map(|pin| Digest::from(pin.manifest)));
            // That of the bootstrap that runs is in its slot.
            let view = self.shared.view();
            let running = view.bootstrap.as_ref().and_then(|it| it.manifest.clone());
            drop(view);
            let bootstrap = desired
                .bootstrap
                .iter()
                .map(|pin| Digest::from(pin.manifest));
            keep.extend(bootstrap.filter(|it| running != Some(it.to_string())));
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
        let good = self.init.marked_good();
        let keep = self.keep();
        self.images.retain(&keep);
        self.brought.release = self.brought.release.filter(|it| keep.contains(it));
        self.brought.bootstrap = self.brought.bootstrap.filter(|it| keep.contains(it));
        if let Err(error) = self.shelf.retain(&keep) {
            say(&format!("images that nothing needs stay for now: {error}"));
        }
        // Once the boot is good there is more to remove.
        if good {
            self.brought.tidied = converged;
        }
    }
}
