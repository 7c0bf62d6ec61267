// SPDX-License-Identifier: Apache-2.0
//! The next operating system: brought ahead, and restarted into when [`crate::release`] says so.

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
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How long workloads may take to stop before a restart, whatever their grace.
const DRAIN: Duration = Duration::from_secs(90);

impl Source {
    pub(super) fn bring_release(&mut self) -> bool {
        let Some(desired) = &self.desired else {
            return false;
        };
        let pin = desired.release.clone();
        let longest = desired.reboot_wait.as_secs();
        let pinned: Option<Digest> = pin.as_ref().map(|pin| pin.manifest.into());
        let cached = pinned.is_some_and(|digest| self.brought.release == Some(digest));
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
            self.brought.failed(digest, Hold::default());
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
