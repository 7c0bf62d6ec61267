// SPDX-License-Identifier: Apache-2.0
//! Where the rack is: its own server and, where that one brings nothing, its mirrors in their order.
//!
//! A mirror is believed no more than any server: heads only go forward, so one that is behind shows what is known or what is refused,
//! and the next place is asked.

use std::time::{Duration, Instant};

use racklet_tell::error::Chain;

use crate::{FollowError, Hold};

/// How long the rack's own server is asked last after it brought nothing, where there are mirrors: one that takes connections and says
/// nothing would delay every look. Longer, where it wants to be left alone.
const OWN_LAST: Duration = Duration::from_secs(60);

/// The rack's own server, or one of its mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(pub(crate) usize);

impl Place {
    /// The rack's own server.
    pub const OWN: Self = Self(0);
}

/// One look's way around all places.
#[derive(Debug, Default)]
pub struct Round {
    asked: usize,
    /// Its order, which a failure on the way does not change.
    own_last: Option<bool>,
    failed: Vec<(Place, String, FollowError)>,
}

/// Which places there are, and which one answered last.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) count: usize,
    /// What answered last: what is pinned is fetched from there.
    pub(crate) at: Place,
    /// Until when the rack's own server comes last, and how often in a row it refused us.
    own_last: Option<Instant>,
    refusals: u32,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            at: Place::OWN,
            own_last: None,
            refusals: 0,
        }
    }

    /// The next place to ask, and how many are behind it.
    pub(crate) fn next(&self, round: &mut Round, now: Instant) -> Option<(Place, usize)> {
        let own_last = self.own_last.is_some_and(|until| now < until);
        let own_last = *round.own_last.get_or_insert(own_last);
        if round.asked == self.count {
            return None;
        }
        let index = (round.asked + usize::from(own_last)) % self.count;
        round.asked += 1;
        Some((Place(index), self.count - round.asked))
    }

    pub(crate) fn failed(&mut self, place: Place, hold: Hold, now: Instant) {
        if place == Place::OWN && self.count > 1 {
            self.refusals = match hold.is_refusal() {
                true => self.refusals.saturating_add(1),
                false => 0,
            };
            self.own_last = Some(now + OWN_LAST.max(hold.wait(self.refusals)));
        }
    }

    pub(crate) fn answered(&mut self, place: Place) {
        self.at = place;
        if place == Place::OWN {
            (self.own_last, self.refusals) = (None, 0);
        }
    }
}

impl Round {
    /// A place brought nothing. What the rack's own server shows and may not be followed is final; everything else leads on.
    ///
    /// # Errors
    /// The error again, where it is final.
    pub fn failed(
        &mut self,
        place: Place,
        url: impl ToString,
        error: FollowError,
    ) -> Result<(), FollowError> {
        if place == Place::OWN && matches!(error, FollowError::Rejected { .. }) {
            return Err(error);
        }
        self.failed.push((place, url.to_string(), error));
        Ok(())
    }

    /// Why no place brought anything.
    #[must_use]
    pub fn over(mut self) -> FollowError {
        let own = self
            .failed
            .iter()
            .position(|(place, ..)| *place == Place::OWN);
        let (_, _, own) = self
            .failed
            .remove(own.expect("every round comes to the rack's own server"));
        if self.failed.is_empty() {
            return own;
        }
        FollowError::Nowhere {
            mirrors: self
                .failed
                .into_iter()
                .map(|(_, url, error)| (url, error))
                .collect(),
            own: Box::new(own),
        }
    }
}

/// What each mirror said, to its end: a list has no single source.
pub(crate) fn each(mirrors: &[(String, FollowError)]) -> String {
    let each = mirrors
        .iter()
        .map(|(url, error)| format!("{url}: {}", Chain(error)));
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(places: &Places, now: Instant) -> Vec<usize> {
        let mut round = Round::default();
        std::iter::from_fn(|| places.next(&mut round, now).map(|(place, _)| place.0)).collect()
    }

    #[test]
    fn the_racks_own_server_comes_first_and_for_a_minute_after_a_failure_last() {
        let mut places = Places::new(3);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(order(&places, start), [0, 1, 2]);
        places.failed(Place::OWN, Hold::default(), start);
        places.answered(Place(1));
        assert_eq!(order(&places, after(59)), [1, 2, 0]);
        assert_eq!(order(&places, after(61)), [0, 1, 2]);
        places.answered(Place::OWN);
        assert_eq!(order(&places, after(1)), [0, 1, 2]);
        // A failure on the way changes the next round and not this one.
        let mut round = Round::default();
        places.next(&mut round, start);
        places.failed(Place::OWN, Hold::default(), start);
        assert_eq!(places.next(&mut round, start), Some((Place(1), 1)));
        // Alone, it is asked whenever there is a look.
        let mut alone = Places::new(1);
        alone.failed(Place::OWN, Hold::default(), start);
        assert_eq!(order(&alone, start), [0]);
    }
}
