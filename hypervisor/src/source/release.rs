// SPDX-License-Identifier: Apache-2.0
//! The next operating system: brought ahead, and restarted into when [`crate::release`] says so; together with the next bootstrap, where
//! both change.

use super::Source;
use super::pace::dice;
use super::turns::NotBrought;
use crate::console::say;
use crate::files;
use crate::init;
use crate::release::{self, Step, Tries};
use crate::work::Order;
use racklet_api::init::Op;
use racklet_fetch::progress::Silent;
use racklet_fetch::remote::Remote;
use racklet_follow::Hold;
use racklet_rack as rack;
use racklet_tell::error::chain;
use racklet_tell::text::{short, size};
use racklet_trust::Digest;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How long workloads may take to stop before a restart, whatever their grace.
const DRAIN: Duration = Duration::from_secs(90);
/// How often the tray was restarted for what is pinned.
const PAYLOAD_TRIES: &str = "hypervisor/restarts.json";
pub(super) const BOOTSTRAP_TRIES: &str = "hypervisor/bootstrap.json";

/// What is here and started next, by the manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    payload: Option<Digest>,
    bootstrap: Option<Digest>,
}

/// How far something is that a restart leads to.
pub(super) enum Ready {
    /// There is nothing to restart for.
    No,
    /// There is more to do at once.
    More,
    /// It is about to be here: a restart for something else is to wait.
    Soon,
    /// It is here; wait so many seconds.
    In(Digest, u64),
}

impl Ready {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::In(digest, _) => Some(*digest),
            _ => None,
        }
    }
}

impl Source {
    /// Brings operating system and bootstrap, and restarts into them, once where both change; true when there is more to do at once.
    pub(super) fn bring_os(&mut self) -> bool {
        let bootstrap = self.bring_bootstrap();
        if let Ready::More = bootstrap {
            return true;
        }
        let payload = self.bring_release();
        if let Ready::More = payload {
            return true;
        }
        let next = Next {
            payload: payload.digest(),
            bootstrap: bootstrap.digest(),
        };
        let waits = [&payload, &bootstrap]
            .into_iter()
            .filter_map(|it| match it {
                Ready::In(_, seconds) => Some(*seconds),
                _ => None,
            });
        let soon = matches!(payload, Ready::Soon) || matches!(bootstrap, Ready::Soon);
        let Some(seconds) = waits.min().filter(|_| !soon) else {
            self.brought.restart = None;
            return false;
        };
        let at = match self.brought.restart {
            Some((planned, at)) if planned == next => {
                if at <= Instant::now() {
                    self.restart(next);
                }
                return false;
            }
            // What came meanwhile waits no longer than what was planned before.
            Some((_, at)) => at,
            None => Instant::now() + Duration::from_secs(seconds),
        };
        for (what, digest) in [
            ("operating system", next.payload),
            ("bootstrap", next.bootstrap),
        ] {
            if let Some(digest) = digest {
                let seconds = at.saturating_duration_since(Instant::now()).as_secs();
                say(&format!(
                    "{what} {}: restarting into it in {seconds} s",
                    short(digest)
                ));
            }
        }
        self.brought.restart = Some((next, at));
        at <= Instant::now()
    }

    fn bring_release(&mut self) -> Ready {
        let Some(desired) = &self.desired else {
            return Ready::No;
        };
        let pin = desired.release.clone();
        let longest = desired.reboot_wait.as_secs();
        let pinned: Option<Digest> = pin.as_ref().map(|pin| pin.manifest.into());
        let cached = pinned.is_some_and(|digest| self.brought.release == Some(digest));
        let tries = self.tries(PAYLOAD_TRIES);
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
            return Ready::No;
        };
        match step {
            Step::Nothing => self.show_release(None, None),
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
                return Ready::More;
            }
            Step::Fetch => {}
            Step::RestartIn(seconds) => {
                let text = "it is here; the tray restarts into it shortly";
                self.show_release(Some(digest), Some(text));
                return Ready::In(digest, seconds);
            }
        }
        Ready::No
    }

    fn bring_payload(&mut self, pin: &rack::Pin, digest: Digest) {
        match self.payload(pin, digest) {
            Ok((version, received)) => {
                say(&format!(
                    "operating system {} {version} is here: {} received",
                    pin.name,
                    size(received)
                ));
                self.brought.arrived(digest);
                self.brought.release = Some(digest);
            }
            Err(error) => {
                if let Some(cut) = error.cut() {
                    return self.brought.cut(digest, cut);
                }
                let wait = self.brought.failed(digest, error.hold());
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

    /// Its version, and how many bytes came for it: none where it was in the cache already.
    fn payload(&self, pin: &rack::Pin, digest: Digest) -> Result<(u64, u64), NotBrought> {
        let floors = self.payload_floors();
        let judge = self.judge_of(&floors);
        let here = self.shelf.payload(digest, judge, &mut Silent)?;
        let fetch = |remote: &mut Remote, keep: &[Digest]| {
            (self.shelf).fetch_payload(remote, pin, judge, keep, &mut Silent)
        };
        let (payload, fetched) = self.here_or_fetched("operating system", pin, here, fetch)?;
        let version = payload.manifest.version;
        let Some(fetched) = fetched else {
            return Ok((version, 0));
        };
        if let Some(reason) = &fetched.not_cached {
            say(&format!(
                "{} {} is not cached: {}",
                pin.name,
                short(digest),
                chain(reason)
            ));
        }
        Ok((version, fetched.report.received))
    }

    /// Stops the workloads in order and has `init` restart the machine.
    fn restart(&mut self, next: Next) {
        self.brought.restart = None;
        for (file, digest) in [
            (PAYLOAD_TRIES, next.payload),
            (BOOTSTRAP_TRIES, next.bootstrap),
        ] {
            let Some(digest) = digest else {
                continue;
            };
            let record = serde_json::to_vec(&self.tries(file).next(digest));
            let record = record.expect("two plain fields");
            let path = self.options.state.join(file);
            let written = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| files::replace(&path, &record));
            if let Err(error) = written {
                // Without the record what does not come up would restart the tray for ever.
                say(&format!(
                    "no restart into {}: {}: {error}",
                    short(digest),
                    path.display()
                ));
                self.brought.failed(digest, Hold::default());
                return;
            }
        }
        say("stopping workloads to restart");
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

    pub(super) fn tries(&self, file: &str) -> Tries {
        let path = self.options.state.join(file);
        let bytes = files::read_bounded(&path, 4096).unwrap_or_default();
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
