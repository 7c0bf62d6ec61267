// SPDX-License-Identifier: Apache-2.0
//! The hardware watchdog: fed in time, or the machine resets.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::ioctl::{self, Opcode, opcode};

// linux/watchdog.h: WDIOC_SETTIMEOUT is _IOWR('W', 6, int).
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(b'W', 6);

/// An armed watchdog. Dropping it leaves it armed: the machine resets unless somebody opens and feeds it again, which
/// is what a dead PID 1 should lead to. [`Watchdog::disarm`] stops it.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    seconds: u32,
}

impl Watchdog {
    /// Arms `/dev/watchdog` with about `seconds`; `None` when the machine has none.
    pub fn arm(seconds: u32) -> io::Result<Option<Self>> {
        Self::arm_at(Path::new("/dev/watchdog"), seconds)
    }

    fn arm_at(path: &Path, seconds: u32) -> io::Result<Option<Self>> {
        let file = match File::options().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut granted = i32::try_from(seconds).unwrap_or(i32::MAX);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which `granted` is.
        // A driver with a fixed time refuses; it is armed all the same, with its own time.
        let set =
            unsafe { ioctl::ioctl(&file, ioctl::Updater::<SET_TIMEOUT, i32>::new(&mut granted)) };
        let seconds = if set.is_ok() {
            u32::try_from(granted).unwrap_or(seconds)
        } else {
            0
        };
        Ok(Some(Self { file, seconds }))
    }

    /// The time the driver granted, in seconds; 0 when the driver does not say.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Puts the reset off by another period.
    pub fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(b"\0")
    }

    /// Stops the watchdog ("magic close"), where the driver allows that.
    pub fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_watchdog_is_no_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(
            Watchdog::arm_at(&folder.path().join("watchdog"), 30)
                .expect("no error")
                .is_none()
        );
    }

    #[test]
    fn feeding_and_disarming_write_what_the_driver_expects() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("watchdog");
        std::fs::write(&path, b"").expect("writes");
        let mut dog = Watchdog::arm_at(&path, 30)
            .expect("opens")
            .expect("is there");
        assert_eq!(dog.seconds(), 0, "a plain file grants no time");
        dog.feed().expect("feeds");
        dog.disarm().expect("disarms");
        assert_eq!(std::fs::read(&path).expect("reads"), b"\0V");
    }
}
