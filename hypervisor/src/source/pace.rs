// SPDX-License-Identifier: Apache-2.0
//! How long to wait between looks: the rack's interval, spread so that trays do not come in step, and longer while the
//! server does not answer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use racklet_follow::Hold;

/// The longest wait while the server does not answer, unless the rack's own interval is longer.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Pace {
    failures: u32,
    /// How often in a row the server refused us.
    refusals: u32,
    /// Until when the server is left alone: it refused us, or asked for it.
    held: Option<Instant>,
}

impl Pace {
    pub(super) fn success(&mut self) {
        *self = Self::default();
    }

    /// Until when the server is to be left alone.
    pub(super) fn held(&self) -> Option<Instant> {
        self.held
    }

    pub(super) fn failure(&mut self, hold: Hold, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.refusals = match hold.is_refusal() {
            true => self.refusals.saturating_add(1),
            false => 0,
        };
        let least = hold.wait(self.refusals);
        self.held = (!least.is_zero()).then(|| now + least);
    }

    /// Whether the server is to be left alone. Whoever asks for a look gets one all the same.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.held.is_some_and(|until| now < until)
    }

    pub(super) fn next(&self, poll: Duration, now: Instant) -> Duration {
        let held = self.held.map(|until| until.saturating_duration_since(now));
        let wait = spread(wait(poll, self.failures), dice());
        wait.max(later(held.unwrap_or_default(), dice()))
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

/// Up to a tenth more, for `dice` in 0..1000: a server that tells all trays of a home to come back at one moment gets them one by one.
fn later(wait: Duration, dice: u32) -> Duration {
    wait * (10_000 + dice) / 10_000
}

/// 0..1000, different each time and on each tray. Nothing secret rests on it.
pub(super) fn dice() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() % 1000).expect("below 1000")
}

#[cfg(test)]
mod tests {
    use racklet_fetch::http::HttpError;
    use racklet_fetch::rack::FetchError;
    use racklet_fetch::remote::RemoteError;
    use racklet_follow::FollowError;

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
    fn a_server_that_refused_the_tray_is_left_alone_for_minutes() {
        let refused =
            FollowError::Fetch(FetchError::Remote(RemoteError::Http(HttpError::Status {
                status: 401,
                reason: String::new(),
                retry_after: None,
            })));
        let (mut pace, start) = (Pace::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let poll = Duration::from_secs(2);
        for least in [60, 120, 240, 480, 900, 900] {
            pace.failure(refused.hold(), start);
            assert!(pace.holds(after(least - 1)) && !pace.holds(after(least)));
            assert!(pace.next(poll, start) >= Duration::from_secs(least));
        }
        // Something else went wrong: only the usual wait.
        pace.failure(Hold::default(), start);
        assert!(!pace.holds(start));
        pace.failure(refused.hold(), start);
        assert!(!pace.holds(after(60)), "it began anew");
        pace.success();
        assert!(!pace.holds(start) && pace.next(poll, start) < Duration::from_secs(3));
    }

    #[test]
    fn trays_are_spread_by_a_tenth_either_way() {
        let wait = Duration::from_secs(10);
        assert_eq!(spread(wait, 0), Duration::from_secs(9));
        assert!(spread(wait, 999) < Duration::from_secs(11));
        assert_eq!(later(Duration::from_secs(600), 0), Duration::from_secs(600));
        assert!(later(Duration::from_secs(600), 999) > Duration::from_secs(659));
        assert_eq!(later(Duration::ZERO, 999), Duration::ZERO);
        let rolls: std::collections::BTreeSet<u32> = (0..50).map(|_| dice()).collect();
        assert!(rolls.len() > 10 && rolls.iter().all(|d| *d < 1000));
    }
}
