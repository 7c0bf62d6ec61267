// SPDX-License-Identifier: Apache-2.0
//! Turns a minute out of a tachometer's edges: open collector, two pulses a turn, no filter on the board, beside a 25 kHz square wave.
//!
//! An edge closer to the last one than the fastest fan allows is noise. A turn is the time between an edge and the one before the last,
//! so that the two pulses need not be alike; of the last turns the median counts, which single noisy or missed edges do not move.

use core::time::Duration;

use super::FULL_RPM;

/// Edges that are kept: fifteen turns' times. A spike spoils three of them, so two spikes in so many edges (half a second at the least
/// speed) move nothing.
const EDGES: usize = 17;
/// At a fifth above full speed, with the shorter pulse at two fifths of half a turn.
const CLOSEST: Duration = Duration::from_micros(60_000_000 / (FULL_RPM as u64 * 12 / 10) * 2 / 5);
/// A fan that gives no edge for so long stands: a fifth of its full speed gives one in 30 ms.
const STANDS: Duration = Duration::from_millis(500);

/// One fan's.
#[derive(Debug, Clone, Copy)]
pub struct Tachometer {
    edges: [Duration; EDGES],
    count: usize,
    noise: u32,
}

impl Default for Tachometer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tachometer {
    /// One that stands.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            edges: [Duration::ZERO; EDGES],
            count: 0,
            noise: 0,
        }
    }

    /// Takes an edge, falling ones alone.
    pub fn edge(&mut self, at: Duration) {
        let last = self.edges[EDGES - 1];
        if self.count > 0 && at.saturating_sub(last) < CLOSEST {
            self.noise = self.noise.saturating_add(1);
            return;
        }
        if at.saturating_sub(last) >= STANDS {
            self.count = 0;
        }
        self.edges.rotate_left(1);
        self.edges[EDGES - 1] = at;
        self.count = (self.count + 1).min(EDGES);
    }

    /// Edges that were none.
    #[must_use]
    pub const fn noise(&self) -> u32 {
        self.noise
    }

    /// Turns a minute; 0 when it stands, and until three edges have come.
    #[must_use]
    pub fn rpm(&self, now: Duration) -> u16 {
        let edges = &self.edges[EDGES - self.count..];
        let stands = edges.last().is_none_or(|&last| now >= last + STANDS);
        if stands || edges.len() < 3 {
            return 0;
        }
        let mut turns = [Duration::ZERO; EDGES - 2];
        let turns = &mut turns[..edges.len() - 2];
        for (turn, pair) in turns.iter_mut().zip(edges.windows(3)) {
            *turn = pair[2].saturating_sub(pair[0]);
        }
        turns.sort_unstable();
        let median = turns[turns.len() / 2].as_micros().max(1);
        u16::try_from(60_000_000 / median).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Edges of a fan at this speed for two seconds, pulses as uneven as that, with noise.
    fn found(rpm: u64, uneven: u64, noise: &[u64]) -> u16 {
        let turn = 60_000_000 / rpm;
        let mut edges: std::vec::Vec<u64> = (0..2_000_000 / turn)
            .flat_map(|n| [n * turn, n * turn + turn * (500 - uneven) / 1000])
            .collect();
        let last = *edges.last().unwrap();
        edges.extend(noise.iter().map(|at| at % last));
        edges.sort_unstable();
        let mut tachometer = Tachometer::new();
        for edge in edges {
            tachometer.edge(Duration::from_micros(edge));
        }
        tachometer.rpm(Duration::from_micros(last + 1000))
    }

    extern crate std;

    proptest! {
        #[test]
        fn speed_is_met_within_two_percent(rpm in 800..6000_u64, uneven in 0..90_u64) {
            let found = u64::from(found(rpm, uneven, &[]));
            prop_assert!(found.abs_diff(rpm) * 50 <= rpm, "{found}");
        }

        #[test]
        fn two_spikes_in_half_a_second_move_nothing(rpm in 1000..5000_u64, noise in proptest::collection::vec(any::<u64>(), 0..=2)) {
            let found = u64::from(found(rpm, 50, &noise));
            prop_assert!(found.abs_diff(rpm) * 50 <= rpm, "{found}");
        }
    }

    #[test]
    fn ringing_behind_each_edge_is_not_counted() {
        let mut tachometer = Tachometer::new();
        for turn in 0..40 {
            for half in [0, 30_000] {
                for ring in [0, 15, 40, 300] {
                    tachometer.edge(Duration::from_micros(turn * 60_000 + half + ring));
                }
            }
        }
        assert_eq!(tachometer.rpm(Duration::from_micros(40 * 60_000)), 1000);
        assert_eq!(tachometer.noise(), 40 * 2 * 3);
    }

    #[test]
    fn a_fan_that_stands_or_starts_has_no_speed_yet() {
        let mut tachometer = Tachometer::new();
        let at = Duration::from_millis;
        assert_eq!(tachometer.rpm(at(0)), 0);
        tachometer.edge(at(10));
        tachometer.edge(at(40));
        assert_eq!(tachometer.rpm(at(41)), 0);
        tachometer.edge(at(70));
        assert_eq!(tachometer.rpm(at(71)), 1000);
        assert_eq!(tachometer.rpm(at(571)), 0);
        // The pause is no turn.
        tachometer.edge(at(2000));
        tachometer.edge(at(2030));
        assert_eq!(tachometer.rpm(at(2031)), 0);
    }
}
