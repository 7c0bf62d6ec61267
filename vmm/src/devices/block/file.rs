// SPDX-License-Identifier: Apache-2.0
//! A disk on a file of the host or on a block device.
//!
//! What each kind of file can do is found by asking it, in this order, and the host's kernel has the last word: a file system
//! without holes, a disk without a command for it, blocks larger than what is asked for.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;

use racklet_linux::block;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::Backend;
use crate::memory::{self, Memory};
use crate::virtio::Parts;

impl Backend for File {
    fn read(&self, memory: &Memory, to: Parts<'_>, offset: u64) -> io::Result<()> {
        memory::read_file(memory, to, self.as_fd(), offset)
    }

    fn write(&self, memory: &Memory, from: Parts<'_>, offset: u64) -> io::Result<()> {
        memory::write_file(memory, from, self.as_fd(), offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// Also of a block device. Nothing else here depends on where the file's position is.
    fn size(&self) -> io::Result<u64> {
        (&*self).seek(SeekFrom::End(0))
    }

    /// A block device is asked for just that; a file gets a hole.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let cannot = io::ErrorKind::Unsupported;
        match block::discard(self, offset, length) {
            // No block device.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                match change(self, HOLE, offset, length)? {
                    Done::Yes => Ok(()),
                    Done::CannotBe => Err(cannot.into()),
                }
            }
            // Blocks larger than what is asked for.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(cannot.into()),
            done => done,
        }
    }

    /// A hole where room may be given up; else, or where there are none, blocks that are marked as never written; else zeros.
    fn zero(&self, offset: u64, length: u64, give_up: bool) -> io::Result<()> {
        let ways = [(HOLE, give_up), (UNWRITTEN, true)];
        for (way, allowed) in ways {
            if allowed && change(self, way, offset, length)? == Done::Yes {
                return Ok(());
            }
        }
        memory::write_zeros(self.as_fd(), offset, length)
    }
}

/// On a block device, the command to write zeros that may unmap; an error where it has none (`blkdev_fallocate`, block/fops.c).
const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
/// On a block device, the same without unmapping, or zeros that the kernel writes.
const UNWRITTEN: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

#[derive(Debug, PartialEq, Eq)]
enum Done {
    Yes,
    CannotBe,
}

fn change(file: &File, way: FallocateFlags, offset: u64, length: u64) -> io::Result<Done> {
    loop {
        return match fallocate(file, way, offset, length) {
            Ok(()) => Ok(Done::Yes),
            Err(Errno::INTR) => continue,
            // Not this file system, not this disk, not an older kernel's, or not blocks of this size.
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS | Errno::INVAL) => {
                Ok(Done::CannotBe)
            }
            Err(error) => Err(error.into()),
        };
    }
}
