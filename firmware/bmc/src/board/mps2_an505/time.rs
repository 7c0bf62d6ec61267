// SPDX-License-Identifier: Apache-2.0
//! Microseconds since the start, and alarms, for embassy-time.
//!
//! The FPGA's counter runs at 1 MHz and 32 bits: it goes round in 71 minutes. SysTick gives the alarms; it runs at 20 MHz and 24 bits, so
//! that the longest takes 0.8 s, after which the counter is looked at anyway and no round is missed.

use core::cell::RefCell;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use super::registers::Registers;

// SAFETY: FPGAIO of the machine (DAI0505, table 4-1: 0x5030_2000, secure).
const FPGA: Registers = unsafe { Registers::at(0x5030_2000) };
const COUNTER: usize = 0x18;
const PRESCALE: usize = 0x1c;
// SAFETY: SysTick of any Armv8-M (DDI0553, D1.2.236). The only user of these is this file.
const SYSTICK: Registers = unsafe { Registers::at(0xe000_e010) };
const CONTROL: usize = 0x0;
const RELOAD: usize = 0x4;
const CURRENT: usize = 0x8;
/// On, with its interrupt, at the processor's clock.
const ON: u32 = 0b111;

/// Of the processor and of what the FPGA's counter divides.
const MHZ: u32 = 20;
/// Microseconds, within the 24 bits.
const LONGEST: u64 = 800_000;

struct Time {
    inner: Mutex<RefCell<Inner>>,
}

struct Inner {
    queue: Queue,
    rounds: u32,
    last: u32,
}

embassy_time_driver::time_driver_impl!(static TIME: Time = Time {
    inner: Mutex::new(RefCell::new(Inner { queue: Queue::new(), rounds: 0, last: 0 })),
});

/// Microseconds since the start.
pub(crate) fn now() -> u64 {
    TIME.now()
}

pub(super) fn start() {
    FPGA.write(PRESCALE, MHZ - 1);
    FPGA.write(COUNTER, 0);
    arm(LONGEST);
}

/// In so many microseconds, at most [`LONGEST`].
fn arm(wait: u64) {
    let wait = u32::try_from(wait.clamp(1, LONGEST)).unwrap_or(1);
    SYSTICK.write(RELOAD, wait * MHZ);
    SYSTICK.write(CURRENT, 0);
    SYSTICK.write(CONTROL, ON);
}

impl Inner {
    fn now(&mut self) -> u64 {
        let counter = FPGA.read(COUNTER);
        if counter < self.last {
            self.rounds += 1;
        }
        self.last = counter;
        u64::from(self.rounds) << 32 | u64::from(counter)
    }

    fn next_alarm(&mut self) {
        let now = self.now();
        let next = self.queue.next_expiration(now);
        arm(next.saturating_sub(now));
    }
}

impl Time {
    fn with<T>(&self, cs: CriticalSection<'_>, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.borrow_ref_mut(cs))
    }
}

impl Driver for Time {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.with(cs, Inner::now))
    }

    fn schedule_wake(&self, at: u64, waker: &core::task::Waker) {
        critical_section::with(|cs| {
            self.with(cs, |inner| {
                if inner.queue.schedule_wake(at, waker) {
                    inner.next_alarm();
                }
            });
        });
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    critical_section::with(|cs| TIME.with(cs, Inner::next_alarm));
}
