// SPDX-License-Identifier: Apache-2.0
//! Waiting times between tries: doubled up to a ceiling, and spread so that a rack which comes back from a power cut
//! does not ask in step.
//!
//! [`Random`] is for spreading and for transaction numbers, never for keys.

use core::time::Duration;

/// A small generator (SplitMix64). The seed must differ between trays and boots; take it from `getrandom`.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that will repeat itself for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 32 bits.
    pub const fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// `base` less or more up to a quarter.
    pub fn spread(&mut self, base: Duration) -> Duration {
        let thousandths = 750 + self.next_u32() % 501;
        base.saturating_mul(thousandths) / 1000
    }
}

/// Doubling, spread waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of about `first`, twice that, and so on up to about `ceiling`.
    #[must_use]
    pub const fn new(first: Duration, ceiling: Duration) -> Self {
        Self {
            first,
            ceiling,
            next: first,
        }
    }

    /// The next wait.
    pub fn wait(&mut self, random: &mut Random) -> Duration {
        let base = self.next.min(self.ceiling);
        self.next = self.next.saturating_mul(2).min(self.ceiling);
        random.spread(base)
    }

    /// Starts again at the first wait: something worked.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_stay_within_a_quarter() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(16));
        for expected in [1, 2, 4, 8, 16, 16, 16] {
            let wait = backoff.wait(&mut random).as_millis();
            assert!(
                (expected * 750..=expected * 1250).contains(&wait),
                "{wait} ms for {expected} s"
            );
        }
        backoff.reset();
        assert!(backoff.wait(&mut random) <= Duration::from_millis(1250));
    }

    #[test]
    fn two_trays_do_not_wait_in_step() {
        let waits = |seed| {
            let mut random = Random::new(seed);
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(64));
            (0..5)
                .map(|_| backoff.wait(&mut random))
                .collect::<Vec<_>>()
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }
}
