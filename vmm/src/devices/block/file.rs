// SPDX-License-Identifier: Apache-2.0
//! A disk on a file of the host or on a block device.
//!
//! What each kind of file can do is found by asking it, in this order, and the host's kernel has the last word: a file system
//! without holes, a disk without a command for it, blocks larger than what is asked for.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;

use racklet_linux::block;
use rustix::fs::{
    FallocateFlags, FileType, FlockOperation, OFlags, fallocate, fcntl_getfl, flock, fstat,
};
use rustix::io::Errno;

use super::{Backend, Claim, SECTOR};
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

    /// For as long as it is open, or until it is released. Whoever opened it may be anybody that the owner of the microVM trusts with it,
    /// so that it is taken only as it was said to be.
    fn claim(&self, read_only: bool) -> io::Result<Claim> {
        let is_device = match FileType::from_raw_mode(fstat(self)?.st_mode) {
            FileType::RegularFile => false,
            FileType::BlockDevice => true,
            _ => return Err(io::Error::other("neither a file nor a block device")),
        };
        let flags = fcntl_getfl(self)?;
        let wanted = if read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        // O_APPEND writes behind the end wherever a write is to go (pwrite(2), BUGS); O_DIRECT wants memory that a guest need not give.
        if flags & OFlags::RWMODE != wanted
            || flags.intersects(OFlags::PATH | OFlags::APPEND | OFlags::DIRECT)
        {
            return Err(io::Error::other(if read_only {
                "not opened plainly and for reading alone, as a disk is that is only read"
            } else {
                "not opened plainly and for both reading and writing, as a disk is that is written"
            }));
        }
        // Read by many or written by one: two guests that write one file system destroy it.
        let (lock, held) = if read_only {
            let held = "another microVM writes to it";
            (FlockOperation::NonBlockingLockShared, held)
        } else {
            let held = "another microVM uses it: a disk that is written belongs to one";
            (FlockOperation::NonBlockingLockExclusive, held)
        };
        flock(self, lock).map_err(|error| match error {
            Errno::WOULDBLOCK => io::Error::other(held),
            error => error.into(),
        })?;
        let bytes = self.size()?;
        if bytes < SECTOR {
            self.release();
            return Err(io::Error::other("smaller than a sector"));
        }
        Ok(Claim { bytes, is_device })
    }

    /// Also where somebody else has it open, who gave it.
    fn release(&self) {
        // Fails only for what cannot be locked, and this is.
        let _ = flock(self, FlockOperation::Unlock);
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
