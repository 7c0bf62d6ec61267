// SPDX-License-Identifier: Apache-2.0
//! Which step leads to the bootstrap that is pinned: a pure function of the pin, of the slots as `init` sees them, and of what is here.
//!
//! ```text
//! pinned = running ──> nothing (what was installed for another pin and not tried: withdraw; the other slot empty: copy what runs)
//! pinned ≠ running ──> fetch and verify ──> this boot good? ──> init writes the other slot ──> restart ──> on trial
//!                                                                                                 │ came back from the old slot
//!                                                                                                 └──> no more until the pin changes
//! ```
//!
//! The bootloader tries a slot three times by itself. So what comes back is not tried again: the slot record says so, on a card whose
//! state was lost, too.

use racklet_api::init::{SlotState, SlotsStatus};
use racklet_trust::Digest;
use racklet_trust::slot::TRIES;

use crate::release::{MAX_TRIES, Tries};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What runs is what is pinned, or nothing is pinned.
    Nothing,
    /// Something else was installed and not tried, and is not wanted any more.
    Withdraw,
    /// The other slot is empty, which a power cut left so: what runs is to be there, too.
    Copy(String),
    /// Bring it into the cache.
    Fetch,
    /// Something has to be over first; whether a restart for another reason should wait for that, too.
    Wait(&'static str, bool),
    /// Have `init` write it.
    Install,
    /// `init` refused it, for this reason.
    Refused(String),
    /// It is in the other slot, and tried at the next start.
    Restart,
    /// It was tried, and this is what came of it.
    GiveUp(&'static str),
}

/// Started as often as the bootloader does it, and never reported good.
const NEVER_GOOD: &str = "it was started three times and never ran well, and the tray is back on the bootstrap before: see its console; another pin is tried again";
/// The try was counted and the bootloader or its firmware said no, or the power was cut.
const CAME_BACK: &str = "it was tried and did not come up, and the tray is back on the bootstrap before: the bootloader says why on the console; another pin is tried again";
/// Bought, and given up by the bootloader later.
const GOOD_ONCE: &str = "it ran well and then did not start any more, and the tray is back on the bootstrap before: see its console; another pin is tried again";
/// The card does not say how it ended.
const TRIED: &str = "the tray was restarted for it and runs another one: see its console; another pin is tried again";

/// `cached` says whether the pinned one was verified and is in the cache.
pub(crate) fn decide(
    pinned: Option<Digest>,
    slots: &SlotsStatus,
    cached: bool,
    tries: Tries,
) -> Step {
    let other = &slots.other;
    let wanted = pinned.map(|pinned| pinned.to_string());
    let untried = other.state == SlotState::Trial && other.tries_left == TRIES;
    let unwanted = slots.armed && untried && other.manifest != wanted;
    let Some(pinned) = pinned.filter(|_| slots.running.manifest != wanted) else {
        let running = slots.running.manifest.as_ref();
        let asked = slots.install.as_ref().map(|install| &install.manifest);
        return match running {
            _ if unwanted => Step::Withdraw,
            // Once: where it was refused, the console has said why.
            Some(running)
                if other.state == SlotState::Empty && slots.good && asked != Some(running) =>
            {
                Step::Copy(running.clone())
            }
            _ => Step::Nothing,
        };
    };
    if let Some(install) = &slots.install
        && Some(&install.manifest) == wanted.as_ref()
        && !install.done
    {
        return Step::Wait("it is being written into the other slot", true);
    }
    let tried = tries.of(pinned);
    if other.manifest == wanted && other.state != SlotState::Empty {
        match (other.state, other.tries_left) {
            (SlotState::Trial, TRIES) if slots.armed && slots.good && tried < MAX_TRIES => {
                return Step::Restart;
            }
            (SlotState::Trial, 0) => return Step::GiveUp(NEVER_GOOD),
            (SlotState::Trial, 1..TRIES) => return Step::GiveUp(CAME_BACK),
            (SlotState::Good, 0..TRIES) => return Step::GiveUp(GOOD_ONCE),
            _ => {}
        }
    }
    if tried > 0 {
        return Step::GiveUp(TRIED);
    }
    if !cached {
        return Step::Fetch;
    }
    if !slots.good {
        return Step::Wait(
            "it is here, and written once this boot is found good",
            false,
        );
    }
    let asked = slots.install.as_ref();
    let asked = asked.filter(|install| Some(&install.manifest) == wanted.as_ref());
    match asked.and_then(|install| install.error.as_ref()) {
        Some(error) => Step::Refused(error.clone()),
        None => Step::Install,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_api::handoff::Slot;
    use racklet_api::init::{InstallStatus, SlotStatus};

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    /// Slot a runs 1 and was found good; slot b holds 1, too, as on a new card.
    fn slots(change: impl FnOnce(&mut SlotsStatus)) -> SlotsStatus {
        let slot = |slot, state| SlotStatus {
            slot,
            state,
            tries_left: TRIES,
            manifest: Some(digest(1).to_string()),
        };
        let mut slots = SlotsStatus {
            running: slot(Slot::A, SlotState::Good),
            other: slot(Slot::B, SlotState::Trial),
            floor: 1,
            armed: false,
            good: true,
            install: None,
            error: None,
        };
        change(&mut slots);
        slots
    }

    /// Slot b holds 2, with so many tries left.
    fn with_two(state: SlotState, tries_left: u8, armed: bool) -> SlotsStatus {
        slots(|slots| {
            slots.other.manifest = Some(digest(2).to_string());
            (slots.other.state, slots.other.tries_left) = (state, tries_left);
            slots.armed = armed;
        })
    }

    fn step(pinned: u8, slots: &SlotsStatus, cached: bool) -> Step {
        decide(Some(digest(pinned)), slots, cached, Tries::default())
    }

    #[test]
    fn what_is_pinned_is_fetched_written_and_restarted_into_once() {
        let new = slots(|_| {});
        assert_eq!(step(1, &new, false), Step::Nothing);
        assert_eq!(step(2, &new, false), Step::Fetch);
        assert_eq!(step(2, &new, true), Step::Install);
        // The slot was found good in a boot before, which this one has to be, too.
        let young = slots(|slots| slots.good = false);
        assert!(matches!(step(2, &young, true), Step::Wait(_, false)));
        let asked = |done, error: Option<&str>| {
            slots(|slots| {
                slots.install = Some(InstallStatus {
                    manifest: digest(2).to_string(),
                    done,
                    error: error.map(str::to_owned),
                });
            })
        };
        assert!(matches!(
            step(2, &asked(false, None), true),
            Step::Wait(_, true)
        ));
        let refused = step(2, &asked(true, Some("no room")), true);
        assert_eq!(refused, Step::Refused("no room".into()));
        assert_eq!(step(3, &asked(true, Some("no room")), true), Step::Install);
        let armed = with_two(SlotState::Trial, TRIES, true);
        assert_eq!(step(2, &armed, true), Step::Restart);
        // After a power cut nothing is in memory any more, and nothing need be fetched.
        assert_eq!(step(2, &armed, false), Step::Restart);
    }

    #[test]
    fn what_was_tried_and_came_back_is_not_tried_again_until_another_is_pinned() {
        for (state, left) in [
            (SlotState::Trial, 0),
            (SlotState::Trial, 1),
            (SlotState::Trial, 2),
            (SlotState::Good, 0),
            (SlotState::Good, 2),
        ] {
            for armed in [false, true] {
                let back = with_two(state, left, armed);
                let given_up = step(2, &back, true);
                assert!(matches!(given_up, Step::GiveUp(_)), "{state:?} {left}");
                assert_eq!(step(3, &back, true), Step::Install);
            }
        }
        // The slot was written over since, or the card's record was lost: what the tray remembers counts.
        let once = Tries::default().next(digest(2));
        let elsewhere = decide(Some(digest(2)), &slots(|_| {}), true, once);
        assert_eq!(elsewhere, Step::GiveUp(TRIED));
        assert_eq!(
            decide(Some(digest(3)), &slots(|_| {}), true, once),
            Step::Install
        );
        // A restart that did not happen is asked for again, and not for ever.
        let armed = with_two(SlotState::Trial, TRIES, true);
        assert_eq!(decide(Some(digest(2)), &armed, true, once), Step::Restart);
        let often = once.next(digest(2)).next(digest(2));
        assert!(matches!(
            decide(Some(digest(2)), &armed, true, often),
            Step::GiveUp(_)
        ));
    }

    #[test]
    fn what_was_staged_for_a_pin_that_is_gone_is_withdrawn_and_half_written_slots_are_written_again()
     {
        let armed = with_two(SlotState::Trial, TRIES, true);
        assert_eq!(step(1, &armed, false), Step::Withdraw);
        assert_eq!(
            decide(None, &armed, false, Tries::default()),
            Step::Withdraw
        );
        assert_eq!(step(3, &armed, true), Step::Install);
        let withdrawn = with_two(SlotState::Trial, TRIES, false);
        assert_eq!(
            decide(None, &withdrawn, false, Tries::default()),
            Step::Nothing
        );
        assert_eq!(step(1, &withdrawn, false), Step::Nothing);
        assert_eq!(step(2, &withdrawn, true), Step::Install);
        // Written in this run, withdrawn, and pinned again.
        let again = SlotsStatus {
            install: Some(InstallStatus {
                manifest: digest(2).to_string(),
                done: true,
                error: None,
            }),
            ..withdrawn
        };
        assert_eq!(step(2, &again, true), Step::Install);
        // All files had been written when the power went, and the record had not.
        let cut = with_two(SlotState::Empty, 0, false);
        assert_eq!(step(2, &cut, true), Step::Install);
        assert_eq!(step(2, &cut, false), Step::Fetch);
        // Nobody wants it any more: there is to be something to fall back to all the same, once this boot is good.
        let running = digest(1).to_string();
        let copied = Step::Copy(running.clone());
        assert_eq!(step(1, &cut, false), copied);
        assert_eq!(decide(None, &cut, false, Tries::default()), copied);
        let young = SlotsStatus {
            good: false,
            ..cut.clone()
        };
        assert_eq!(step(1, &young, false), Step::Nothing);
        let asked = SlotsStatus {
            install: Some(InstallStatus {
                manifest: running,
                done: true,
                error: Some("refused".into()),
            }),
            ..cut
        };
        assert_eq!(step(1, &asked, false), Step::Nothing);
    }
}
