// SPDX-License-Identifier: Apache-2.0
//! Finds where a file lies on a FAT32 volume, so that it can be overwritten in place.
//!
//! A FAT driver that writes one sector of a file also writes the directory (time stamps) and the allocation table or the boot
//! sector (the "dirty" mark); power that goes then can take the whole volume with it. The slot record is written at every boot,
//! and a slot's files have room for other ones than they were made with: both are found and written directly, and nothing else on
//! the volume ever changes.
//!
//! Read-only and bounded: at most [`MOST_SECTORS`] sectors are read, whatever the volume says. It deliberately knows no FAT12 or
//! FAT16, and of long names only those in ASCII.
//! Source: Microsoft FAT specification, 2005-08-30.
//!
//! [`mod@write`] makes whole volumes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod write;

use core::fmt;

/// The unit in which the volume is read, in bytes; a volume's own sector may be larger.
pub const SECTOR: usize = 512;
/// The most pieces of [`SECTOR`] bytes that one search reads: a directory as large as this is not one of ours, and the table of a
/// file of 20 MiB in clusters of 1 KiB is 160 of them.
pub const MOST_SECTORS: u32 = 4096;

const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
/// The longest name that is compared, in letters: five entries of 13.
const LONGEST_NAME: usize = 65;
const END_OF_CHAIN: u32 = 0x0fff_fff8;

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the volume.
    pub offset: u64,
    /// The file's size in bytes; all of it is in one piece.
    pub size: u32,
}

/// Why a file was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocateError<E> {
    /// A sector could not be read.
    Read(E),
    /// The first sector does not describe a FAT32 volume.
    NotFat32,
    /// A part of the path is missing, or is a file where a folder is needed (or the reverse).
    Missing,
    /// The path has a name that cannot be on a volume of ours.
    Name,
    /// The allocation table or a folder leads outside the volume or in a circle.
    Damaged,
    /// The file is empty: there is nothing of it to overwrite.
    Empty,
    /// The file is in several pieces.
    Pieces(u32),
}

impl<E: fmt::Display> fmt::Display for LocateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the volume cannot be read: {error}"),
            Self::NotFat32 => f.write_str("the volume is not FAT32"),
            Self::Missing => f.write_str("there is no such file"),
            Self::Name => f.write_str("the name cannot be on this volume"),
            Self::Damaged => f.write_str("the FAT is damaged"),
            Self::Empty => f.write_str("the file is empty"),
            Self::Pieces(size) => write!(f, "its {size} bytes are not in one piece"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for LocateError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}

