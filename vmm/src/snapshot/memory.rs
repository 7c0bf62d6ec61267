// SPDX-License-Identifier: Apache-2.0
//! `memory`: guest memory range after range, and behind it a page that says which snapshot's it is.
//!
//! ```text
//! a full one:    [all of memory, holes where it is zero]                                      [whose]
//! a difference:  [what is other than in a full one, holes elsewhere] [a bit for each such page] [whose]
//! ```
//!
//! A difference is found by comparing, page by page, and not by what KVM or our own devices have marked as written: so nothing can be
//! missed, whoever wrote it (a vCPU, a device, the host's kernel for one of them, a page that went back and is zeros now), a guest that
//! was restored has its differences to where it came from, and a guest of which none is made pays nothing. What it costs is that the
//! full one is read meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use racklet_trust::digest::Hex;
use rustix::fs::fstat;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::file::Id;
use crate::memory::{Memory, Segment, read_file};

/// What a hole is made of: the smallest page of any host. Larger blocks of the file system make larger holes.
const PAGE: usize = 4096;
/// Bytes behind the memory, written last: a file without them is not whole.
pub(super) const TRAILER: usize = PAGE;
/// Bytes looked at at once; guests' memory is whole MiB.
const PIECE: usize = 256 * 1024;

/// The page at the end.
pub(super) fn trailer(id: &Id) -> [u8; TRAILER] {
    let mut page = [0; TRAILER];
    page[..id.0.len()].copy_from_slice(&id.0);
    page
}

/// Bytes of a difference's bits, whole pages: a full one with so much memory has another length.
pub(super) fn bits(total: u64) -> u64 {
    total
        .div_ceil(8 * PAGE as u64)
        .next_multiple_of(PAGE as u64)
}

/// How long the file is: by the call that the saver may make, where std makes another (statx).
fn length_of(file: &File) -> io::Result<u64> {
    u64::try_from(fstat(file)?.st_size).map_err(io::Error::other)
}

/// Whether the file has `length` bytes and this page behind them.
pub(super) fn is_whole(file: &File, length: u64, id: &Id) -> io::Result<bool> {
    let mut end = [0; TRAILER];
    Ok(length_of(file)? == length + TRAILER as u64
        && file.read_exact_at(&mut end, length).is_ok()
        && end == trailer(id))
}

/// Whose memory a full snapshot's file is, if it is that of a machine with so much. Nobody's is one whose last page is zeros: what was
/// to be written there has never reached the disk.
pub(super) fn whose(file: &File, total: u64) -> io::Result<Option<Id>> {
    let mut id = Hex([0; 16]);
    if length_of(file)? != total + TRAILER as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut id.0, total)?;
    let somebodys = id.0 != [0; 16] && is_whole(file, total, &id)?;
    Ok(somebodys.then_some(id))
}

/// Writes memory into an empty file, which is stable when this comes back: all of it, or what is other than in `base`, a full one of a
/// machine with as much. Gives the bytes that are no holes.
pub(super) fn write(memory: &Memory, id: &Id, file: &File, base: Option<&File>) -> io::Result<u64> {
    let total = memory.size();
    file.set_len(0)?;
    file.set_len(total)?;
    let mut difference = base.map(|base| Difference::to(base, total)).transpose()?;
    let mut written = 0;
    let mut offset = 0;
    let mut piece = vec![0; PIECE];
    for region in memory.iter() {
        let (mut at, mut left) = (region.start_addr().0, region.len());
        while left > 0 {
            let len = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            // A copy: what is written is what was looked at.
            memory
                .read_slice(&mut piece[..len], GuestAddress(at))
                .expect("within the region");
            if let Some(difference) = &mut difference {
                difference.look(offset, len)?;
            }
            let pages = (0..).step_by(PAGE).zip(piece[..len].chunks(PAGE));
            let wanted = pages.map(|(at, page)| {
                let changed = difference
                    .as_mut()
                    .is_none_or(|difference| difference.differs(offset, at, page));
                (at, changed && *page != [0; PAGE][..page.len()])
            });
            written += write_runs(file, &piece[..len], wanted, offset)?;
            (at, left, offset) = (at + len as u64, left - len as u64, offset + len as u64);
        }
    }
    let mut end = total;
    if let Some(difference) = difference {
        file.write_all_at(&difference.bits, end)?;
        end += difference.bits.len() as u64;
        written += difference.bits.len() as u64;
    }
    file.write_all_at(&trailer(id), end)?;
    file.sync_data()?;
    Ok(written + TRAILER as u64)
}

/// What a difference is made to, and what was found.
struct Difference<'a> {
    base: &'a File,
    /// What `base` has where is looked now.
    was: Vec<u8>,
    bits: Vec<u8>,
}

impl Difference<'_> {
    fn to(base: &File, total: u64) -> io::Result<Difference<'_>> {
        let bits = usize::try_from(bits(total)).map_err(io::Error::other)?;
        Ok(Difference {
            base,
            was: vec![0; PIECE],
            bits: vec![0; bits],
        })
    }

    fn look(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.base.read_exact_at(&mut self.was[..len], offset)
    }

    /// Whether this page, `at` in the piece at `offset`, is another one now; marks it.
    fn differs(&mut self, offset: u64, at: usize, page: &[u8]) -> bool {
        let differs = self.was[at..at + page.len()] != *page;
        if differs {
            let number = usize::try_from(offset).expect("as `bits` fits") / PAGE + at / PAGE;
            self.bits[number / 8] |= 1 << (number % 8);
        }
        differs
    }
}

/// Writes each run of pages that are wanted: where they begin, and whether.
fn write_runs(
    file: &File,
    piece: &[u8],
    pages: impl Iterator<Item = (usize, bool)>,
    offset: u64,
) -> io::Result<u64> {
    let mut written = 0;
    let mut run: Option<usize> = None;
    let end = std::iter::once((piece.len(), false));
    for (at, wanted) in pages.chain(end) {
        match (run, wanted) {
            (None, true) => run = Some(at),
            (Some(from), false) => {
                file.write_all_at(&piece[from..at], offset + from as u64)?;
                written += (at - from) as u64;
                run = None;
            }
            _ => {}
        }
    }
    Ok(written)
}

/// Puts a difference, whose file is whole, over the memory of what it was made to. Its bits are a claim: one beyond memory is not
/// looked at.
pub(super) fn apply(memory: &Memory, file: &File) -> io::Result<()> {
    let total = memory.size();
    let mut marks = vec![0; usize::try_from(bits(total)).map_err(io::Error::other)?];
    file.read_exact_at(&mut marks, total)?;
    let marked = |page: u64| {
        let byte = usize::try_from(page / 8).ok().and_then(|n| marks.get(n));
        byte.is_some_and(|byte| byte >> (page % 8) & 1 != 0)
    };
    let page = PAGE as u64;
    let mut offset = 0;
    for region in memory.iter() {
        let (start, pages) = (region.start_addr().0, region.len() / page);
        let mut at = 0;
        while at < pages {
            let first = offset / page + at;
            let most = (pages - at).min((PIECE / PAGE) as u64);
            let run = (0..most).take_while(|n| marked(first + n)).count() as u64;
            if run > 0 {
                let segment = Segment {
                    address: GuestAddress(start + at * page),
                    len: u32::try_from(run * page).expect("at most a piece"),
                };
                read_file(memory, [segment], file.as_fd(), first * page)?;
            }
            at += run.max(1);
        }
        offset += region.len();
    }
    Ok(())
}
