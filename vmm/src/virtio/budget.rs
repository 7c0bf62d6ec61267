// SPDX-License-Identifier: Apache-2.0
//! How much a device does before it lets its thread look at something else.
//!
//! A guest that makes requests available as fast as they are served would otherwise keep a thread for ever. Every request that is
//! taken from a queue is taken on a budget, so that no device can forget it.

/// How a turn of a device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is left to do waits for another turn, and nobody else says so"]
pub enum Turn {
    /// There is nothing to do until something happens.
    Done,
    /// The budget is spent and there is more to do: call `more` when others have had their turn.
    More,
    /// There is more to do, but not before this time of [`crate::rate::now`], unless something happens: call `more` then.
    At(u64),
}

impl Turn {
    /// Of two parts of a turn: what is to be done first.
    pub fn and(self, other: Turn) -> Turn {
        match (self, other) {
            (Turn::More, _) | (_, Turn::More) => Turn::More,
            (Turn::At(one), Turn::At(two)) => Turn::At(one.min(two)),
            (Turn::At(at), Turn::Done) | (Turn::Done, Turn::At(at)) => Turn::At(at),
            (Turn::Done, Turn::Done) => Turn::Done,
        }
    }
}

/// What is left of a turn. The request that overdraws the bytes is still served whole: it is itself bounded by its device.
#[derive(Debug)]
pub struct Budget {
    requests: u32,
    bytes: u64,
    refused: bool,
}

impl Budget {
    /// A turn of at most so many requests, which ends earlier when that many bytes were moved.
    #[must_use]
    pub const fn new(requests: u32, bytes: u64) -> Budget {
        Budget {
            requests,
            bytes,
            refused: false,
        }
    }

    /// Takes one request of the budget; false when it is spent.
    pub fn request(&mut self) -> bool {
        if self.requests == 0 || self.bytes == 0 {
            self.refused = true;
            return false;
        }
        self.requests -= 1;
        true
    }

    /// So many bytes were moved.
    pub fn bytes(&mut self, count: u64) {
        self.bytes = self.bytes.saturating_sub(count);
    }

    /// How the turn ended.
    pub fn turn(&self) -> Turn {
        if self.refused { Turn::More } else { Turn::Done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_parts_the_one_counts_that_has_more_to_do_or_earlier() {
        let [done, more, early, late] = [Turn::Done, Turn::More, Turn::At(1), Turn::At(2)];
        for (one, two, both) in [
            (done, done, done),
            (done, late, late),
            (early, late, early),
            (late, more, more),
            (done, more, more),
        ] {
            assert_eq!((one.and(two), two.and(one)), (both, both));
        }
    }

    #[test]
    fn a_turn_ends_with_its_requests_or_with_its_bytes() {
        let mut budget = Budget::new(2, 10);
        assert!(budget.request() && budget.request());
        assert_eq!(
            budget.turn(),
            Turn::Done,
            "exactly enough is not too little"
        );
        assert!(!budget.request());
        assert_eq!(budget.turn(), Turn::More);
        let mut budget = Budget::new(100, 10);
        assert!(budget.request());
        budget.bytes(11);
        assert!(!budget.request());
        assert_eq!(budget.turn(), Turn::More);
    }
}
