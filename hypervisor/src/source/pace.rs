// SPDX-License-Identifier: Apache-2.0
//! How long to wait between looks: the rack's interval, spread so that trays do not come in step, and longer while the
//! server does not answer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The longest wait while the server does not answer, unless the rack's own interval is longer.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    pub(super) fn success(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn next(&self, poll: Duration) -> Duration {
        spread(wait(poll, self.failures), dice())
    }
}

fn wait(poll: Duration, failures: u32) -> Duration {
    poll.saturating_mul(1 << failures.min(10))
        .min(LONGEST.max(poll))
}

/// Nine to eleven tenths, for `dice` in 0..1000.
fn spread(wait: Duration, dice: u32) -> Duration {
    wait * (9_000 + 2 * dice) / 10_000
}

/// 0..1000, different each time and on each tray. Nothing secret rests on it.
pub(super) fn dice() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() % 1000).expect("below 1000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_stay_bounded() {
        let poll = Duration::from_secs(2);
        let waits: Vec<u64> = (0..8).map(|n| wait(poll, n).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(Duration::from_secs(900), 9).as_secs(), 900);
        assert_eq!(wait(poll, u32::MAX).as_secs(), 60);
    }

    #[test]
    fn trays_are_spread_by_a_tenth_either_way() {
        let wait = Duration::from_secs(10);
        assert_eq!(spread(wait, 0), Duration::from_secs(9));
        assert!(spread(wait, 999) < Duration::from_secs(11));
        let rolls: std::collections::BTreeSet<u32> = (0..50).map(|_| dice()).collect();
        assert!(rolls.len() > 10 && rolls.iter().all(|d| *d < 1000));
    }
}
