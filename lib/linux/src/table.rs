// SPDX-License-Identifier: Apache-2.0
//! Partition tables of either kind, [`gpt`] and [`mbr`]: whether a disk has a certain partition, and growing the last one to the
//! disk's end. Which kind a disk has is asked here alone.

use std::fmt;

use crate::{
    gpt::{self, GptError},
    mbr::{self, MbrError},
};

/// Partitions end on multiples of this, in bytes: erase blocks and pages of every card divide it.
pub(crate) const PARTITION_END: u64 = 1 << 20;
/// Fewer bytes to gain are not worth the risk of a write to the table.
pub(crate) const LEAST_GAIN: u64 = 16 << 20;

/// One write to the disk. The caller flushes after each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, in bytes from the start of the disk.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What to do to grow a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The partition's new length in bytes.
    pub size: u64,
    /// The writes, in order.
    pub writes: Vec<Write>,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.size >> 20)
    }
}

/// Why a disk's table is not read or not grown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// It has a GPT, or nothing that could be a table.
    #[error(transparent)]
    Gpt(#[from] GptError),
    /// It has an MBR.
    #[error(transparent)]
    Mbr(#[from] MbrError),
}

/// How many bytes from the start of a disk the others need.
pub fn head_bytes(sector: u32) -> usize {
    gpt::head_bytes(sector)
}

/// Linux's rule (block/partitions/efi.c): the first sector is an MBR unless it stands for a GPT. One that is no table at all is
/// read as a GPT, too: trays are told `gpt`, by which the table counts though the sector before it is damaged.
fn has_mbr(head: &[u8]) -> bool {
    mbr::Table::read(head).is_ok_and(|table| table.partitions.iter().any(Option::is_some))
}

/// Whether a disk that begins with `head` has the partition that Linux calls `unique` (`PARTUUID`): a GUID, or a disk's signature
/// and a number.
///
/// # Errors
/// [`TableError`].
// untrusted: partition_table
pub fn holds(head: &[u8], sector: u32, unique: &str) -> Result<bool, TableError> {
    if has_mbr(head) {
        return Ok(mbr::Table::read(head)?.holds(unique));
    }
    Ok(gpt::holds(head, sector, unique)?)
}

/// Plans the growth of partition `number` (from 1) on a disk of `disk_size` bytes whose first [`head_bytes`] are `head`. `None` when
/// there is less than 16 MiB to gain.
///
/// # Errors
/// [`TableError`].
// untrusted: partition_table
pub fn grow(
    head: &[u8],
    sector: u32,
    disk_size: u64,
    number: u32,
) -> Result<Option<Growth>, TableError> {
    if has_mbr(head) {
        return Ok(mbr::grow(head, sector, disk_size, number)?);
    }
    Ok(gpt::grow(head, sector, disk_size, number)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "11111111-1111-1111-1111-111111111111";

    #[test]
    fn each_kind_of_table_is_read_as_what_it_is() {
        let gpt = gpt::tests::disk_with([0x11; 16]);
        let mut mbr = mbr::tests::disk(0x0a1b_2c3d, &[(0x0c, 1, 40), (0x83, 41, 40)]);
        mbr.resize(head_bytes(512), 0);
        assert_eq!(holds(&gpt, 512, GUID), Ok(true));
        assert_eq!(holds(&mbr, 512, "0a1b2c3d-02"), Ok(true));
        assert_eq!(holds(&mbr, 512, GUID), Ok(false));
        assert_eq!(holds(&gpt, 512, "0a1b2c3d-02"), Ok(false));
        let size = |head: &[u8]| grow(head, 512, 1 << 30, 2).map(|plan| plan.map(|plan| plan.size));
        assert_eq!(size(&mbr), Ok(Some((1024 - 41) << 20)));
        assert_eq!(size(&gpt), Ok(Some((1024 - 33 - 1) << 20)));
    }

    #[test]
    fn what_was_left_of_a_gpt_behind_an_mbr_does_not_count() {
        // An image written with `dd conv=sparse` over a disk that had a GPT.
        let mut both = gpt::tests::disk_with([0x11; 16]);
        both[..512].copy_from_slice(&mbr::tests::disk(7, &[(0x0c, 1, 40), (0x83, 41, 40)]));
        assert_eq!(holds(&both, 512, GUID), Ok(false));
        assert_eq!(holds(&both, 512, "00000007-02"), Ok(true));
        // The other way round, the sector says that a GPT follows.
        both[..512].copy_from_slice(&mbr::tests::disk(7, &[(0xee, 1, 40)]));
        assert_eq!(holds(&both, 512, GUID), Ok(true));
        assert_eq!(holds(&both, 512, "00000007-01"), Ok(false));
    }
}
