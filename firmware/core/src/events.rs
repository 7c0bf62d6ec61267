// SPDX-License-Identifier: Apache-2.0
//! The event log: what happened to a controller and its tray, in a ring of flash ([`crate::kept`]), read by people and by Redfish.
//!
//! A record: `start 2 | milliseconds since 4 | Unix seconds or 0, 8 | kind 1 | its own bytes`. The start's number orders what happened while
//! nobody knew the time. A fault that repeats itself cannot wear out the flash or push out the rest: [`Limit`] lets [`Limit::BURST`] records
//! in at once and then one every ten seconds, and says how many it kept out.

use core::time::Duration;

use racklet_wire::{bus::Slot, bytes::Bytes};

use crate::{
    kept::{LONGEST, Record, Ring},
    nor::{Failed, Flash},
    power,
};

const HEAD: usize = 15;
/// The most bytes of a panic's message; the rest is cut off at a character.
pub const MESSAGE: usize = LONGEST - HEAD;

/// Why a controller started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Power came.
    Power,
    /// The RUN pin.
    Run,
    /// The watchdog bit.
    Watchdog,
    /// The firmware wished so, for an update or after a panic.
    Software,
    /// None that the chip tells.
    Unknown,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This controller started.
    Started(Cause),
    /// It had stopped with this message.
    Panicked(Bytes<MESSAGE>),
    /// Of the tray's power.
    Power(power::Event),
    /// So many were not written down.
    Missed(u32),
    /// A slot keeps the bus to itself.
    Babbles {
        /// Where.
        slot: Slot,
        /// Seen, not concluded.
        certain: bool,
    },
    /// The bus is free again.
    BusQuiet,
    /// A fan turns too slowly, or not at all.
    FanSlow {
        /// Which, from 0.
        fan: u8,
        /// Turns a minute.
        rpm: u16,
    },
    /// A sensor does not answer, or says what cannot be.
    SensorLost {
        /// Its address.
        address: u8,
    },
}

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the controller's start.
    pub start: u16,
    /// Since that start; up to 49 days, and then from 0 again.
    pub since: Duration,
    /// Unix seconds, where the time was known.
    pub time: Option<u64>,
    /// What.
    pub event: Event,
}

impl Entry {
    /// As it lies in flash.
    #[must_use]
    pub fn encode(&self) -> Record {
        let millis = self.since.as_millis() % (1 << 32);
        let millis = u32::try_from(millis).unwrap_or_default();
        let mut record = Record::new();
        let mut event = [0; 6];
        let event: &[u8] = match &self.event {
            Event::Started(cause) => {
                let cause = match cause {
                    Cause::Power => 0,
                    Cause::Run => 1,
                    Cause::Watchdog => 2,
                    Cause::Software => 3,
                    Cause::Unknown => 4,
                };
                event[..2].copy_from_slice(&[1, cause]);
                &event[..2]
            }
            Event::Panicked(_) => &[2],
            Event::Power(power) => {
                let (kind, number) = of_power(*power);
                let [low, high] = number.to_le_bytes();
                event[..4].copy_from_slice(&[3, kind, low, high]);
                &event[..4]
            }
            Event::Missed(count) => {
                event[0] = 4;
                event[1..5].copy_from_slice(&count.to_le_bytes());
                &event[..5]
            }
            Event::Babbles { slot, certain } => {
                event[..3].copy_from_slice(&[5, slot.number(), u8::from(*certain)]);
                &event[..3]
            }
            Event::BusQuiet => &[6],
            Event::FanSlow { fan, rpm } => {
                let [low, high] = rpm.to_le_bytes();
                event[..4].copy_from_slice(&[7, *fan, low, high]);
                &event[..4]
            }
            Event::SensorLost { address } => {
                event[..2].copy_from_slice(&[8, *address]);
                &event[..2]
            }
        };
        let message: &[u8] = match &self.event {
            Event::Panicked(message) => message,
            _ => &[],
        };
        for part in [
            &self.start.to_le_bytes()[..],
            &millis.to_le_bytes(),
            &self.time.unwrap_or(0).to_le_bytes(),
            event,
            message,
        ] {
            // Its parts are 15 bytes, at most 5 more, or at most `MESSAGE`.
            let _ = record.extend(part);
        }
        record
    }

    /// The entry in a record; none of a kind that this firmware does not know.
    // untrusted: event_entries
    #[must_use]
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (start, rest) = record.split_first_chunk()?;
        let (millis, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let event = match *rest {
            [1, cause] => Event::Started(match cause {
                0 => Cause::Power,
                1 => Cause::Run,
                2 => Cause::Watchdog,
                3 => Cause::Software,
                4 => Cause::Unknown,
                _ => return None,
            }),
            [2, ref message @ ..] => Event::Panicked(Bytes::copied(message).ok()?),
            [3, kind, low, high] => Event::Power(power(kind, u16::from_le_bytes([low, high]))?),
            [4, a, b, c, d] => Event::Missed(u32::from_le_bytes([a, b, c, d])),
            [5, slot, certain @ 0..=1] => Event::Babbles {
                slot: Slot::new(slot)?,
                certain: certain == 1,
            },
            [6] => Event::BusQuiet,
            [7, fan, low, high] => Event::FanSlow {
                fan,
                rpm: u16::from_le_bytes([low, high]),
            },
            [8, address] => Event::SensorLost { address },
            _ => return None,
        };
        let time = u64::from_le_bytes(*time);
        Some(Self {
            start: u16::from_le_bytes(*start),
            since: Duration::from_millis(u64::from(u32::from_le_bytes(*millis))),
            time: (time != 0).then_some(time),
            event,
        })
    }
}

