// SPDX-License-Identifier: Apache-2.0
//! GPT disks: whether one has a certain partition, and growing the last partition to the disk's end. Bytes in, writes out.
//!
//! An image is made for the smallest card and written to a larger one. Then the backup table is not at the end of the
//! disk and the last partition does not use the rest. [`grow`] says which bytes to write, in which order, so that a power
//! cut between any two writes leaves a table that firmware and Linux read: the new backup first, then the primary header
//! and the changed entry, which are neighbours and go in one write. UEFI 2.10, 5.3.

use crate::table::{Growth, LEAST_GAIN, PARTITION_END, Write};

/// Why a partition table cannot be grown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GptError {
    /// Fewer bytes than the table needs, or sectors of an odd size.
    #[error("the beginning of the disk is too short for a partition table")]
    Short,
    /// No signature, wrong checksum or values that contradict each other.
    #[error("the partition table is damaged ({0})")]
    Damaged(&'static str),
    /// The table has no such entry.
    #[error("the partition table has no entry {0}")]
    NoEntry(u32),
    /// Something lies behind the partition.
    #[error("partition {0} is not the last one on the disk")]
    NotLast(u32),
}

/// How many bytes from the start of a disk [`grow`] needs: protective MBR, header, and 128 entries of 128 bytes.
pub fn head_bytes(sector: u32) -> usize {
    2 * sector as usize + 128 * 128
}

const HEADER: usize = 92;

/// The primary table of a disk, checked.
struct Table<'a> {
    header: &'a [u8],
    /// Bytes of the header that its checksum covers.
    length: usize,
    /// The entries, 128 bytes each.
    entries: &'a [u8],
}

/// Reads the table from the first [`head_bytes`] of a disk.
fn read(head: &[u8], sector: u32) -> Result<Table<'_>, GptError> {
    let size = sector as usize;
    if !size.is_power_of_two() || size < 512 || head.len() < head_bytes(sector) {
        return Err(GptError::Short);
    }
    let header = &head[size..2 * size];
    if &header[..8] != b"EFI PART" {
        return Err(GptError::Damaged("no signature"));
    }
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let u64_at =
        |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let length = u32_at(12) as usize;
    if !(HEADER..=size).contains(&length) {
        return Err(GptError::Damaged("header size"));
    }
    if header_checksum(&header[..length]) != u32_at(16) {
        return Err(GptError::Damaged("header checksum"));
    }
    let (my_lba, entries_lba, entries, entry_size) =
        (u64_at(24), u64_at(72), u32_at(80), u32_at(84));
    if my_lba != 1 || entries_lba != 2 || entry_size != 128 || !(1..=128).contains(&entries) {
        return Err(GptError::Damaged("not the layout that our images have"));
    }
    let table = &head[2 * size..2 * size + entries as usize * 128];
    if crc32fast::hash(table) != u32_at(88) {
        return Err(GptError::Damaged("entries checksum"));
    }
    Ok(Table {
        header,
        length,
        entries: table,
    })
}

/// Whether a disk that begins with `head` has a partition with this unique GUID, as Linux and UEFI write it:
/// `1b4e28ba-2fa1-11d2-883f-0016d3cca427`, in either case.
// untrusted: partition_table
pub fn holds(head: &[u8], sector: u32, unique: &str) -> Result<bool, GptError> {
    let mut entries = read(head, sector)?.entries.chunks_exact(128);
    Ok(entries
        .any(|entry| entry[..16] != [0; 16] && guid(&entry[16..32]).eq_ignore_ascii_case(unique)))
}

/// The first three fields of a GUID are little-endian on disk (UEFI 2.10, appendix A).
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (n, at) in order.into_iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", bytes[at]));
    }
    text
}

/// Plans the growth of partition `number` (from 1) on a disk of `disk_size` bytes whose first [`head_bytes`] are `head`.
/// `None` when there is less than 16 MiB to gain.
// untrusted: partition_table
pub fn grow(
    head: &[u8],
    sector: u32,
    disk_size: u64,
    number: u32,
) -> Result<Option<Growth>, GptError> {
    let Table {
        header,
        length,
        entries: table,
    } = read(head, sector)?;
    let size = sector as usize;
    let entries = table.len() / 128;
    let index = number
        .checked_sub(1)
        .map(|i| i as usize)
        .filter(|i| *i < entries)
        .ok_or(GptError::NoEntry(number))?;
    let entry = |i: usize| &table[i * 128..(i + 1) * 128];
    let lba = |i: usize, at: usize| {
        u64::from_le_bytes(entry(i)[at..at + 8].try_into().expect("eight bytes"))
    };
    let used = |i: usize| entry(i)[..16] != [0; 16];
    if !used(index) {
        return Err(GptError::NoEntry(number));
    }
    let (first, last) = (lba(index, 32), lba(index, 40));
    if last < first {
        return Err(GptError::Damaged("a partition ends before it begins"));
    }
    if (0..entries).any(|i| i != index && used(i) && lba(i, 40) > last) {
        return Err(GptError::NotLast(number));
    }

    // From the end: the backup header in the last sector, its entries before it.
    let sectors = disk_size / u64::from(sector);
    let table_sectors = table.len().div_ceil(size);
    let Some(backup_table) = sectors.checked_sub(1 + table_sectors as u64) else {
        return Err(GptError::Short);
    };
    let last_usable = backup_table - 1;
    let per_unit = PARTITION_END / u64::from(sector);
    let new_last = ((last_usable + 1) / per_unit * per_unit).saturating_sub(1);
    if new_last < last.saturating_add(LEAST_GAIN / u64::from(sector)) {
        return Ok(None);
    }

    let mut new_table = table.to_vec();
    new_table[index * 128 + 40..index * 128 + 48].copy_from_slice(&new_last.to_le_bytes());
    let table_checksum = crc32fast::hash(&new_table);
    let make_header = |own: u64, other: u64, table_at: u64| {
        let mut new = header.to_vec();
        for (at, value) in [(24, own), (32, other), (48, last_usable), (72, table_at)] {
            new[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        new[88..92].copy_from_slice(&table_checksum.to_le_bytes());
        let checksum = header_checksum(&new[..length]);
        new[16..20].copy_from_slice(&checksum.to_le_bytes());
        new
    };
    let mut backup = new_table.clone();
    backup.resize(table_sectors * size, 0);
    backup.extend(make_header(sectors - 1, 1, backup_table));
    let mut primary = make_header(1, sectors - 1, 2);
    // Only up to the sector with the changed entry: with ours (entry 2) header and entry share one 4 KiB page.
    let upto = (index * 128 + 128).div_ceil(size) * size;
    primary.extend(&head[2 * size..2 * size + upto]);
    primary[size + index * 128..size + index * 128 + 128]
        .copy_from_slice(&new_table[index * 128..index * 128 + 128]);
    Ok(Some(Growth {
        size: (new_last - first + 1) * u64::from(sector),
        writes: vec![
            Write {
                offset: backup_table * u64::from(sector),
                bytes: backup,
            },
            Write {
                offset: u64::from(sector),
                bytes: primary,
            },
        ],
    }))
}

/// CRC-32 of a header, its own checksum field taken as zero.
fn header_checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..16]);
    hasher.update(&[0; 4]);
    hasher.update(&header[20..]);
    hasher.finalize()
}

#[cfg(test)]
pub(crate) mod tests;
