// SPDX-License-Identifier: Apache-2.0
//! What a driver asks of a disk, judged before any of it is done: every field of a request is a claim.

use super::{IO_ERROR, MOST, RANGE_SECTORS, RANGES, SECTOR, UNSUPPORTED};
use crate::memory::Memory;
use crate::virtio::Chain;

/// `struct virtio_blk_req` up to its data: type, reserved, sector.
pub(super) const HEADER: usize = 16;
/// `struct virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
const RANGE: usize = 16;

pub(super) const READ: u32 = 0;
pub(super) const WRITE: u32 = 1;
pub(super) const FLUSH: u32 = 4;
pub(super) const GET_ID: u32 = 8;
pub(super) const DISCARD: u32 = 11;
pub(super) const WRITE_ZEROES: u32 = 13;

/// The only flag of a range: its room may be given up.
const UNMAP: u32 = 1;

/// What takes the file's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    /// What is the disk's serial number?
    Identity,
}

/// Bytes of the disk, all of which exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) offset: u64,
    /// At least a sector.
    pub(super) length: u64,
    /// Room for them need not be kept.
    pub(super) give_up: bool,
}

/// At most [`RANGES`], without a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ranges {
    list: [Range; RANGES],
    count: usize,
}

impl Ranges {
    fn one(range: Range) -> Ranges {
        let mut ranges = Ranges::default();
        ranges.push(range);
        ranges
    }

    /// There must be room for it.
    fn push(&mut self, range: Range) {
        self.list[self.count] = range;
        self.count += 1;
    }

    pub(super) fn get(&self, n: usize) -> Option<Range> {
        self.list[..self.count].get(n).copied()
    }
}

/// A good request.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) kind: Kind,
    /// What it is about, if it is about bytes. The data of a read is all that the chain has room for before its status; that of a write
    /// all behind the header.
    pub(super) ranges: Ranges,
}

/// What the answer depends on, beside the request.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) sectors: u64,
    pub(super) read_only: bool,
    /// The driver accepted these two.
    pub(super) discard: bool,
    pub(super) write_zeroes: bool,
}

impl Rules {
    /// Bytes that lie on the disk.
    fn range(&self, sector: u64, count: u64, give_up: bool) -> Option<Range> {
        let end = sector.checked_add(count)?;
        // What is on the disk has an offset: `sectors` is a number of bytes, divided.
        (count > 0 && end <= self.sectors).then(|| Range {
            offset: sector * SECTOR,
            length: count * SECTOR,
            give_up,
        })
    }

    /// The same for a transfer of so many bytes.
    fn transfer(&self, sector: u64, length: u64) -> Option<Ranges> {
        let good = length.is_multiple_of(SECTOR) && length <= MOST;
        let range = self.range(sector, length / SECTOR, false);
        range.filter(|_| good).map(Ranges::one)
    }
}

/// What this chain, which has a place for a status, asks for, or the status that refuses it. Each byte that counts is read once.
// untrusted: virtio_devices
pub(super) fn judge(chain: &Chain, memory: &Memory, rules: &Rules) -> Result<Work, u8> {
    let mut header = [0; HEADER];
    if chain.read(memory, 0, &mut header) != header.len() {
        return Err(IO_ERROR);
    }
    let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let room = chain.writable_len() - 1;
    let given = chain.readable_len() - HEADER as u64;
    let transfer = |length| rules.transfer(sector, length).ok_or(IO_ERROR);
    let (kind, ranges) = match u32::from_le_bytes([k0, k1, k2, k3]) {
        READ => (Kind::Read, transfer(room)?),
        FLUSH => (Kind::Flush, Ranges::default()),
        GET_ID => (Kind::Identity, Ranges::default()),
        // Of a disk that is not written, too, where the feature was never there (5.2.6.2).
        WRITE | DISCARD | WRITE_ZEROES if rules.read_only => return Err(IO_ERROR),
        WRITE => (Kind::Write, transfer(given)?),
        DISCARD if rules.discard => {
            let ranges = ranges(chain, memory, rules, given, 0)?;
            (Kind::Discard, ranges)
        }
        WRITE_ZEROES if rules.write_zeroes => {
            let ranges = ranges(chain, memory, rules, given, UNMAP)?;
            (Kind::WriteZeroes, ranges)
        }
        _ => return Err(UNSUPPORTED),
    };
    Ok(Work { kind, ranges })
}

/// The ranges behind a header, all of them good: nothing is done of a request that has a bad one. A flag but these is refused as
/// unknown (5.2.6.2), and so is a discard's, which gives up its room by itself.
fn ranges(
    chain: &Chain,
    memory: &Memory,
    rules: &Rules,
    given: u64,
    flags: u32,
) -> Result<Ranges, u8> {
    let mut data = [0; RANGES * RANGE];
    let data = usize::try_from(given)
        .ok()
        .filter(|given| *given > 0 && given.is_multiple_of(RANGE))
        .and_then(|given| data.get_mut(..given))
        .ok_or(IO_ERROR)?;
    chain.read(memory, HEADER as u64, data);
    let mut ranges = Ranges::default();
    for range in data.as_chunks::<RANGE>().0 {
        let [
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            n0,
            n1,
            n2,
            n3,
            f0,
            f1,
            f2,
            f3,
        ] = *range;
        let found = u32::from_le_bytes([f0, f1, f2, f3]);
        if found & !flags != 0 {
            return Err(UNSUPPORTED);
        }
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let range = rules.range(sector, count.into(), found & UNMAP != 0);
        ranges.push(range.filter(|_| count <= RANGE_SECTORS).ok_or(IO_ERROR)?);
    }
    Ok(ranges)
}
