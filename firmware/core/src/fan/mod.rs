// SPDX-License-Identifier: Apache-2.0
//! The rack's fans: temperature and tachometers in, speed and faults out.
//!
//! Full speed is what is left when nothing else is sure: in reset (the boards see to that), at the start, while firmware is updated, at
//! the end of this program, without a temperature, with one that cannot be, and with a fan that does not do what it should.
//!
//! Noctua NF-A4x20 5V PWM: 5,000 turns a minute at full speed, 20 % of it at the least duty (the maker's data sheet, from memory; not
//! measured). Intel's specification for 4-wire fans: 25 kHz, two pulses a turn, 30 % duty at the least for any fan.

use core::time::Duration;

mod tachometer;

pub use tachometer::Tachometer;

/// Turns a minute at full speed.
pub const FULL_RPM: u16 = 5000;
/// The least speed, in thousandths: a fan surely turns from there on.
pub const LEAST: u16 = 300;
/// All of it.
pub const FULL: u16 = 1000;
/// From the first of these temperatures (thousandths of a degree) to the second, speed rises from [`LEAST`] to [`FULL`]: air that leaves
/// the trays is 15 K warmer than the room at ordinary load (`boards/rack.toml`), so 35 is an idle rack in a warm room.
const CURVE: (i32, i32) = (35_000, 55_000);
/// What a temperature in the rack may be; anything else is a sensor's fault.
const PLAUSIBLE: core::ops::RangeInclusive<i32> = -20_000..=110_000;
/// A temperature counts for so long.
const FRESH: Duration = Duration::from_secs(3);
/// How fast speed falls, in thousandths a second. It rises at once.
const FALL: u64 = 20;
/// How long a fan has after a change of speed before it is judged, and how long it has to be wrong.
const SPIN_UP: Duration = Duration::from_secs(5);
/// Of what is expected; below it a fan is slow. Dust and low voltage take a third at most.
const SLOW: u32 = 60;

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As usual.
    Running,
    /// Nobody may be there to look in a moment: update, exit, a panic's last words.
    Unattended,
}

/// What the fans are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// In thousandths of full speed.
    pub speed: u16,
    /// The pin is high for so many thousandths: it pulls the fan's input low (`FAN1_PWM` in `boards/controllers/rp2350-rmc/pins.toml`).
    pub pin_high: u16,
}

/// The fans.
#[derive(Debug, Clone)]
pub struct Fans<const N: usize> {
    temperature: Option<(i32, Duration)>,
    speed: u16,
    since: Duration,
    fallen: Duration,
    slow: [Option<Duration>; N],
    faulty: [bool; N],
}

impl<const N: usize> Fans<N> {
    /// At full speed, until a temperature is known.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            temperature: None,
            speed: FULL,
            since: now,
            fallen: now,
            slow: [None; N],
            faulty: [false; N],
        }
    }

    /// Takes a temperature in thousandths of a degree; none where the sensor did not answer.
    pub fn temperature(&mut self, found: Option<i32>, now: Duration) {
        if let Some(found) = found.filter(|it| PLAUSIBLE.contains(it)) {
            self.temperature = Some((found, now));
        }
    }

    /// Whether a fan turns slower than it should, or not at all. One that turns faster has no fault.
    #[must_use]
    pub const fn is_faulty(&self, fan: usize) -> bool {
        fan < N && self.faulty[fan]
    }

    /// The speed for now. To be called about ten times a second, with what the tachometers say.
    pub fn step(&mut self, mode: Mode, turns: [u16; N], now: Duration) -> Speed {
        self.judge(turns, now);
        let known = self.temperature.filter(|(_, at)| now < *at + FRESH);
        let wanted = match known {
            Some((found, _)) if mode == Mode::Running && !self.faulty.contains(&true) => {
                curve(found)
            }
            _ => FULL,
        };
        let seconds = now.saturating_sub(self.fallen).as_millis();
        let fall = u16::try_from(u128::from(FALL) * seconds / 1000).unwrap_or(FULL);
        if wanted >= self.speed {
            self.set(wanted, now);
            self.fallen = now;
        } else if fall > 0 {
            self.set(wanted.max(self.speed.saturating_sub(fall)), now);
            self.fallen = now;
        }
        Speed {
            speed: self.speed,
            pin_high: FULL - self.speed,
        }
    }

    fn set(&mut self, speed: u16, now: Duration) {
        // A fan follows a slow fall; a jump gives it time.
        if speed > self.speed {
            self.since = now;
        }
        self.speed = speed;
    }

    fn judge(&mut self, turns: [u16; N], now: Duration) {
        let expected = u32::from(FULL_RPM) * u32::from(self.speed) / u32::from(FULL);
        for ((rpm, slow), faulty) in turns.into_iter().zip(&mut self.slow).zip(&mut self.faulty) {
            if u32::from(rpm) * 100 >= expected * SLOW {
                (*slow, *faulty) = (None, false);
            } else if now >= self.since + SPIN_UP {
                let since = *slow.get_or_insert(now);
                *faulty |= now >= since + SPIN_UP;
            }
        }
    }
}