fn of_power(event: power::Event) -> (u8, u16) {
    use power::Event as E;
    match event {
        E::TakenOver => (0, 0),
        E::Starting(starts) => (1, starts.into()),
        E::On => (2, 0),
        E::Off => (3, 0),
        E::Tripped { fault } => (4, fault.into()),
        E::NeedsPerson => (5, 0),
        E::Cleared => (6, 0),
        E::FedFromElsewhere(millivolts) => (7, millivolts),
        E::Asked => (8, 0),
        E::Refused => (9, 0),
        E::Overdue => (10, 0),
        E::HostSilent => (11, 0),
        E::HostGivenUp => (12, 0),
    }
}

fn power(kind: u8, number: u16) -> Option<power::Event> {
    use power::Event as E;
    Some(match (kind, number) {
        (0, 0) => E::TakenOver,
        (1, starts) => E::Starting(u8::try_from(starts).ok()?),
        (2, 0) => E::On,
        (3, 0) => E::Off,
        (4, fault @ 0..=1) => E::Tripped { fault: fault == 1 },
        (5, 0) => E::NeedsPerson,
        (6, 0) => E::Cleared,
        (7, millivolts) => E::FedFromElsewhere(millivolts),
        (8, 0) => E::Asked,
        (9, 0) => E::Refused,
        (10, 0) => E::Overdue,
        (11, 0) => E::HostSilent,
        (12, 0) => E::HostGivenUp,
        _ => return None,
    })
}

/// A panic's message as the log takes it.
#[must_use]
pub fn message(text: &str) -> Bytes<MESSAGE> {
    let end = text.floor_char_boundary(MESSAGE);
    Bytes::copied(&text.as_bytes()[..end]).unwrap_or_default()
}

/// How much is written down.
#[derive(Debug, Clone)]
pub struct Limit {
    tokens: u32,
    filled: Duration,
    missed: u32,
}

impl Limit {
    /// Records at once.
    pub const BURST: u32 = 32;
    const EVERY: Duration = Duration::from_secs(10);

    /// A full one.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            tokens: Self::BURST,
            filled: now,
            missed: 0,
        }
    }

    /// Whether one more may be written, and how many were not before it.
    pub fn admit(&mut self, now: Duration) -> Option<u32> {
        while self.tokens < Self::BURST && now >= self.filled + Self::EVERY {
            self.tokens += 1;
            self.filled += Self::EVERY;
        }
        if self.tokens == Self::BURST {
            self.filled = now;
        }
        // One more is kept for the word about those that were missed.
        if self.tokens < 2 {
            self.missed = self.missed.saturating_add(1);
            return None;
        }
        self.tokens -= 1;
        Some(core::mem::take(&mut self.missed))
    }
}

/// The log.
#[derive(Debug)]
pub struct Log<F> {
    ring: Ring<F>,
    limit: Limit,
    start: u16,
}

impl<F: Flash> Log<F> {
    /// The log in these sectors. This start gets the number behind the one of the newest entry.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn open(flash: F, sectors: u32) -> Result<Self, Failed> {
        let (ring, newest) = Ring::open(flash, sectors)?;
        let newest = newest.and_then(|it| Entry::decode(&it));
        Ok(Self {
            ring,
            limit: Limit::new(Duration::ZERO),
            start: newest.map_or(0, |it| it.start).wrapping_add(1),
        })
    }

    /// The number of this start.
    #[must_use]
    pub const fn start(&self) -> u16 {
        self.start
    }

    /// Writes down what happened at `since` after this start.
    ///
    /// # Errors
    /// [`Failed`] when the flash does not take it.
    pub fn write(
        &mut self,
        event: Event,
        since: Duration,
        time: Option<u64>,
    ) -> Result<(), Failed> {
        let Some(missed) = self.limit.admit(since) else {
            return Ok(());
        };
        let start = self.start;
        let mut add = |event| {
            let entry = Entry {
                start,
                since,
                time,
                event,
            };
            self.ring.add(&entry.encode())
        };
        if missed > 0 {
            add(Event::Missed(missed))?;
        }
        add(event)
    }

    /// The entry so many before the newest one; none where there is none, or one that this firmware does not know.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn back(&mut self, steps: u32) -> Result<Option<Entry>, Failed> {
        Ok(self.ring.back(steps)?.and_then(|it| Entry::decode(&it)))
    }
}
