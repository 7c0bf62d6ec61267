// SPDX-License-Identifier: Apache-2.0
//! What a UART's receiver says of the tray's line, as bytes that the tray sent and things that happened to the line.
//!
//! The line is low while a tray is off or has not set up its UART (a resistor to ground), which a receiver sees as a zero with a wrong
//! stop bit, again and again. While a Raspberry Pi's firmware changes clocks, bytes come with a wrong stop bit. Neither is kept as
//! a byte: a log full of zeros hides what is in it.
//!
//! ```text
//! up --zero without stop bit--> low --still low after HELD--> held low (event) --high--> up (event)
//!                               low --high before that--> up (event: break)
//! ```

use racklet_wire::console::Event;

/// A break is shorter, a line that is held low longer; in microseconds. The longest break that Linux sends is 0.5 s
/// (`tcsendbreak`).
const HELD: u64 = 1_000_000;
/// Garbled bytes are told in one event per so many microseconds, so that a line full of noise does not drive every other event
/// out of the table.
const TOLD_EVERY: u64 = 1_000_000;

/// What the receiver saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A byte.
    Byte(u8),
    /// Something without a stop bit where one belongs: its eight bits.
    NoStop(u8),
    /// A byte with a wrong parity.
    Parity,
    /// A byte that was not fetched in time.
    Overrun,
    /// The line is high and nothing comes.
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Up,
    LowSince(u64),
    Held,
}

/// The state of the line.
#[derive(Debug)]
pub struct Line {
    level: Level,
    garbage: u32,
    overruns: u32,
    told: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// One that is up.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            level: Level::Up,
            garbage: 0,
            overruns: 0,
            told: 0,
        }
    }

    /// What `received` means at `now` (microseconds): a byte of the tray, and events, in the order in which `tell` gets them, before it.
    pub fn receive(
        &mut self,
        received: Received,
        now: u64,
        mut tell: impl FnMut(Event),
    ) -> Option<u8> {
        match received {
            Received::NoStop(0) => {
                if self.level == Level::Up {
                    self.level = Level::LowSince(now);
                }
            }
            Received::NoStop(_) | Received::Parity => {
                self.rise(now, &mut tell);
                self.garbage = self.garbage.saturating_add(1);
            }
            Received::Overrun => self.overruns = self.overruns.saturating_add(1),
            Received::Byte(_) | Received::Idle => self.rise(now, &mut tell),
        }
        self.tick(now, &mut tell);
        match received {
            Received::Byte(byte) => Some(byte),
            _ => None,
        }
    }

    /// Tells what became due by `now`. To be called at least once a second, since a line that is low says nothing by itself.
    pub fn tick(&mut self, now: u64, mut tell: impl FnMut(Event)) {
        if let Level::LowSince(since) = self.level
            && now.saturating_sub(since) >= HELD
        {
            self.level = Level::Held;
            tell(Event::LineLow);
        }
        if (self.garbage > 0 || self.overruns > 0) && now.saturating_sub(self.told) >= TOLD_EVERY {
            self.told = now;
            let counts = [
                (
                    core::mem::take(&mut self.garbage),
                    Event::Garbage as fn(u32) -> Event,
                ),
                (core::mem::take(&mut self.overruns), Event::Overrun),
            ];
            for (count, event) in counts.into_iter().filter(|(count, _)| *count > 0) {
                tell(event(count));
            }
        }
    }

    fn rise(&mut self, now: u64, tell: &mut impl FnMut(Event)) {
        match core::mem::replace(&mut self.level, Level::Up) {
            Level::Up => {}
            Level::LowSince(since) if now.saturating_sub(since) < HELD => tell(Event::Break),
            // The tick that would have told the first did not come in between.
            Level::LowSince(_) => {
                tell(Event::LineLow);
                tell(Event::LineHigh);
            }
            Level::Held => tell(Event::LineHigh),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// Bytes and events of what was received at these milliseconds.
    fn of(received: &[(u64, Received)]) -> (Vec<u8>, Vec<Event>) {
        let (mut line, mut bytes, mut events) = (Line::new(), Vec::new(), Vec::new());
        for (at, what) in received {
            bytes.extend(line.receive(*what, at * 1000, |event| events.push(event)));
        }
        (bytes, events)
    }

    #[test]
    fn a_tray_that_is_off_is_one_event_and_no_bytes() {
        let low = (0..5000).map(|at| (at, Received::NoStop(0)));
        let all: Vec<_> = low.chain([(5000, Received::Byte(b'U'))]).collect();
        assert_eq!(
            of(&all),
            ([b'U'].into(), [Event::LineLow, Event::LineHigh].into())
        );
    }

    #[test]
    fn a_short_low_is_a_break_whether_a_byte_follows_or_not() {
        for next in [Received::Idle, Received::Byte(b'x')] {
            let (bytes, events) = of(&[(0, Received::NoStop(0)), (300, next)]);
            assert_eq!(events, [Event::Break]);
            assert_eq!(bytes.len(), usize::from(next != Received::Idle));
        }
    }

    #[test]
    fn noise_is_counted_once_a_second_and_never_kept_as_bytes() {
        let noise: Vec<_> = (0..3500).map(|at| (at, Received::NoStop(0xa5))).collect();
        let (bytes, events) = of(&noise);
        assert!(bytes.is_empty());
        assert_eq!(
            events,
            [
                Event::Garbage(1001),
                Event::Garbage(1000),
                Event::Garbage(1000)
            ]
        );
    }

    #[test]
    fn a_zero_with_its_stop_bit_is_a_byte() {
        assert_eq!(of(&[(0, Received::Byte(0))]), ([0].into(), [].into()));
    }

    #[test]
    fn what_came_too_fast_is_told_with_its_count() {
        let (_, events) = of(&[(999, Received::Overrun), (1000, Received::Overrun)]);
        assert_eq!(events, [Event::Overrun(2)]);
    }
}