/// The speed at a temperature, in thousandths.
fn curve(temperature: i32) -> u16 {
    let (from, to) = CURVE;
    let part = (temperature.clamp(from, to) - from) * i32::from(FULL - LEAST) / (to - from);
    LEAST + u16::try_from(part).unwrap_or(FULL - LEAST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Rack {
        fans: Fans<2>,
        now: Duration,
        /// Thousandths of what a sound fan does.
        health: [u32; 2],
    }

    impl Rack {
        fn new() -> Self {
            Self {
                fans: Fans::new(Duration::ZERO),
                now: Duration::ZERO,
                health: [1000; 2],
            }
        }

        fn run(&mut self, temperature: Option<i32>, mode: Mode, seconds: u32) -> Speed {
            let mut speed = None;
            for _ in 0..seconds * 10 {
                self.now += Duration::from_millis(100);
                self.fans.temperature(temperature, self.now);
                let turns = self.health.map(|health| {
                    u16::try_from(u32::from(self.fans.speed) * 5 * health / 1000).unwrap()
                });
                speed = Some(self.fans.step(mode, turns, self.now));
            }
            speed.unwrap()
        }
    }

    #[test]
    fn speed_follows_the_temperature() {
        for (temperature, speed) in [
            (20_000, 300),
            (35_000, 300),
            (45_000, 650),
            (55_000, 1000),
            (90_000, 1000),
        ] {
            let found = Rack::new().run(Some(temperature), Mode::Running, 60);
            assert_eq!((found.speed, found.pin_high), (speed, 1000 - speed));
        }
    }

    #[test]
    fn heat_is_answered_at_once_and_cold_slowly() {
        let mut rack = Rack::new();
        assert!(rack.run(Some(20_000), Mode::Running, 1).speed > 970);
        rack.run(Some(20_000), Mode::Running, 60);
        assert_eq!(rack.run(Some(60_000), Mode::Running, 1).speed, FULL);
    }

    #[test]
    fn what_is_not_known_is_answered_with_full_speed() {
        for broken in [None, Some(-40_000), Some(128_000)] {
            let mut rack = Rack::new();
            rack.run(Some(20_000), Mode::Running, 60);
            // One missed reading is none.
            assert!(rack.run(broken, Mode::Running, 2).speed < FULL);
            assert_eq!(rack.run(broken, Mode::Running, 2).speed, FULL, "{broken:?}");
        }
        let mut rack = Rack::new();
        rack.run(Some(20_000), Mode::Running, 60);
        assert_eq!(rack.run(Some(20_000), Mode::Unattended, 1).speed, FULL);
    }

    #[test]
    fn a_stuck_fan_is_told_and_the_other_one_takes_over() {
        let mut rack = Rack::new();
        rack.run(Some(20_000), Mode::Running, 60);
        rack.health = [1000, 0];
        assert_eq!(rack.run(Some(20_000), Mode::Running, 11).speed, FULL);
        assert!(!rack.fans.is_faulty(0) && rack.fans.is_faulty(1));
        // Freed, it is sound again.
        rack.health = [1000; 2];
        assert!(rack.run(Some(20_000), Mode::Running, 20).speed < FULL);
        assert!(!rack.fans.is_faulty(1));
    }

    #[test]
    fn a_fan_that_turns_faster_than_asked_has_no_fault() {
        let mut rack = Rack::new();
        rack.health = [1300, 3000];
        assert_eq!(rack.run(Some(20_000), Mode::Running, 60).speed, LEAST);
        assert!(!rack.fans.is_faulty(0) && !rack.fans.is_faulty(1));
    }

    proptest! {
        #[test]
        fn warmer_air_never_gets_less_of_it(one: i32, other: i32) {
            let (cold, warm) = (one.min(other), one.max(other));
            prop_assert!(curve(cold) <= curve(warm));
            prop_assert!((LEAST..=FULL).contains(&curve(one)));
        }
    }
}
