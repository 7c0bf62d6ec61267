// SPDX-License-Identifier: Apache-2.0
//! What the bootstrap does next, as a pure function of what it knows.
//!
//! ```text
//!   Try ──ok──> Boot(pinned)
//!    ^ │
//!    │ └─failed─> something usable in the cache? ──yes, and patience is over──> Boot(fallback)
//!    │                        │ no
//!    └──── Wait <─────────────┴──── ten minutes of this: Reboot, so that the other slot gets its turn;
//!                                   an hour of it, where the server refuses us: the other slot would be refused as well
//! ```

use std::time::Duration;

use racklet_trust::Digest;

use crate::state::boots::TRIES;

/// How long network, questions, repository and payload are waited for, all together and from the first attempt on, when a payload
/// in the cache could start instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often they are tried in that time, at most.
pub(crate) const ATTEMPTS: u32 = 3;
/// With nothing to start, a reboot after this long: the bootloader has counted this start and may choose the other slot.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(600);
/// The same where the server refused us, or asked to be left alone: both slots have the same credentials, and a start begins again with a
/// minute's wait where the one before had come to a quarter of an hour. Longer, by far, than any server may ask for.
pub(crate) const GIVE_UP_REFUSED: Duration = Duration::from_secs(3600);

/// A payload that could start: verified, for this board, not below its floor, all chunks there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its manifest's digest.
    pub(crate) digest: Digest,
    /// Its version.
    pub(crate) version: u64,
    /// Starts without becoming healthy.
    pub(crate) tries: u32,
    /// It was the last one to be healthy.
    pub(crate) good: bool,
}

/// How the newest attempt to learn and fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Attempt {
    /// There was none yet.
    #[default]
    None,
    /// The head was fetched and accepted, and the payload it pins is complete.
    Done,
    /// It failed in a way that may pass: no network, no answer.
    Passing,
    /// It failed in a way that waiting does not change: a rejected head, a bad object, a wrong payload.
    Lasting,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'a> {
    /// Time since PID 1 began.
    pub(crate) elapsed: Duration,
    /// Time since the first attempt began.
    pub(crate) asking: Duration,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// How the newest ended.
    pub(crate) attempt: Attempt,
    /// The server refused us in it, or asked to be left alone.
    pub(crate) refused: bool,
    /// What the accepted head pins for this tray.
    pub(crate) pinned: Option<Digest>,
    /// What could start now.
    pub(crate) candidates: &'a [Candidate],
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Network, repository, payload: try now.
    Try,
    /// Try again after a while (jittered back-off).
    Wait,
    /// Start this payload.
    Boot(Digest, Why),
    /// Nothing to start, and waited long enough.
    Reboot,
}

/// Why this payload and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The newest accepted head, fetched in this boot, pins it.
    Pinned,
    /// The accepted head pins it; nothing newer could be learnt.
    PinnedBefore,
    /// The pinned one cannot be had (yet).
    Unavailable,
    /// The pinned one was started [`TRIES`] times and never healthy.
    PinnedFails,
    /// All have failed before; starting one of them is better than nothing.
    LastResort,
}

/// Decides.
pub(crate) fn next(seen: &Observed<'_>) -> Next {
    match seen.attempt {
        Attempt::None => return Next::Try,
        Attempt::Done => {
            if let Some((best, why)) = best(seen) {
                return Next::Boot(best, why);
            }
        }
        Attempt::Passing | Attempt::Lasting => {
            let patient = seen.attempt == Attempt::Passing
                && seen.attempts < ATTEMPTS
                && seen.asking < PATIENCE;
            if !patient && let Some((best, why)) = best(seen) {
                return Next::Boot(best, why);
            }
        }
    }
    if seen.elapsed < GIVE_UP {
        return Next::Wait;
    }
    match last_resort(seen) {
        Some(digest) => Next::Boot(digest, Why::LastResort),
        None if seen.refused && seen.elapsed < GIVE_UP_REFUSED => Next::Wait,
        None => Next::Reboot,
    }
}

