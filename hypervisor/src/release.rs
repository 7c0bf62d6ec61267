// SPDX-License-Identifier: Apache-2.0
//! When the tray restarts into another operating system: a pure function of what is pinned, what runs, and what was tried.
//!
//! ```text
//! pinned = running ──> nothing
//! pinned ≠ running ──> fetch and verify ──> wait a random while ──> stop workloads ──> restart
//!                                                   │ came back with something else
//!                                                   └──> try again after 10 min, 60 min, then no more until the pin changes
//! ```

use racklet_trust::Digest;
use serde::{Deserialize, Serialize};

/// Restarts for one pin; more would wear out a tray for nothing.
pub(crate) const MAX_TRIES: u32 = 3;

/// What was tried, on disk: a restart forgets everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tries {
    pub(crate) manifest: Option<Digest>,
    pub(crate) count: u32,
}

impl Tries {
    pub(crate) fn of(self, manifest: Digest) -> u32 {
        if self.manifest == Some(manifest) {
            self.count
        } else {
            0
        }
    }

    /// The record to write before restarting.
    pub(crate) fn next(self, manifest: Digest) -> Self {
        Self {
            manifest: Some(manifest),
            count: self.of(manifest) + 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What runs is what is pinned, or nothing is pinned.
    Nothing,
    /// Bring it into the cache.
    Fetch,
    /// Restart after this many seconds; a random part is already in it.
    RestartIn(u64),
    /// It was tried often enough.
    GiveUp,
}

/// `dice` is uniform in 0..1000; `longest` is the rack's longest random wait in seconds.
pub(crate) fn decide(
    pinned: Option<Digest>,
    running: Option<Digest>,
    cached: bool,
    tries: Tries,
    longest: u64,
    dice: u64,
) -> Step {
    let Some(pinned) = pinned else {
        return Step::Nothing;
    };
    if running == Some(pinned) {
        return Step::Nothing;
    }
    let tried = tries.of(pinned);
    if tried >= MAX_TRIES {
        return Step::GiveUp;
    }
    if !cached {
        return Step::Fetch;
    }
    Step::RestartIn(wait(tried, longest, dice))
}

/// How long to wait with a restart, in seconds.
pub(crate) fn wait(tried: u32, longest: u64, dice: u64) -> u64 {
    let rest = match tried {
        0 => 0,
        1 => 600,
        _ => 3600,
    };
    rest + longest * dice.min(999) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn each_situation_has_its_step() {
        let (a, b) = (Some(digest(1)), Some(digest(2)));
        let tried = |n: u8, count| Tries {
            manifest: Some(digest(n)),
            count,
        };
        for (pinned, running, cached, tries, step) in [
            (None, a, false, Tries::default(), Step::Nothing),
            (a, a, false, Tries::default(), Step::Nothing),
            (b, a, false, Tries::default(), Step::Fetch),
            (b, a, true, Tries::default(), Step::RestartIn(30)),
            (b, None, true, Tries::default(), Step::RestartIn(30)),
            (b, a, true, tried(2, 1), Step::RestartIn(630)),
            (b, a, true, tried(2, 2), Step::RestartIn(3630)),
            (b, a, true, tried(2, 3), Step::GiveUp),
            (b, a, true, tried(1, 3), Step::RestartIn(30)),
        ] {
            assert_eq!(
                decide(pinned, running, cached, tries, 60, 500),
                step,
                "{pinned:?} {tries:?}"
            );
        }
    }

    #[test]
    fn tries_are_counted_per_pin() {
        let once = Tries::default().next(digest(1));
        assert_eq!(once.next(digest(1)).count, 2);
        assert_eq!(once.next(digest(2)).count, 1);
    }
}
