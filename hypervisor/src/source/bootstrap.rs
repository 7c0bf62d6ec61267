// SPDX-License-Identifier: Apache-2.0
//! The next bootstrap: fetched and verified here, written into its slot by `init`, and restarted into when [`crate::bootstrap`] says so.

use super::Source;
use super::pace::dice;
use super::release::{BOOTSTRAP_TRIES, Ready};
use super::turns::NotBrought;
use crate::bootstrap::{Step, decide};
use crate::console::say;
use crate::release;
use racklet_api::hypervisor::BootstrapState;
use racklet_api::init::{Op, SlotState, SlotStatus, SlotsStatus};
use racklet_fetch::progress::Silent;
use racklet_fetch::remote::Remote;
use racklet_follow::Hold;
use racklet_rack as rack;
use racklet_tell::error::chain;
use racklet_tell::text::{short, size};
use racklet_trust::Digest;
use racklet_trust::floors::Floors;
use std::time::{Duration, Instant};

/// Between two questions to `init` while it writes, or finds this boot good.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Source {
    pub(super) fn bring_bootstrap(&mut self) -> Ready {
        self.brought.ask_again = None;
        let Some(desired) = &self.desired else {
            return Ready::No;
        };
        let pin = desired.bootstrap.clone();
        let longest = desired.reboot_wait.as_secs();
        let pinned: Option<Digest> = pin.as_ref().map(|pin| pin.manifest.into());
        let Some(slots) = self.init.slots() else {
            if let Some(digest) = pinned {
                self.tell(digest, "the slots are not known yet, or this tray has none");
                self.ask_again();
            }
            return Ready::No;
        };
        let cached = pinned.is_some_and(|digest| self.brought.bootstrap == Some(digest));
        let tries = self.tries(BOOTSTRAP_TRIES);
        let step = decide(pinned, &slots, cached, tries);
        match &step {
            Step::Withdraw => {
                self.init.tell(Op::Withdraw);
            }
            Step::Copy(manifest) => {
                let manifest = manifest.clone();
                self.init.tell(Op::Install { manifest });
            }
            _ => {}
        }
        let (Some(pin), Some(digest)) = (pin, pinned) else {
            self.show_bootstrap(&slots, None, None);
            return Ready::No;
        };
        let text = match &step {
            Step::Nothing | Step::Withdraw | Step::Copy(_) => {
                self.show_bootstrap(&slots, None, None);
                return Ready::No;
            }
            Step::Fetch => "it is being fetched",
            Step::Install => "it is being written into the other slot",
            Step::Wait(text, _) | Step::GiveUp(text) => text,
            Step::Refused(error) => error,
            Step::Restart => "it is in the other slot; the tray restarts into it shortly",
        };
        match step {
            Step::Fetch if !self.brought.due(digest) => return Ready::No,
            Step::Fetch => {
                self.show_bootstrap(&slots, Some(digest), Some(text));
                self.fetch_bootstrap(&pin, digest, &slots);
                return Ready::More;
            }
            Step::Install => {
                self.install(digest);
                self.ask_again();
            }
            Step::Refused(_) => {
                self.tell(digest, text);
                // What is at fault may be mended: a card that takes writes again, keys that this tray hears of.
                if self.brought.due(digest) {
                    self.brought.failed(digest, Hold::default());
                    self.install(digest);
                }
            }
            Step::Wait(..) => self.ask_again(),
            Step::GiveUp(_) => self.tell(digest, text),
            Step::Restart | Step::Nothing | Step::Withdraw | Step::Copy(_) => {}
        }
        self.show_bootstrap(&slots, Some(digest), Some(text));
        match step {
            Step::Install | Step::Wait(_, true) => Ready::Soon,
            Step::Restart => {
                let wait = release::wait(tries.of(digest), longest, dice().into());
                Ready::In(digest, wait)
            }
            _ => Ready::No,
        }
    }

    fn ask_again(&mut self) {
        self.brought.ask_again = Some(Instant::now() + ASK_AGAIN);
    }

    fn install(&mut self, digest: Digest) {
        self.init.tell(Op::Install {
            manifest: digest.to_string(),
        });
    }

    /// Says it once.
    fn tell(&mut self, digest: Digest, text: &str) {
        let told = Some((digest, text.to_owned()));
        if self.brought.said != told {
            say(&format!("bootstrap {}: {text}", short(digest)));
            self.brought.said = told;
        }
    }

    fn fetch_bootstrap(&mut self, pin: &rack::Pin, digest: Digest, slots: &SlotsStatus) {
        match self.bootstrap(pin, digest, slots.floor) {
            Ok((version, received)) => {
                say(&format!(
                    "bootstrap {} {version} is here: {} received",
                    pin.name,
                    size(received)
                ));
                self.brought.arrived(digest);
                self.brought.bootstrap = Some(digest);
            }
            Err(error) => {
                if let Some(cut) = error.cut() {
                    return self.brought.cut(digest, cut);
                }
                let wait = self.brought.failed(digest, error.hold());
                let text = chain(&error);
                self.show_bootstrap(slots, Some(digest), Some(&text));
                say(&format!(
                    "bootstrap {} {}: {text}; next try in {} s",
                    pin.name,
                    short(digest),
                    wait.as_secs()
                ));
            }
        }
    }

    /// Its version, and how many bytes came for it: none where it was in the cache already.
    fn bootstrap(
        &self,
        pin: &rack::Pin,
        digest: Digest,
        floor: u64,
    ) -> Result<(u64, u64), NotBrought> {
        let floors = Floors::default();
        let judge = self.judge_of(&floors);
        let here = self.shelf.bootstrap(digest, judge, floor)?;
        let fetch = |remote: &mut Remote, keep: &[Digest]| {
            (self.shelf).fetch_bootstrap(remote, pin, judge, floor, keep, &mut Silent)
        };
        let (manifest, fetched) = self.here_or_fetched("bootstrap", pin, here, fetch)?;
        let Some(mut fetched) = fetched else {
            return Ok((manifest.version, 0));
        };
        match fetched.not_cached.take() {
            // `init` takes it from there.
            Some(reason) => Err(NotBrought::NotCached(reason)),
            None => Ok((manifest.version, fetched.report.received)),
        }
    }

    fn show_bootstrap(&self, slots: &SlotsStatus, wanted: Option<Digest>, message: Option<&str>) {
        let Some(boot) = &self.given.handoff.boot else {
            return;
        };
        let on_trial = (slots.running.state != SlotState::Good)
            .then_some("it is on trial until this boot is found good");
        let message = slots.error.as_deref().or(message).or(on_trial);
        self.shared.view().bootstrap = Some(BootstrapState {
            slot: boot.slot.to_string(),
            version: boot.version,
            manifest: slots.running.manifest.clone(),
            floor: slots.floor,
            wanted: wanted.map(|digest| digest.to_string()),
            message: message.map(str::to_owned),
            other: other(&slots.other),
        });
    }
}

/// `b: on trial, 3 tries left, manifest 1234abcd`.
fn other(slot: &SlotStatus) -> String {
    let state = match slot.state {
        SlotState::Empty => "empty",
        SlotState::Trial => "not reported good",
        SlotState::Good => "good",
    };
    let manifest = slot.manifest.as_deref().map_or_else(String::new, |digest| {
        format!(", manifest {}", short(digest))
    });
    let tries = match slot.state {
        SlotState::Empty => String::new(),
        _ => format!(", {} tries left", slot.tries_left),
    };
    format!("{}: {state}{tries}{manifest}", slot.slot)
}
