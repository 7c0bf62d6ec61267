// SPDX-License-Identifier: Apache-2.0
//! How fast a device may be: token buckets, and how limits reach a device that works.
//!
//! A bucket holds at most its burst and earns its rate with time. What may pass takes from it; what may not learns how long to wait.
//! So in any time no more passes than burst + rate * time, to the last unit: fractions are kept, in billionths, as a nanosecond earns.
//! Time is given by the caller. One that goes back earns nothing until it is where it has been, one that jumps fills the bucket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use racklet_api::vmm::rate::{ByteLimit, CardRate, CountLimit, DiskRate, Limit, RateOrder};

use crate::lock::lock;

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of a clock that goes on while this process does not run; from the first question on.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let passed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX) // 584 years
}

/// A token bucket.
#[derive(Debug, Clone)]
struct Bucket {
    /// Per second, at least 1.
    rate: u64,
    /// At least 1.
    burst: u64,
    /// At most `burst`.
    level: u64,
    /// What was earned beyond `level`, in billionths: less than one. None in a full bucket.
    part: u64,
    /// The latest time seen.
    seen: u64,
}

impl Bucket {
    fn full(rate: u64, burst: u64, now: u64) -> Bucket {
        Bucket {
            rate,
            burst,
            level: burst,
            part: 0,
            seen: now,
        }
    }

    fn earn(&mut self, now: u64) {
        let passed = now.saturating_sub(self.seen);
        self.seen = self.seen.max(now);
        // At most (2^64 - 1)^2 + 2^30, below 2^128.
        let earned = u128::from(passed) * u128::from(self.rate) + u128::from(self.part);
        let level = earned / u128::from(SECOND) + u128::from(self.level);
        match u64::try_from(level) {
            Ok(level) if level < self.burst => {
                self.level = level;
                self.part = u64::try_from(earned % u128::from(SECOND)).expect("below a second");
            }
            _ => (self.level, self.part) = (self.burst, 0),
        }
    }

    /// Nanoseconds until there is as much, which is at most the burst; 0 when there is.
    fn wait(&self, amount: u64) -> u64 {
        let Some(missing) = amount
            .checked_sub(self.level)
            .filter(|missing| *missing > 0)
        else {
            return 0;
        };
        let missing = u128::from(missing) * u128::from(SECOND) - u128::from(self.part);
        u64::try_from(missing.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX)
    }

    /// There must be as much.
    fn take(&mut self, amount: u64) {
        self.level -= amount;
    }
}

/// Something has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Until when, by the meter's clock; it may be longer.
    pub until: u64,
    /// It has not been told so before.
    pub first: bool,
}

/// The limits of a device, or of one direction of it.
#[derive(Debug, Clone)]
pub struct Meter {
    clock: fn() -> u64,
    bytes: Option<Bucket>,
    count: Option<Bucket>,
    waits: bool,
}

impl Meter {
    /// None.
    pub fn unlimited(clock: fn() -> u64) -> Meter {
        Meter {
            clock,
            bytes: None,
            count: None,
            waits: false,
        }
    }

    /// From now on these. A limit that was there keeps what it has earned.
    pub fn set(&mut self, bytes: Option<ByteLimit>, count: Option<CountLimit>) {
        let now = (self.clock)();
        change(&mut self.bytes, bytes, now);
        change(&mut self.count, count, now);
    }

    /// Most bytes that can be taken at once.
    pub fn most(&self) -> u64 {
        self.bytes.as_ref().map_or(u64::MAX, |bucket| bucket.burst)
    }

    /// Takes so many bytes, at most [`Meter::most`], and of what is counted `count`, at most 1; or nothing of both.
    pub fn take(&mut self, bytes: u64, count: u64) -> Result<(), Wait> {
        let mut buckets = [(&mut self.bytes, bytes), (&mut self.count, count)];
        if buckets.iter().all(|(bucket, _)| bucket.is_none()) {
            return Ok(()); // and no clock is asked
        }
        let now = (self.clock)();
        let mut wait = 0;
        for (bucket, amount) in &mut buckets {
            if let Some(bucket) = bucket {
                bucket.earn(now);
                wait = wait.max(bucket.wait(*amount));
            }
        }
        if wait > 0 {
            let first = !std::mem::replace(&mut self.waits, true);
            let until = now.saturating_add(wait);
            return Err(Wait { until, first });
        }
        for (bucket, amount) in buckets {
            if let Some(bucket) = bucket {
                bucket.take(amount);
            }
        }
        self.waits = false;
        Ok(())
    }

    /// What waited does so no longer: it has been forgotten.
    pub fn forget(&mut self) {
        self.waits = false;
    }
}

fn change<const LEAST: u64>(bucket: &mut Option<Bucket>, limit: Option<Limit<LEAST>>, now: u64) {
    *bucket = limit.map(|limit| {
        let mut new = Bucket::full(limit.per_second(), limit.burst(), now);
        if let Some(mut old) = bucket.take() {
            old.earn(now);
            new.level = old.level.min(new.burst);
        }
        new
    });
}

/// A setting that the control socket changes and a device's thread takes over.
#[derive(Debug)]
pub struct Knob<T>(Arc<Turned<T>>);

#[derive(Debug)]
struct Turned<T> {
    /// Whether there is one: looked at without the lock, so that nothing new costs nothing.
    new: AtomicBool,
    setting: Mutex<Option<T>>,
}

impl<T> Clone for Knob<T> {
    fn clone(&self) -> Knob<T> {
        Knob(self.0.clone())
    }
}

impl<T> Default for Knob<T> {
    fn default() -> Knob<T> {
        Knob(Arc::new(Turned {
            new: AtomicBool::new(false),
            setting: Mutex::new(None),
        }))
    }
}

impl<T> Knob<T> {
    /// Sets it. The device's thread is to be woken behind this.
    pub fn set(&self, setting: T) {
        *lock(&self.0.setting) = Some(setting);
        self.0.new.store(true, Ordering::Release);
    }

    /// What was set last, once.
    pub fn take(&self) -> Option<T> {
        if !self.0.new.swap(false, Ordering::Acquire) {
            return None;
        }
        lock(&self.0.setting).take()
    }
}

/// Those of all disks and cards of a machine, each with the number of its device.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    pub(crate) disks: Vec<(u16, Knob<DiskRate>)>,
    pub(crate) cards: Vec<(u16, Knob<CardRate>)>,
}

impl Knobs {
    /// Gives the number of the device, which is to be woken.
    pub(crate) fn turn(&self, order: &RateOrder) -> Result<u16, String> {
        match order {
            RateOrder::Disk { number, rate } => turn(&self.disks, *number, *rate, "disks"),
            RateOrder::Card { number, rate } => turn(&self.cards, *number, *rate, "cards"),
        }
    }
}

fn turn<T>(all: &[(u16, Knob<T>)], number: u8, to: T, what: &str) -> Result<u16, String> {
    let Some((device, knob)) = all.get(usize::from(number)) else {
        let count = all.len();
        return Err(format!(
            "there is no number {number}: {count} {what}, counted from 0"
        ));
    };
    knob.set(to);
    Ok(*device)
}

#[cfg(test)]
mod tests;
