// SPDX-License-Identifier: Apache-2.0
//! Guest memory that goes back to the host, and may be used again at any time.
//!
//! A page that was given back is all zeros when it is touched next; one that could not be is what it was. Nothing else may be: a
//! guest that reports a free page goes on to count on that (virtio 1.2, 5.5.6.7). `MADV_DONTNEED` does so for anonymous memory. For
//! memory on which a file was laid (`lay_file`) it would bring the file's bytes back, so there the pages become anonymous ones: the
//! guest has said that it is done with what the file had, and from then on they are as any others.

use std::io;
use std::ops::Range;

use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::Memory;
use crate::lock::lock;

impl Memory {
    /// All of it, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        use vm_memory::GuestMemoryRegion;
        self.iter().map(GuestMemoryRegion::len).sum()
    }

    /// Gives back the pages of the host that lie in this range as a whole: a page of 16 or 64 KiB is kept where only a part of it is
    /// meant. The range has to be guest memory, and within one region. Says how many bytes went back.
    pub fn give_back(&self, address: GuestAddress, len: u64) -> io::Result<u64> {
        let page = rustix::param::page_size() as u64;
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        let end = address.0.checked_add(len).ok_or_else(outside)?;
        let (from, to) = (address.0.next_multiple_of(page), end / page * page);
        let mut files = lock(&self.files);
        let (mut at, mut done) = (from, 0);
        while at < to {
            let (end, file) = files.piece(at..to);
            if !file {
                done += self.forget(at..end)?;
            } else if files.has_room(&(at..end)) {
                done += self.replace(at..end)?;
                files.cut(at..end);
            }
            at = end;
        }
        Ok(done)
    }

    /// Where these whole pages are in this process, and how many bytes they have.
    fn place(&self, pages: &Range<u64>) -> io::Result<(*mut libc::c_void, usize)> {
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        let len = usize::try_from(pages.end - pages.start).map_err(|_| outside())?;
        let slice = self.get_slice(GuestAddress(pages.start), len);
        let slice = slice.map_err(|_| outside())?;
        Ok((slice.ptr_guard_mut().as_ptr().cast(), len))
    }

    /// For anonymous memory.
    fn forget(&self, pages: Range<u64>) -> io::Result<u64> {
        let (at, len) = self.place(&pages)?;
        // SAFETY: `place` has found these bytes inside one mapping that `self` keeps. Nobody holds a Rust reference to guest memory;
        // for all others its bytes may change at any time, as they do here to zeros.
        if unsafe { libc::madvise(at, len, libc::MADV_DONTNEED) } == 0 {
            Ok(len as u64)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// For memory that a file lies on.
    fn replace(&self, pages: Range<u64>) -> io::Result<u64> {
        let (at, len) = self.place(&pages)?;
        // SAFETY: `place` has found these bytes inside one mapping that `self` made and unmaps as a whole when it is dropped, and mmap
        // takes whole pages or nothing. It puts the new pages there in one step: a vCPU or the kernel that touches them meanwhile finds
        // the old ones or zeros. Nobody holds a Rust reference to guest memory.
        let mapped = unsafe {
            libc::mmap64(
                at,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(len as u64)
    }
}

#[cfg(test)]
mod tests;
