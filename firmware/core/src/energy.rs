// SPDX-License-Identifier: Apache-2.0
//! Energy out of samples of power: joules that only rise, across resets and outages.
//!
//! Between two samples power is taken as a straight line. Where more than [`GAP`] lies between them (the sensor did not answer, the controller
//! was starting) nothing is known and nothing is added; how long that was is counted ([`Energy::unknown`]). The INA226 averages over its
//! own conversion time (`parts::ina226`), so that what happens between two samples is in them.

use core::time::Duration;

/// The longest time between two samples that is bridged.
pub const GAP: Duration = Duration::from_secs(2);

/// A counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Microwatts times microseconds, twice, below one microjoule: what the sum of two samples gives.
    rest: u64,
    microjoules: u64,
    unknown: Duration,
    last: Option<(u64, Duration)>,
}

/// Two times a microjoule in microwatts times microseconds.
const UNIT: u64 = 2_000_000;

impl Energy {
    /// Goes on from what was kept, in microjoules.
    #[must_use]
    pub fn resumed(microjoules: u64) -> Self {
        Self {
            microjoules,
            ..Self::default()
        }
    }

    /// Takes a sample in microwatts. Below 0 there is none: an offset of the sensor with the tray off.
    pub fn sample(&mut self, microwatts: i64, now: Duration) {
        let power = u64::try_from(microwatts).unwrap_or(0);
        if let Some((before, at)) = self.last.replace((power, now)) {
            let time = now.saturating_sub(at);
            if time > GAP {
                self.unknown += time;
            } else {
                let micros = u64::try_from(time.as_micros()).unwrap_or(0);
                // At most 2 s and, of any sensor, some kilowatts: 2^31 * 2^21, and a rest below 2^21.
                let sum = power.saturating_add(before).saturating_mul(micros);
                self.rest = self.rest.saturating_add(sum);
                self.microjoules = self.microjoules.saturating_add(self.rest / UNIT);
                self.rest %= UNIT;
            }
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn microjoules(&self) -> u64 {
        self.microjoules
    }

    /// For how long nothing was known, since the start.
    #[must_use]
    pub const fn unknown(&self) -> Duration {
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_counter_only_rises_and_never_by_more_than_the_highest_power(
            samples in proptest::collection::vec((-1_000_000..200_000_000_i64, 0..3_000_000_u64), 1..100),
        ) {
            let mut energy = Energy::resumed(17);
            let mut now = Duration::ZERO;
            for (power, wait) in samples {
                now += Duration::from_micros(wait);
                let before = energy.microjoules();
                energy.sample(power, now);
                prop_assert!(energy.microjoules() >= before);
                prop_assert!(energy.microjoules() - before <= 200 * wait + 1);
            }
        }

    }

    proptest! {
        // Six million steps each.
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn an_injected_trace_is_met_within_one_percent(base in 2..15_u32, swing in 0..10_u32, period in 1..50_u32, jitter in 0..20_u64) {
            // Sampled about every 50 ms for ten minutes, as a loaded and an idle tray alternate; microwatts, in steps of 0.1 ms. The part
            // gives the mean of the last 35 ms.
            let (low, high) = (i64::from(base) * 1_000_000, i64::from(base + swing) * 1_000_000);
            let period = u64::from(period) * 10_000;
            let mut energy = Energy::default();
            let (mut truth, mut sum) = (0, 0);
            let mut window = [0; 352];
            let (mut next, mut number) = (0, 0);
            for step in 0..6_000_000_u64 {
                let power = if step % period < period * 2 / 5 { high } else { low };
                truth += power / 10_000;
                let place = &mut window[usize::try_from(step % 352).unwrap()];
                sum += power - core::mem::replace(place, power);
                if step == next {
                    number += 1;
                    next += 400 + number * 79 % (1 + jitter * 10);
                    energy.sample(sum / 352, Duration::from_micros(step * 100));
                }
            }
            let error = energy.microjoules().abs_diff(truth.cast_unsigned());
            prop_assert!(error * 100 < truth.cast_unsigned(), "{error} of {truth} uJ");
        }
    }

    #[test]
    fn what_nobody_saw_is_not_made_up() {
        let mut energy = Energy::default();
        energy.sample(5_000_000, Duration::ZERO);
        energy.sample(5_000_000, Duration::from_secs(2));
        assert_eq!(energy.microjoules(), 10_000_000);
        energy.sample(5_000_000, Duration::from_secs(60));
        assert_eq!(energy.microjoules(), 10_000_000);
        assert_eq!(energy.unknown(), Duration::from_secs(58));
        // A clock that went back adds nothing, either.
        energy.sample(5_000_000, Duration::from_secs(50));
        assert_eq!(energy.microjoules(), 10_000_000);
    }

    #[test]
    fn slices_below_a_microjoule_add_up() {
        let mut energy = Energy::default();
        for micros in 0..=1_000_000 {
            energy.sample(1, Duration::from_micros(micros));
        }
        assert_eq!(energy.microjoules(), 1);
    }
}
