// SPDX-License-Identifier: Apache-2.0
//! The clocks: since boot, and the wall clock, which a PID 1 also sets.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, Timespec};

fn duration(time: Timespec) -> Duration {
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    u64::try_from(time.tv_sec).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanos))
}

/// Time since the kernel started.
pub fn since_boot() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Boottime))
}

/// Processor time of this process, all threads, its own and the kernel's on its behalf.
pub fn used() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::ProcessCPUTime))
}

/// The wall clock since 1970; zero when it is before that.
pub fn wall() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Realtime))
}

/// Sets the wall clock.
pub fn set_wall(time: Duration) -> io::Result<()> {
    let seconds = i64::try_from(time.as_secs()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: time.subsec_nanos().into(),
    };
    Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
}