/// How long an attempt that begins now may take. `None` when nothing could start instead: then each of its steps has a bound of its
/// own, and [`GIVE_UP`] is looked at between attempts.
pub(crate) fn time_left(seen: &Observed<'_>) -> Option<Duration> {
    best(seen).map(|_| PATIENCE.saturating_sub(seen.asking))
}

/// The best payload that has not failed too often.
fn best(seen: &Observed<'_>) -> Option<(Digest, Why)> {
    let usable = |c: &&Candidate| c.tries < TRIES;
    let pinned = seen
        .candidates
        .iter()
        .find(|c| Some(c.digest) == seen.pinned);
    if let Some(pinned) = pinned.filter(usable) {
        let why = if seen.attempt == Attempt::Done {
            Why::Pinned
        } else {
            Why::PinnedBefore
        };
        return Some((pinned.digest, why));
    }
    let why = if pinned.is_some() {
        Why::PinnedFails
    } else {
        Why::Unavailable
    };
    let others = || {
        seen.candidates
            .iter()
            .filter(|c| Some(c.digest) != seen.pinned)
            .filter(usable)
    };
    let other = others()
        .find(|c| c.good)
        .or_else(|| others().max_by_key(|c| c.version))?;
    Some((other.digest, why))
}

/// Of those that failed too often: the one that was healthy once, else the pinned one, else the newest.
fn last_resort(seen: &Observed<'_>) -> Option<Digest> {
    let all = || seen.candidates.iter();
    let choice = all()
        .find(|c| c.good)
        .or_else(|| all().find(|c| Some(c.digest) == seen.pinned))
        .or_else(|| all().max_by_key(|c| c.version))?;
    Some(choice.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    /// Payload `n` of version `n`.
    fn candidate(n: u8, tries: u32, good: bool) -> Candidate {
        Candidate {
            digest: digest(n),
            version: n.into(),
            tries,
            good,
        }
    }

    fn decide(
        attempt: Attempt,
        attempts: u32,
        seconds: u64,
        pinned: Option<u8>,
        candidates: &[Candidate],
    ) -> Next {
        let elapsed = Duration::from_secs(seconds);
        next(&Observed {
            elapsed,
            asking: elapsed,
            attempts,
            attempt,
            refused: false,
            pinned: pinned.map(digest),
            candidates,
        })
    }

    #[test]
    fn the_server_is_asked_before_anything_starts() {
        assert_eq!(
            decide(Attempt::None, 0, 0, Some(1), &[candidate(1, 0, true)]),
            Next::Try
        );
    }

    #[test]
    fn the_pinned_payload_starts_even_when_a_newer_one_is_cached() {
        let cached = [candidate(3, 0, true), candidate(2, 0, false)];
        assert_eq!(
            decide(Attempt::Done, 1, 1, Some(2), &cached),
            Next::Boot(digest(2), Why::Pinned)
        );
    }

    #[test]
    fn without_network_the_cached_payload_starts_after_some_patience() {
        let cached = [candidate(1, 0, true)];
        assert_eq!(decide(Attempt::Passing, 1, 5, Some(1), &cached), Next::Wait);
        let boot = Next::Boot(digest(1), Why::PinnedBefore);
        assert_eq!(
            decide(Attempt::Passing, ATTEMPTS, 5, Some(1), &cached),
            boot
        );
        assert_eq!(
            decide(Attempt::Passing, 1, PATIENCE.as_secs(), Some(1), &cached),
            boot
        );
    }

    #[test]
    fn an_attempt_has_an_end_exactly_when_something_could_start_instead() {
        let left = |asking, candidates: &[Candidate]| {
            time_left(&Observed {
                elapsed: Duration::from_secs(500),
                asking: Duration::from_secs(asking),
                attempts: 1,
                attempt: Attempt::Passing,
                refused: false,
                pinned: Some(digest(1)),
                candidates,
            })
        };
        let usable = [candidate(1, 0, false)];
        assert_eq!(left(0, &usable), Some(PATIENCE));
        assert_eq!(left(12, &usable), Some(PATIENCE - Duration::from_secs(12)));
        assert_eq!(left(400, &usable), Some(Duration::ZERO));
        // Another than the pinned one will do.
        assert_eq!(left(0, &[candidate(2, 0, false)]), Some(PATIENCE));
        // What never came up keeps nobody from waiting for something better.
        assert_eq!(left(0, &[candidate(1, TRIES, false)]), None);
        assert_eq!(left(0, &[]), None);
    }

    #[test]
    fn garbage_from_the_server_starts_the_cached_payload_at_once() {
        let cached = [candidate(1, 0, true)];
        assert_eq!(
            decide(Attempt::Lasting, 1, 1, Some(1), &cached),
            Next::Boot(digest(1), Why::PinnedBefore)
        );
        assert_eq!(
            decide(Attempt::Lasting, 1, 1, Some(2), &cached),
            Next::Boot(digest(1), Why::Unavailable)
        );
    }

    #[test]
    fn with_nothing_cached_it_waits_then_reboots_and_never_starts_anything() {
        for attempt in [Attempt::Passing, Attempt::Lasting, Attempt::Done] {
            assert_eq!(
                decide(attempt, 50, GIVE_UP.as_secs() - 1, Some(1), &[]),
                Next::Wait
            );
            assert_eq!(
                decide(attempt, 50, GIVE_UP.as_secs(), Some(1), &[]),
                Next::Reboot
            );
        }
    }

    #[test]
    fn who_was_refused_is_not_brought_to_ask_sooner_by_a_reboot() {
        let refused = |seconds, candidates: &[Candidate]| {
            next(&Observed {
                elapsed: Duration::from_secs(seconds),
                asking: Duration::from_secs(seconds),
                attempts: 5,
                attempt: Attempt::Lasting,
                refused: true,
                pinned: Some(digest(1)),
                candidates,
            })
        };
        assert_eq!(refused(GIVE_UP.as_secs(), &[]), Next::Wait);
        assert_eq!(refused(GIVE_UP_REFUSED.as_secs() - 1, &[]), Next::Wait);
        assert_eq!(refused(GIVE_UP_REFUSED.as_secs(), &[]), Next::Reboot);
        // What never came up is tried once more all the same.
        let last_resort = Next::Boot(digest(1), Why::LastResort);
        let cached = [candidate(1, TRIES, false)];
        assert_eq!(refused(GIVE_UP.as_secs(), &cached), last_resort);
    }

    #[test]
    fn a_payload_that_failed_three_times_gives_way_to_the_last_good_one() {
        let cached = [
            candidate(2, TRIES, false),
            candidate(3, 0, false),
            candidate(1, 0, true),
        ];
        assert_eq!(
            decide(Attempt::Done, 1, 1, Some(2), &cached),
            Next::Boot(digest(1), Why::PinnedFails)
        );
        // One try less, and it starts again.
        let cached = [candidate(2, TRIES - 1, false), candidate(1, 0, true)];
        assert_eq!(
            decide(Attempt::Done, 1, 1, Some(2), &cached),
            Next::Boot(digest(2), Why::Pinned)
        );
    }

    #[test]
    fn a_failing_payload_with_no_other_waits_for_a_new_pin_and_starts_only_as_the_last_resort() {
        let cached = [candidate(2, TRIES, false)];
        assert_eq!(decide(Attempt::Done, 1, 1, Some(2), &cached), Next::Wait);
        let last = Next::Boot(digest(2), Why::LastResort);
        assert_eq!(
            decide(Attempt::Done, 9, GIVE_UP.as_secs(), Some(2), &cached),
            last
        );
    }

    #[test]
    fn without_a_pin_the_last_good_payload_starts_then_the_newest() {
        let cached = [
            candidate(1, 0, true),
            candidate(2, 0, false),
            candidate(3, 0, false),
        ];
        assert_eq!(
            decide(Attempt::Lasting, 1, 1, None, &cached),
            Next::Boot(digest(1), Why::Unavailable)
        );
        assert_eq!(
            decide(Attempt::Lasting, 1, 1, None, &cached[1..]),
            Next::Boot(digest(3), Why::Unavailable)
        );
    }
}
