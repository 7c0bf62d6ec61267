// SPDX-License-Identifier: Apache-2.0
//! Finds where a small file lies on a FAT32 volume, so that it can be overwritten in place.
//!
//! A FAT driver that writes one sector of a file also writes the directory (time stamps) and the allocation table or the boot
//! sector (the "dirty" mark); power that goes then can take the whole volume with it. The slot record is written at every boot,
//! so its sector is found once and written directly: nothing else on the volume ever changes.
//!
//! Read-only and bounded: at most [`MOST_SECTORS`] sectors are read, whatever the volume says. It deliberately knows short (8.3)
//! names only, and no FAT12 or FAT16.
//! Source: Microsoft FAT specification, 2005-08-30.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// The unit in which the volume is read, in bytes; a volume's own sector may be larger.
pub const SECTOR: usize = 512;
/// The most pieces of [`SECTOR`] bytes that one search reads: a directory as large as this is not one of ours.
pub const MOST_SECTORS: u32 = 4096;

const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;
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
    /// The path has a name that is not 8.3.
    Name,
    /// The allocation table or a folder leads outside the volume or in a circle.
    Damaged,
    /// The file is empty or larger than a cluster, so it may be in several pieces.
    Size(u32),
}

impl<E: fmt::Display> fmt::Display for LocateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the volume cannot be read: {error}"),
            Self::NotFat32 => f.write_str("the volume is not FAT32"),
            Self::Missing => f.write_str("there is no such file"),
            Self::Name => f.write_str("the name is not 8.3"),
            Self::Damaged => f.write_str("the FAT is damaged"),
            Self::Size(size) => write!(
                f,
                "the file has {size} bytes, which may not be in one piece"
            ),
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
        let name = parts.next().and_then(short_name).ok_or(LocateError::Name)?;
        let entry = volume.find(&mut disk, folder, &name)?;
        if parts.peek().is_some() {
            if !entry.folder {
                return Err(LocateError::Missing);
            }
            folder = entry.cluster;
        } else {
            if entry.folder {
                return Err(LocateError::Missing);
            }
            if entry.size == 0 || u64::from(entry.size) > volume.cluster_size {
                return Err(LocateError::Size(entry.size));
            }
            return Ok(Place {
                offset: volume
                    .offset_of(entry.cluster)
                    .ok_or(LocateError::Damaged)?,
                size: entry.size,
            });
        }
    }
}

/// `slots.0` as it stands in a folder: `SLOTS   0  `.
fn short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-~$".contains(&byte))
    };
    if base.is_empty() || base.len() > 8 || extension.len() > 3 || !plain(base) || !plain(extension)
    {
        return None;
    }
    let mut short = [b' '; 11];
    short[..base.len()].copy_from_slice(base.as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    short.make_ascii_uppercase();
    Some(short)
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
        name: &[u8; 11],
    ) -> Result<Entry, LocateError<E>> {
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
                    // Labels, and the pieces of long names, which look like labels.
                    if entry[11] & LABEL != 0 || entry[..11] != *name {
                        continue;
                    }
                    return Ok(Entry {
                        folder: entry[11] & DIRECTORY != 0,
                        cluster: u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26)),
                        size: u32_at(entry, 28),
                    });
                }
            }
            let at = self.table + u64::from(cluster) * 4;
            let sector = disk.sector(at - at % SECTOR as u64)?;
            let within = usize::try_from(at % SECTOR as u64).map_err(|_| LocateError::Damaged)?;
            cluster = u32_at(&sector, within) & 0x0fff_ffff;
            if cluster >= END_OF_CHAIN {
                return Err(LocateError::Missing);
            }
        }
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
