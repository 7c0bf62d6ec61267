// SPDX-License-Identifier: Apache-2.0
//! Guest memory and the file I/O that goes straight into and out of it.
//!
//! The guest changes its memory while we look: nothing here makes Rust references to it, everything is a volatile copy
//! or an address given to the kernel.

use std::io::{self, IoSlice};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use self::files::Files;
use crate::lock::lock;

mod back;
mod files;

/// The guest's memory; clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    mapped: GuestMemoryMmap<()>,
    /// Where files lie in it. All else is anonymous.
    files: Arc<Mutex<Files>>,
}

impl Deref for Memory {
    type Target = GuestMemoryMmap<()>;

    fn deref(&self) -> &GuestMemoryMmap<()> {
        &self.mapped
    }
}

/// A range of guest memory, known to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of its first byte.
    pub address: GuestAddress,
    /// Bytes, at least 1.
    pub len: u32,
}

/// Maps the ranges (first address, bytes) as anonymous memory that is taken when the guest touches it.
pub fn map(ranges: &[(u64, u64)]) -> io::Result<Memory> {
    let ranges: Result<Vec<_>, _> = ranges
        .iter()
        .map(|(at, len)| usize::try_from(*len).map(|len| (GuestAddress(*at), len)))
        .collect();
    let ranges = ranges.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mapped = GuestMemoryMmap::from_ranges(&ranges).map_err(io::Error::other)?;
    Ok(Memory {
        mapped,
        files: Arc::default(),
    })
}

/// Puts `len` bytes of the file from `offset` on into guest memory at `address`. Whole pages are mapped, where file and memory are
/// aligned alike: what the guest only reads it shares with every other guest of that file, and what it writes becomes its own. The
/// rest is copied. Only before KVM is given the memory.
///
/// Who changes the file meanwhile changes the guest, and who shortens it takes memory from under it: as with a running program, a
/// new file beside it and a rename are the way.
pub fn lay_file(
    memory: &Memory,
    address: GuestAddress,
    len: u64,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    let aligned = address.0.is_multiple_of(page) && offset.is_multiple_of(page);
    // Nothing is mapped that the file does not have: touching it would be a fault, where reading it is an error.
    let there = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let there = there.saturating_sub(offset);
    let mapped = if aligned {
        len.min(there) / page * page
    } else {
        0
    };
    if mapped > 0 {
        let mapped = usize::try_from(mapped).map_err(io::Error::other)?;
        map_file(memory, address, mapped, file, offset)?;
    }
    if mapped == len {
        return Ok(());
    }
    let rest = Segment {
        address: GuestAddress(address.0 + mapped),
        len: u32::try_from(len - mapped).map_err(io::Error::other)?,
    };
    read_file(memory, [rest], file, offset + mapped)
}

