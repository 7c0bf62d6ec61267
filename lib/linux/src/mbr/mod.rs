// SPDX-License-Identifier: Apache-2.0
//! MBR disks: the four primary partitions in the first sector, and growing the last one to the disk's end. Bytes in, writes out.
//!
//! A Raspberry Pi's firmware takes neither a GPT nor a hybrid of both. An MBR has no names and no identifiers of partitions: what
//! tells a disk of ours from others is the disk's signature at byte 440, and a partition is the disk's signature and a number, as
//! Linux writes it in `PARTUUID` (block/partitions/msdos.c: `%08x-%02x`).
//!
//! Growing is one write of one sector. There is no checksum and no second copy, so nothing is gained by more writes: a power cut
//! leaves the sector as it was or as it is to be, as far as the card keeps what its specification promises of a block.
//!
//! Extended partitions are refused: our images have none, and their chain is a list to get lost in.

use crate::table::{Growth, LEAST_GAIN, PARTITION_END, Write};

/// Bytes of the table, and of the sectors that it counts in.
pub const SECTOR: usize = 512;
/// Where the disk's signature is: four bytes, little-endian.
const SIGNATURE: usize = 440;
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// The type of the one partition that stands for a whole GPT.
const PROTECTIVE: u8 = 0xee;
/// Partitions that are lists of partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// Why a partition table is not read or not grown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MbrError {
    /// Fewer bytes than a table has.
    #[error("the beginning of the disk is too short for a partition table")]
    Short,
    /// No signature, or values that contradict each other.
    #[error("the partition table is damaged ({0})")]
    Damaged(&'static str),
    /// The table counts in sectors of 512 bytes, and the disk in others.
    #[error("the disk has sectors of {0} bytes, and its partition table is for sectors of 512")]
    Sectors(u32),
    /// The table has no such entry.
    #[error("the partition table has no entry {0}")]
    NoEntry(u32),
    /// Something lies behind the partition.
    #[error("partition {0} is not the last one on the disk")]
    NotLast(u32),
}

/// A primary partition, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What is in it: 0x0c for FAT32, 0x83 for what Linux has.
    pub kind: u8,
    /// The first sector.
    pub start: u32,
    /// How many.
    pub sectors: u32,
}

impl Entry {
    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.sectors)
    }
}

/// The table of a disk, checked: partitions do not overlap, and none is extended or stands for a GPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Of the disk; 0 when it has none.
    pub signature: u32,
    /// The partitions, by number from 1.
    pub partitions: [Option<Entry>; 4],
}

impl Table {
    /// Reads the table from the beginning of a disk.
    ///
    /// # Errors
    /// [`MbrError`].
    // untrusted: partition_table
    pub fn read(head: &[u8]) -> Result<Self, MbrError> {
        let sector = head.get(..SECTOR).ok_or(MbrError::Short)?;
        if sector[510..] != [0x55, 0xaa] {
            return Err(MbrError::Damaged("no signature"));
        }
        let mut partitions = [None; 4];
        for (bytes, partition) in sector[ENTRIES..].chunks_exact(ENTRY).zip(&mut partitions) {
            // A FAT volume without a table ends in the same two bytes; its text is here then.
            if bytes[0] & 0x7f != 0 {
                return Err(MbrError::Damaged("an entry is neither active nor inactive"));
            }
            *partition = match bytes[4] {
                0 => None,
                PROTECTIVE => return Err(MbrError::Damaged("it stands for a GPT")),
                kind if EXTENDED.contains(&kind) => {
                    return Err(MbrError::Damaged(
                        "an extended partition, which our images have not",
                    ));
                }
                kind => Some(Entry {
                    kind,
                    start: u32_at(bytes, 8),
                    sectors: u32_at(bytes, 12),
                }),
            };
        }
        let mut used: Vec<Entry> = partitions.into_iter().flatten().collect();
        used.sort_by_key(|entry| entry.start);
        if used
            .iter()
            .any(|entry| entry.start == 0 || entry.sectors == 0)
        {
            return Err(MbrError::Damaged("a partition is empty or holds the table"));
        }
        if used
            .windows(2)
            .any(|two| two[0].end() > u64::from(two[1].start))
        {
            return Err(MbrError::Damaged("two partitions overlap"));
        }
        Ok(Self {
            signature: u32_at(sector, SIGNATURE),
            partitions,
        })
    }

    /// Whether one of the partitions is the one that Linux calls `unique`. A disk without a signature has no such partition.
    pub fn holds(&self, unique: &str) -> bool {
        let numbers = (1_u32..).zip(&self.partitions);
        let mut used = numbers.filter(|(_, partition)| partition.is_some());
        self.signature != 0
            && used.any(|(n, _)| identity(self.signature, n).eq_ignore_ascii_case(unique))
    }

    fn entry(&self, number: u32) -> Option<Entry> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        *self.partitions.get(index)?
    }
}

/// A partition's identity as Linux and `root=PARTUUID=` write it: `0a1b2c3d-02`.
pub fn identity(signature: u32, number: u32) -> String {
    format!("{signature:08x}-{number:02x}")
}

/// Whether `text` is an identity of a partition in an MBR, not one in a GPT.
pub fn is_identity(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = text.split_once('-');
    parts.is_some_and(|(disk, number)| {
        disk.len() == 8 && number.len() == 2 && hex(disk) && hex(number)
    })
}

/// Plans the growth of partition `number` (from 1) on a disk of `disk_size` bytes that begins with `head`. `None` when there is
/// less than 16 MiB to gain. A table cannot say more than 2 TiB; what a disk has behind that stays unused.
///
/// # Errors
/// [`MbrError`].
// untrusted: partition_table
pub fn grow(
    head: &[u8],
    sector: u32,
    disk_size: u64,
    number: u32,
) -> Result<Option<Growth>, MbrError> {
    if sector as usize != SECTOR {
        return Err(MbrError::Sectors(sector));
    }
    let table = Table::read(head)?;
    let partition = table.entry(number).ok_or(MbrError::NoEntry(number))?;
    let mut others = table.partitions.iter().flatten();
    if others.any(|other| other.start > partition.start) {
        return Err(MbrError::NotLast(number));
    }
    let unit = PARTITION_END / u64::from(sector);
    let most = (disk_size / u64::from(sector)).min(u64::from(u32::MAX));
    let new_end = most / unit * unit;
    if new_end < partition.end() + LEAST_GAIN / u64::from(sector) {
        return Ok(None);
    }
    let sectors = new_end - u64::from(partition.start);
    let mut bytes = head[..SECTOR].to_vec();
    let at = ENTRIES + ENTRY * (number as usize - 1);
    // The last cylinder, head and sector that there are: nothing looks at them where the sectors are counted.
    bytes[at + 5..at + 8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    let field = u32::try_from(sectors).map_err(|_| MbrError::Short)?;
    bytes[at + 12..at + 16].copy_from_slice(&field.to_le_bytes());
    Ok(Some(Growth {
        size: sectors * u64::from(sector),
        writes: vec![Write { offset: 0, bytes }],
    }))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
pub(crate) mod tests;
