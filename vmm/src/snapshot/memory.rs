// SPDX-License-Identifier: Apache-2.0
//! `memory`: guest memory range after range, holes where it is zero, and behind it a page that says which snapshot's it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::file::Id;
use crate::memory::Memory;

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

/// Writes all of memory into an empty file, which is stable when this comes back. Gives the bytes that are no holes.
pub(super) fn write(memory: &Memory, id: &Id, file: &File) -> io::Result<u64> {
    let total: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    file.set_len(0)?;
    file.set_len(total)?;
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
            written += write_piece(file, &piece[..len], offset)?;
            (at, left, offset) = (at + len as u64, left - len as u64, offset + len as u64);
        }
    }
    file.write_all_at(&trailer(id), total)?;
    file.sync_data()?;
    Ok(written + TRAILER as u64)
}

/// Writes each run of pages that are not all zero.
fn write_piece(file: &File, piece: &[u8], offset: u64) -> io::Result<u64> {
    let mut written = 0;
    let mut run: Option<usize> = None;
    for (at, page) in (0..).step_by(PAGE).zip(piece.chunks(PAGE)) {
        let empty = *page == [0; PAGE][..page.len()];
        match (run, empty) {
            (None, false) => run = Some(at),
            (Some(from), true) => {
                file.write_all_at(&piece[from..at], offset + from as u64)?;
                written += (at - from) as u64;
                run = None;
            }
            _ => {}
        }
    }
    if let Some(from) = run {
        file.write_all_at(&piece[from..], offset + from as u64)?;
        written += (piece.len() - from) as u64;
    }
    Ok(written)
}