/// `len` and `offset` are whole pages, at least one, and so is the place that `address` has in our own memory.
fn map_file(
    memory: &Memory,
    address: GuestAddress,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let from = i64::try_from(offset).map_err(|_| invalid())?;
    let slice = memory.get_slice(address, len).map_err(|_| invalid())?;
    let at = slice.ptr_guard_mut().as_ptr();
    // SAFETY: `slice` is `len` bytes inside one mapping that `memory` made and unmaps as a whole when it is dropped, and mmap takes
    // whole pages or nothing. Nobody holds a Rust reference to guest memory; for all others its bytes may change at any time.
    let mapped = unsafe {
        libc::mmap64(
            at.cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            from,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    lock(&memory.files).add(address.0, address.0 + len as u64);
    Ok(())
}

/// Vectors given to the kernel in one call: 1 KiB of stack. IOV_MAX would be 1024.
const AT_ONCE: usize = 64;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    FileToGuest,
    GuestToFile,
}

/// Reads from `file` at `offset` until every segment is full; a file that is too short is an error.
pub fn read_file(
    memory: &Memory,
    segments: impl IntoIterator<Item = Segment>,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    transfer(memory, segments, file, offset, Way::FileToGuest)
}

/// Writes every segment to `file` at `offset`.
pub fn write_file(
    memory: &Memory,
    segments: impl IntoIterator<Item = Segment>,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    transfer(memory, segments, file, offset, Way::GuestToFile)
}

/// Writes zeros.
pub fn write_zeros(file: BorrowedFd<'_>, mut offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; 4096] = [0; 4096];
    let end = offset.checked_add(length);
    let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    while offset < end {
        let left = end - offset;
        let mut pieces = [IoSlice::new(&ZEROS); AT_ONCE];
        let whole = usize::try_from(left / ZEROS.len() as u64).unwrap_or(usize::MAX);
        let count = if whole == 0 {
            pieces[0] = IoSlice::new(&ZEROS[..usize::try_from(left).expect("less than a page")]);
            1
        } else {
            whole.min(AT_ONCE)
        };
        match rustix::io::pwritev(file, &pieces[..count], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(done) => offset += done as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn transfer(
    memory: &Memory,
    segments: impl IntoIterator<Item = Segment>,
    file: BorrowedFd<'_>,
    offset: u64,
    way: Way,
) -> io::Result<()> {
    let mut at = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut segments = segments.into_iter();
    loop {
        let mut vectors = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; AT_ONCE];
        let mut count = 0;
        for (vector, segment) in vectors.iter_mut().zip(segments.by_ref().take(AT_ONCE)) {
            let slice = memory
                .get_slice(segment.address, segment.len as usize)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            vector.iov_base = slice.ptr_guard_mut().as_ptr().cast();
            vector.iov_len = slice.len();
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        at = transfer_vectors(&mut vectors[..count], file, at, way)?;
    }
}

/// Moves all bytes of the vectors, which are guest memory, and gives the offset behind them.
fn transfer_vectors(
    mut left: &mut [libc::iovec],
    file: BorrowedFd<'_>,
    mut at: i64,
    way: Way,
) -> io::Result<i64> {
    while !left.is_empty() {
        let count = libc::c_int::try_from(left.len()).expect("at most AT_ONCE");
        // SAFETY: each vector was made by the only caller, `transfer`, from a `VolatileSlice` of a `memory` that it holds until
        // this function returns, and is only ever shortened below; the kernel writes to or reads from just those bytes, and no
        // Rust reference to them exists.
        let done = unsafe {
            match way {
                Way::FileToGuest => libc::preadv64(file.as_raw_fd(), left.as_ptr(), count, at),
                Way::GuestToFile => libc::pwritev64(file.as_raw_fd(), left.as_ptr(), count, at),
            }
        };
        let mut done = match usize::try_from(done) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(done) => done,
            Err(_) => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => continue,
                e => return Err(e),
            },
        };
        at += i64::try_from(done).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        while done > 0 {
            let first = &mut left[0];
            if done < first.iov_len {
                // SAFETY: `done` is below the vector's length, so the address stays inside the same slice.
                first.iov_base = unsafe { first.iov_base.cast::<u8>().add(done) }.cast();
                first.iov_len -= done;
                break;
            }
            done -= first.iov_len;
            left = &mut left[1..];
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use std::os::fd::AsFd;

    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn bytes_reach_the_file_and_come_back_in_order() {
        let memory = map(&[(0, 1 << 20)]).unwrap();
        let file = tempfile::tempfile().unwrap();
        let segments = |base| {
            [(base, 3), (base + 100, 5)].map(|(at, len)| Segment {
                address: GuestAddress(at),
                len,
            })
        };
        memory.write_slice(b"abc", GuestAddress(0)).unwrap();
        memory.write_slice(b"defgh", GuestAddress(100)).unwrap();
        write_file(&memory, segments(0), file.as_fd(), 10).unwrap();
        read_file(&memory, segments(500), file.as_fd(), 10).unwrap();
        let mut back = [0; 8];
        memory
            .read_slice(&mut back[..3], GuestAddress(500))
            .unwrap();
        memory
            .read_slice(&mut back[3..], GuestAddress(600))
            .unwrap();
        assert_eq!(&back, b"abcdefgh");
        let short = read_file(&memory, segments(0), file.as_fd(), 11).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn whole_pages_of_a_file_lie_in_guest_memory_until_the_guest_writes_to_them() {
        let page = rustix::param::page_size();
        let page_64 = page as u64;
        let memory = map(&[(0, 16 * page_64)]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 3 * page]).unwrap();
        let lay =
            |at: u64, len, offset| lay_file(&memory, GuestAddress(at), len, file.as_fd(), offset);
        let read = |at: u64| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        lay(4 * page_64, page_64 + 5, page_64).unwrap();
        lay(8 * page_64 + 1, page_64, page_64).unwrap();
        let end = 5 * page_64 + 5;
        assert_eq!(
            [
                read(4 * page_64 - 1),
                read(4 * page_64),
                read(end - 1),
                read(end)
            ],
            [0, 7, 7, 0]
        );
        for at in [page_64, 2 * page_64] {
            file.write_all_at(&[8], at).unwrap();
        }
        assert_eq!(
            [read(4 * page_64), read(5 * page_64), read(8 * page_64 + 1)],
            [8, 7, 7],
            "shared only where pages are whole and aligned alike"
        );
        memory.write_obj(9u8, GuestAddress(4 * page_64)).unwrap();
        let mut back = [0];
        file.read_exact_at(&mut back, page_64).unwrap();
        assert_eq!(
            (back, read(4 * page_64)),
            ([8], 9),
            "written for itself alone"
        );
        for (at, len, offset) in [
            (0, 2 * page_64, 2 * page_64),
            (15 * page_64, 2 * page_64, 0),
            (0, page_64, u64::MAX - page_64 + 1),
        ] {
            assert!(lay(at, len, offset).is_err(), "{at} {len} {offset}");
        }
    }
}
