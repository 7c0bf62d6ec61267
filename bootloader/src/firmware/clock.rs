// SPDX-License-Identifier: Apache-2.0
//! Time since the bootloader was started, from the processor's own counter. UEFI itself counts only whole seconds.

use core::time::Duration;

pub(crate) struct Clock {
    start: u64,
    per_millisecond: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let per_millisecond = frequency() / 1000;
        Self {
            start: counter(),
            per_millisecond: per_millisecond.max(1),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(counter().wrapping_sub(self.start) / self.per_millisecond)
    }
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and firmware does not forbid it (CR4.TSD) to itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Counts per second, measured against the firmware's own delay.
#[cfg(target_arch = "x86_64")]
fn frequency() -> u64 {
    let before = counter();
    uefi::boot::stall(Duration::from_millis(2));
    counter().wrapping_sub(before).saturating_mul(500)
}

#[cfg(target_arch = "aarch64")]
fn counter() -> u64 {
    let count: u64;
    // SAFETY: reads the generic timer's virtual count, which the Arm ARM lets EL1 and EL2 always read; no memory is touched.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
    count
}

/// Counts per second, as the firmware has set them (Arm ARM, CNTFRQ_EL0).
#[cfg(target_arch = "aarch64")]
fn frequency() -> u64 {
    let frequency: u64;
    // SAFETY: as in `counter`.
    unsafe { core::arch::asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack)) };
    frequency
}
