// SPDX-License-Identifier: Apache-2.0
//! The clock chip at ports 0x70 and 0x71: gives the host's time, cannot be set, has no alarm.
//!
//! Linux takes its time from kvm-clock; this is for guests that do not, and because an absent chip is polled for seconds.

use std::time::{SystemTime, UNIX_EPOCH};

use racklet_trust::date::civil;

use super::state::CmosState;

/// The chip's only state is which register the next read is of.
#[derive(Debug, Default)]
pub(super) struct Cmos {
    index: u8,
}

impl Cmos {
    /// A write of port 0x70 chooses the register; others do nothing.
    pub(super) fn write(&mut self, port: u16, value: u8) {
        if port == 0x70 {
            self.index = value & 0x7f;
        }
    }

    pub(super) fn save(&self) -> CmosState {
        CmosState { index: self.index }
    }

    /// Any index is a register's.
    pub(super) fn restored(state: &CmosState) -> Cmos {
        Cmos {
            index: state.index & 0x7f,
        }
    }

    /// A read of port 0x71.
    #[must_use]
    pub(super) fn read(&self, port: u16) -> u8 {
        if port != 0x71 {
            return 0xff;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        register(self.index, now)
    }
}

/// A register's content at a time (Unix seconds): binary-coded decimal, 24 hours.
fn register(index: u8, now: u64) -> u8 {
    let (days, seconds) = (now / 86_400, now % 86_400);
    let [year, month, day] = civil(days);
    match index {
        0x00 => bcd(seconds % 60),
        0x02 => bcd(seconds / 60 % 60),
        0x04 => bcd(seconds / 3600),
        0x06 => bcd((days + 4) % 7 + 1), // 1970 began on a Thursday; Sunday is 1
        0x07 => bcd(day),
        0x08 => bcd(month),
        0x09 => bcd(year % 100),
        0x32 => bcd(year / 100),
        0x0a => 0x26, // 32 kHz base, never an update in progress
        0x0b => 0x02, // 24 hours
        0x0d => 0x80, // battery good
        _ => 0,
    }
}

fn bcd(value: u64) -> u8 {
    u8::try_from(value / 10 * 16 + value % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days_are_shown_in_decimal() {
        for (now, fields) in [
            (0, [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00]),
            (951_782_399, [0x20, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59]),
            (951_782_400, [0x20, 0x00, 0x02, 0x29, 0x00, 0x00, 0x00]),
            (4_102_444_799, [0x20, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]),
        ] {
            let shown =
                [0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map(|index| register(index, now));
            assert_eq!(shown, fields, "{now}");
        }
        assert_eq!(register(0x0a, 0) & 0x80, 0);
    }
}
