// SPDX-License-Identifier: Apache-2.0
//! The disk below, so that a test can cut its power at each write.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};

/// A partition, by bytes from its start.
pub trait Device {
    /// Fills `out`.
    ///
    /// # Errors
    /// The disk's.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes`, in whatever order and whenever the disk likes until [`Device::flush`].
    ///
    /// # Errors
    /// The disk's.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when everything that was written is on the disk; what is read afterwards comes from there.
    ///
    /// # Errors
    /// The disk's.
    fn flush(&mut self) -> io::Result<()>;
}

/// What is compared, and written where it differs, at once: a card of the usual kind writes pages of 4 to 16 KiB.
const BLOCK: usize = 16 << 10;

/// Writes `bytes` at `offset` where something else is.
pub(crate) fn write_changed(device: &mut impl Device, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut there = vec![0; BLOCK];
    for (block, at) in bytes.chunks(BLOCK).zip((offset..).step_by(BLOCK)) {
        let there = &mut there[..block.len()];
        // What cannot be read is written: that is how a card gets rid of a bad sector.
        if device.read_at(there, at).is_err() || *there != *block {
            device.write_at(block, at)?;
        }
    }
    Ok(())
}

impl Device for File {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_data()?;
        // Clean pages are given up, so that the next read asks the card. A wish, which the kernel need not grant: the bootloader verifies
        // what the card has in any case.
        let _ = fadvise(&*self, 0, None, Advice::DontNeed);
        Ok(())
    }
}
