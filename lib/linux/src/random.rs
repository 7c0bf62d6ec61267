// SPDX-License-Identifier: Apache-2.0
//! The kernel's random numbers, for who knows that they may be another machine's, too.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// `_IO('R', 0x07)`, linux/random.h.
const RNDRESEEDCRNG: u32 = 0x5207;

/// Mixes `bytes` into what the kernel's generator is seeded from, and seeds it again at once: what is read from then on depends on
/// them. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// What the system says of `/dev/urandom`.
pub fn reseed(bytes: &[u8]) -> io::Result<()> {
    let mut generator = OpenOptions::new().write(true).open("/dev/urandom")?;
    generator.write_all(bytes)?;
    // SAFETY: this request takes no argument, so that no memory of ours is concerned; the descriptor is open until the end.
    let done = unsafe { libc::ioctl(generator.as_raw_fd(), RNDRESEEDCRNG as _) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_seeded_again_by_root_and_by_nobody_else() {
        let root = rustix::process::geteuid().is_root();
        match reseed(&[7; 32]) {
            Ok(()) => assert!(root),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