/// Finds `path` (parts separated by `/`, case is ignored). `read` fills a sector from a byte offset into the volume, always a
/// multiple of [`SECTOR`].
///
/// # Errors
/// [`LocateError`].
// untrusted: fat_locate
pub fn locate<E>(
    read: impl FnMut(u64, &mut [u8; SECTOR]) -> Result<(), E>,
    path: &str,
) -> Result<Place, LocateError<E>> {
    let mut disk = Disk {
        read,
        budget: MOST_SECTORS,
    };
    let volume = Volume::parse(&disk.sector(0)?).ok_or(LocateError::NotFat32)?;
    let mut parts = path.split('/').peekable();
    let mut folder = volume.root;
    loop {
        let name = parts.next().filter(|name| is_plain(name));
        let entry = volume.find(&mut disk, folder, name.ok_or(LocateError::Name)?)?;
        if parts.peek().is_some() {
            if !entry.folder {
                return Err(LocateError::Missing);
            }
            folder = entry.cluster;
        } else {
            if entry.folder {
                return Err(LocateError::Missing);
            }
            return volume.place(&mut disk, &entry);
        }
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~$".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

/// `slots.0` as it stands in a folder: `SLOTS   0  `. Nothing where only a long name can say it.
fn short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    if base.len() > 8 || extension.len() > 3 || extension.contains('.') {
        return None;
    }
    let mut short = [b' '; 11];
    short[..base.len()].copy_from_slice(base.as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    short.make_ascii_uppercase();
    Some(short)
}

/// The long name that the entries before a short one make up, if they do. It is kept in pieces of 13 letters, the last piece first,
/// each with the number of its place and the checksum of the short name.
struct LongName {
    letters: [u8; LONGEST_NAME],
    length: usize,
    checksum: u8,
    /// The number that the next piece must have; 0 when the name is whole, and nothing when there is none.
    next: Option<usize>,
}

impl LongName {
    const NONE: Self = Self {
        letters: [0; LONGEST_NAME],
        length: 0,
        checksum: 0,
        next: None,
    };

    fn take(&mut self, entry: &[u8]) {
        let number = usize::from(entry[0] & 0x3f);
        if entry[0] & 0x40 != 0 {
            let whole = (1..=LONGEST_NAME / 13).contains(&number);
            (self.next, self.checksum) = (whole.then_some(number), entry[13]);
            self.length = number * 13;
        }
        if self.next != Some(number) || number == 0 || entry[13] != self.checksum {
            self.next = None;
            return;
        }
        self.next = Some(number - 1);
        let places = (1..11)
            .step_by(2)
            .chain((14..26).step_by(2))
            .chain([28, 30]);
        for (place, at) in places.zip((number - 1) * 13..) {
            match u16_at(entry, place) {
                // What follows the end is all ones.
                0 => self.length = self.length.min(at),
                unit => self.letters[at] = u8::try_from(unit).unwrap_or(0xff),
            }
        }
    }

    /// Whether it is `name`, and belongs to the entry with this short one.
    fn is(&self, name: &str, short: &[u8]) -> bool {
        let checksum = short
            .iter()
            .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        self.next == Some(0)
            && self.checksum == checksum
            && self.letters[..self.length].eq_ignore_ascii_case(name.as_bytes())
    }
}

struct Disk<R> {
    read: R,
    budget: u32,
}

impl<E, R: FnMut(u64, &mut [u8; SECTOR]) -> Result<(), E>> Disk<R> {
    fn sector(&mut self, offset: u64) -> Result<[u8; SECTOR], LocateError<E>> {
        self.budget = self.budget.checked_sub(1).ok_or(LocateError::Damaged)?;
        let mut sector = [0; SECTOR];
        (self.read)(offset, &mut sector).map_err(LocateError::Read)?;
        Ok(sector)
    }
}

struct Entry {
    folder: bool,
    cluster: u32,
    size: u32,
}

struct Volume {
    cluster_size: u64,
    table: u64,
    data: u64,
    clusters: u32,
    root: u32,
}

impl Volume {
    fn parse(boot: &[u8; SECTOR]) -> Option<Self> {
        let sector = u64::from(u16_at(boot, 11));
        let per_cluster = u64::from(boot[13]);
        let reserved = u64::from(u16_at(boot, 14));
        let tables = u64::from(boot[16]);
        let sectors = u64::from(u32_at(boot, 32));
        let table_sectors = u64::from(u32_at(boot, 36));
        let plausible = boot[510..] == [0x55, 0xaa]
            && [512, 1024, 2048, 4096].contains(&sector)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            // These two are zero on FAT32 and only there.
            && u16_at(boot, 17) == 0
            && u16_at(boot, 22) == 0
            && table_sectors > 0;
        if !plausible {
            return None;
        }
        let data_sectors = sectors.checked_sub(reserved + tables * table_sectors)?;
        let clusters = u32::try_from(data_sectors / per_cluster).ok()?;
        // Every cluster must have its place in the table, two of which are reserved.
        if (u64::from(clusters) + 2) * 4 > table_sectors * sector {
            return None;
        }
        Some(Self {
            cluster_size: per_cluster * sector,
            table: reserved * sector,
            data: (reserved + tables * table_sectors) * sector,
            clusters,
            root: u32_at(boot, 44),
        })
    }

    fn offset_of(&self, cluster: u32) -> Option<u64> {
        let index = cluster
            .checked_sub(2)
            .filter(|index| *index < self.clusters)?;
        Some(self.data + u64::from(index) * self.cluster_size)
    }

    fn find<E, R: FnMut(u64, &mut [u8; SECTOR]) -> Result<(), E>>(
        &self,
        disk: &mut Disk<R>,
        folder: u32,
        name: &str,
    ) -> Result<Entry, LocateError<E>> {
        let short = short_name(name);
        let mut long = LongName::NONE;
        let mut cluster = folder;
        loop {
            let start = self.offset_of(cluster).ok_or(LocateError::Damaged)?;
            for offset in (start..start + self.cluster_size).step_by(SECTOR) {
                let sector = disk.sector(offset)?;
                for entry in sector.chunks_exact(32) {
                    // Nothing follows an entry that was never used.
                    if entry[0] == 0 {
                        return Err(LocateError::Missing);
                    }
                    if entry[11] & 0x3f == LONG_NAME {
                        long.take(entry);
                        continue;
                    }
                    let before = core::mem::replace(&mut long, LongName::NONE);
                    let is_it = before.is(name, &entry[..11])
                        || short.is_some_and(|short| entry[..11] == short);
                    if entry[11] & LABEL != 0 || !is_it {
                        continue;
                    }
                    return Ok(Entry {
                        folder: entry[11] & DIRECTORY != 0,
                        cluster: u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26)),
                        size: u32_at(entry, 28),
                    });
                }
            }
            cluster = self.next(disk, cluster, &mut None)?;
            if cluster >= END_OF_CHAIN {
                return Err(LocateError::Missing);
            }
        }
    }

    /// Where a file is, all of whose clusters follow each other.
    fn place<E, R: FnMut(u64, &mut [u8; SECTOR]) -> Result<(), E>>(
        &self,
        disk: &mut Disk<R>,
        file: &Entry,
    ) -> Result<Place, LocateError<E>> {
        let clusters = u64::from(file.size).div_ceil(self.cluster_size);
        let last = u32::try_from(clusters)
            .ok()
            .and_then(|count| file.cluster.checked_add(count.checked_sub(1)?));
        let last = last.ok_or(LocateError::Empty)?;
        let mut kept = None;
        for cluster in file.cluster..last {
            if self.offset_of(cluster).is_none() {
                return Err(LocateError::Damaged);
            }
            if self.next(disk, cluster, &mut kept)? != cluster + 1 {
                return Err(LocateError::Pieces(file.size));
            }
        }
        let outside = self.offset_of(last).is_none();
        match self.offset_of(file.cluster).filter(|_| !outside) {
            Some(offset) => Ok(Place {
                offset,
                size: file.size,
            }),
            None => Err(LocateError::Damaged),
        }
    }

    /// What the table says behind `cluster`. `kept` is the table's sector that was read last.
    fn next<E, R: FnMut(u64, &mut [u8; SECTOR]) -> Result<(), E>>(
        &self,
        disk: &mut Disk<R>,
        cluster: u32,
        kept: &mut Option<(u64, [u8; SECTOR])>,
    ) -> Result<u32, LocateError<E>> {
        let at = self.table + u64::from(cluster) * 4;
        let start = at - at % SECTOR as u64;
        let sector = match kept {
            Some((of, sector)) if *of == start => *sector,
            _ => disk.sector(start)?,
        };
        *kept = Some((start, sector));
        let within = usize::try_from(at - start).map_err(|_| LocateError::Damaged)?;
        Ok(u32_at(&sector, within) & 0x0fff_ffff)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
