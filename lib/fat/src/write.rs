// SPDX-License-Identifier: Apache-2.0
//! Writes a FAT32 volume: the same files give the same bytes.
//!
//! A `fatfs` would also read, delete and resize, and allocates as it likes. Here every file is in one piece, in the order given,
//! without time stamps, and a file can be kept [`Entry::apart`] from the others. Files with [`Entry::room`] lie behind all others and
//! behind all folders. Source: Microsoft FAT specification, 2005-08-30.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use super::short_name;

/// As the boot sector says it: bytes of a sector, sectors of a cluster, sectors before the tables.
const SECTOR_FIELD: u16 = 512;
/// From this size on, in bytes, a volume has enough clusters of 1 KiB to be FAT32; smaller ones have clusters of a sector.
const LARGE: u64 = 70 << 20;
const RESERVED_FIELD: u16 = 32;
const SECTOR: usize = SECTOR_FIELD as usize;
const RESERVED_SECTORS: usize = RESERVED_FIELD as usize;
/// Below this a volume is FAT16 by definition.
const LEAST_CLUSTERS: usize = 65_525;
/// [`Entry::apart`] begins at a multiple of this, in bytes: more than any card's page.
const APART: usize = 1 << 20;
const END_OF_CHAIN: u32 = 0x0fff_ffff;
const MEDIA: u8 = 0xf8;
/// 1980-01-01, the first day there is.
const DATE: u16 = 0x21;
const ARCHIVE: u8 = 0x20;
const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;

/// A file to write. Its folders are made.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Parts separated by `/`.
    pub path: &'a str,
    /// What is in it.
    pub contents: &'a [u8],
    /// Nothing else shares its MiB of the disk: what is overwritten in place cannot harm its neighbours. Of files with room, a MiB is
    /// kept free before it.
    pub apart: bool,
    /// Bytes that the file has whatever its contents, zeros behind them, so that others can be written over them; 0 for a file that is
    /// as long as its contents.
    pub room: u64,
}

impl Entry<'_> {
    fn length(&self) -> u64 {
        self.room.max(self.contents.len() as u64)
    }
}

/// What the volume is called.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'a> {
    /// Bytes.
    pub size: u64,
    /// Sectors before it on the disk.
    pub hidden: u64,
    /// A number that tells volumes apart.
    pub id: u32,
    /// Eleven characters.
    pub label: &'a [u8; 11],
}

/// A piece of the volume that is not zero: where, in bytes, and what.
pub type Piece = (u64, Vec<u8>);

/// Why there is no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// The files do not fit.
    #[error(
        "the files need {needed} KiB and the boot partition holds {room} KiB; make the kernel or the initramfs smaller"
    )]
    Full {
        /// What is needed.
        needed: u64,
        /// What there is.
        room: u64,
    },
    /// A file does not fit into the room that it has in each slot.
    #[error(
        "{path} has {size} bytes, and a slot has room for {room}; make the kernel or the initramfs smaller"
    )]
    Room {
        /// The file.
        path: String,
        /// Its bytes.
        size: u64,
        /// What it may have.
        room: u64,
    },
    /// Too small or too large for FAT32 with clusters of a sector or 1 KiB.
    #[error("a boot partition of {0} bytes cannot be FAT32")]
    Size(u64),
    /// A name that is too long or not plain ASCII, or that is there twice.
    #[error("{0:?} cannot be a file name on the boot partition")]
    Name(String),
}

/// The volume's contents, by place; the first piece is the boot sector. What is not in a piece is zero.
///
/// # Errors
/// [`FatError`].
pub fn volume(volume: &Volume<'_>, files: &[Entry<'_>]) -> Result<Vec<Piece>, FatError> {
    let geometry = Geometry::of(volume.size)?;
    let root = Folder::tree(files)?;
    let too_long = |file: &&Entry<'_>| file.room > 0 && file.length() > file.room;
    if let Some(file) = files.iter().find(too_long) {
        return Err(FatError::Room {
            path: file.path.into(),
            size: file.length(),
            room: file.room,
        });
    }
    let mut writer = Writer {
        table: vec![0x0fff_ff00 | u32::from(MEDIA), END_OF_CHAIN],
        pieces: Vec::new(),
        geometry: &geometry,
        rooms: rooms(files, &geometry),
    };
    // The root folder is the first cluster; its contents are known last.
    let clusters = writer.reserve(root.size(true), false);
    writer.fill(&root, clusters, None, Some(volume.label), files);
    let Writer {
        mut table,
        mut pieces,
        rooms,
        ..
    } = writer;
    let used = table.len() - 2;
    let rooms_take: usize = rooms.iter().flatten().map(|room| room.taken).sum();
    if used + rooms_take > geometry.clusters {
        return Err(FatError::Full {
            needed: ((used + rooms_take) * geometry.cluster() / 1024) as u64,
            room: (geometry.clusters * geometry.cluster() / 1024) as u64,
        });
    }
    table.resize(geometry.clusters + 2, 0);
    for room in rooms.iter().flatten() {
        chain(&mut table[room.first..][..room.count], room.first);
    }
    let free = table.iter().skip(2).filter(|entry| **entry == 0).count();
    let boot = boot_sector(volume, &geometry);
    let info = information(free, used + 2);
    // The second pair is the backup (sector 6).
    for start in [0, 6] {
        pieces.push(((start * SECTOR) as u64, boot.clone()));
        pieces.push((((start + 1) * SECTOR) as u64, info.clone()));
    }
    let table: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    for number in 0..2 {
        let sector = RESERVED_SECTORS + number * geometry.table_sectors;
        pieces.push(((sector * SECTOR) as u64, table.clone()));
    }
    pieces.sort_by_key(|(offset, _)| *offset);
    Ok(pieces)
}

/// Where a file with room lies, in clusters.
struct Room {
    first: usize,
    count: usize,
    /// With what is kept free before it.
    taken: usize,
}

/// The places of the files with room, which end where the volume ends; nothing for the others. One that does not fit begins at 0.
fn rooms(files: &[Entry<'_>], geometry: &Geometry) -> Vec<Option<Room>> {
    let mut end = geometry.clusters + 2;
    let place = |file: &Entry<'_>| {
        (file.room > 0).then(|| {
            let count = usize::try_from(file.room)
                .map_or(usize::MAX / 2, |room| room.div_ceil(geometry.cluster()));
            let taken = count + if file.apart { geometry.apart() } else { 0 };
            let first = end.saturating_sub(count);
            end = end.saturating_sub(taken);
            Room {
                first,
                count,
                taken,
            }
        })
    };
    let mut rooms: Vec<_> = files.iter().rev().map(place).collect();
    rooms.reverse();
    rooms
}

/// Makes entries of the table, of which the first is that of cluster `first`, lead from one to the next.
fn chain(entries: &mut [u32], first: usize) {
    for (entry, next) in entries.iter_mut().zip(first + 1..) {
        *entry = u32::try_from(next).unwrap_or(END_OF_CHAIN);
    }
    if let Some(last) = entries.last_mut() {
        *last = END_OF_CHAIN;
    }
}

struct Geometry {
    sectors: u32,
    /// Sectors of a cluster.
    cluster_sectors: u8,
    table_sectors: usize,
    clusters: usize,
}

impl Geometry {
    fn of(size: u64) -> Result<Self, FatError> {
        let wrong = || FatError::Size(size);
        let sectors = u32::try_from(size / SECTOR as u64).map_err(|_| wrong())?;
        let cluster_sectors: u8 = if size < LARGE { 1 } else { 2 };
        let per_cluster = usize::from(cluster_sectors);
        // A table with an entry for every cluster there could be is never too small, and it keeps the data at a multiple of 4 KiB.
        let table_sectors = (sectors as usize / per_cluster + 2)
            .div_ceil(SECTOR / 4)
            .next_multiple_of(4);
        let data = (sectors as usize)
            .checked_sub(RESERVED_SECTORS + 2 * table_sectors)
            .ok_or_else(wrong)?;
        let clusters = data / per_cluster;
        if !(LEAST_CLUSTERS..0x0fff_fff0).contains(&clusters) {
            return Err(wrong());
        }
        Ok(Self {
            sectors,
            cluster_sectors,
            table_sectors,
            clusters,
        })
    }

    /// Bytes of a cluster.
    fn cluster(&self) -> usize {
        usize::from(self.cluster_sectors) * SECTOR
    }

    /// Clusters of what [`Entry::apart`] keeps free.
    fn apart(&self) -> usize {
        APART / self.cluster()
    }

    fn offset_of(&self, cluster: usize) -> u64 {
        let data = RESERVED_SECTORS + 2 * self.table_sectors;
        (data * SECTOR + (cluster - 2) * self.cluster()) as u64
    }
}

/// A folder's names, in order; what they stand for is a folder or the number of a file.
#[derive(Default)]
struct Folder(BTreeMap<String, Node>);

enum Node {
    Folder(Folder),
    File(usize),
}

impl Folder {
    fn tree(files: &[Entry<'_>]) -> Result<Self, FatError> {
        let mut root = Self::default();
        for (number, file) in files.iter().enumerate() {
            let wrong = || FatError::Name(file.path.into());
            let mut parts: Vec<&str> = file.path.split('/').collect();
            let name = parts.pop().ok_or_else(wrong)?;
            let mut folder = &mut root;
            for part in parts {
                folder.check_name(part).ok_or_else(wrong)?;
                let node = folder
                    .0
                    .entry(part.into())
                    .or_insert_with(|| Node::Folder(Self::default()));
                let Node::Folder(inner) = node else {
                    return Err(wrong());
                };
                folder = inner;
            }
            folder.check_name(name).ok_or_else(wrong)?;
            if folder.0.insert(name.into(), Node::File(number)).is_some() {
                return Err(wrong());
            }
        }
        Ok(root)
    }

    /// A plain name that no other here equals but for its case, which FAT does not tell apart.
    fn check_name(&self, name: &str) -> Option<()> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let good = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(plain)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !self
                .0
                .keys()
                .any(|other| other != name && other.eq_ignore_ascii_case(name));
        good.then_some(())
    }

    /// Bytes of its entries: the label or `.` and `..`, then the names.
    fn size(&self, root: bool) -> usize {
        let own = if root { 1 } else { 2 };
        let names: usize = self.0.keys().map(|name| 1 + long_entries(name)).sum();
        (own + names) * 32
    }
}

struct Writer<'a> {
    table: Vec<u32>,
    pieces: Vec<Piece>,
    geometry: &'a Geometry,
    rooms: Vec<Option<Room>>,
}

impl Writer<'_> {
    /// Takes clusters in one piece and returns the first, or 0 for nothing.
    fn reserve(&mut self, bytes: usize, apart: bool) -> usize {
        let count = bytes.div_ceil(self.geometry.cluster());
        if count == 0 {
            return 0;
        }
        if apart {
            self.skip();
        }
        let first = self.table.len();
        self.table.resize(first + count, 0);
        chain(&mut self.table[first..], first);
        if apart {
            self.skip();
        }
        first
    }

    /// Leaves clusters free up to the next multiple of [`APART`].
    fn skip(&mut self) {
        let unit = self.geometry.apart();
        let next = self.table.len().next_multiple_of(unit);
        self.table.resize(next, 0);
    }

    fn fill(
        &mut self,
        folder: &Folder,
        cluster: usize,
        parent: Option<usize>,
        label: Option<&[u8; 11]>,
        files: &[Entry<'_>],
    ) {
        let mut entries = Vec::new();
        if let Some(label) = label {
            entries.extend(entry(label, LABEL, 0, 0));
        }
        if let Some(parent) = parent {
            entries.extend(entry(b".          ", DIRECTORY, cluster, 0));
            entries.extend(entry(b"..         ", DIRECTORY, parent, 0));
        }
        let mut aliases = Vec::new();
        for (name, node) in &folder.0 {
            let alias = alias(name, &aliases);
            aliases.push(alias);
            entries.extend(long_name(name, &alias));
            match node {
                Node::File(number) => {
                    let file = &files[*number];
                    let first = match &self.rooms[*number] {
                        Some(room) => room.first,
                        None => self.reserve(file.contents.len(), file.apart),
                    };
                    entries.extend(entry(&alias, ARCHIVE, first, file.length()));
                    if first != 0 {
                        let offset = self.geometry.offset_of(first);
                        self.pieces.push((offset, file.contents.to_vec()));
                    }
                }
                Node::Folder(inner) => {
                    let first = self.reserve(inner.size(false), false);
                    entries.extend(entry(&alias, DIRECTORY, first, 0));
                    // The root folder is called 0 from within.
                    let here = if parent.is_some() { cluster } else { 0 };
                    self.fill(inner, first, Some(here), None, files);
                }
            }
        }
        self.pieces
            .push((self.geometry.offset_of(cluster), entries));
    }
}

fn entry(name: &[u8; 11], attributes: u8, cluster: usize, size: u64) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    let cluster = u32::try_from(cluster).unwrap_or(0).to_le_bytes();
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[20..22].copy_from_slice(&cluster[2..]);
    entry[26..28].copy_from_slice(&cluster[..2]);
    // Files larger than a volume can hold were refused with the whole.
    entry[28..].copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    entry
}

/// The name in 8.3 form, or `NAME~1.EXT` with the first free number.
fn alias(name: &str, taken: &[[u8; 11]]) -> [u8; 11] {
    if let Some(short) = short_name(name) {
        return short;
    }
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let letters = |text: &str| -> String { text.chars().filter(|c| *c != '.').collect() };
    let (base, extension) = (letters(base), letters(extension));
    let mut number = 1;
    loop {
        let tail = format!("~{number}");
        let kept = base.len().min(8 - tail.len());
        let mut short = [b' '; 11];
        let stem = format!("{}{tail}", &base[..kept]);
        short[..stem.len()].copy_from_slice(stem.as_bytes());
        let kept = extension.len().min(3);
        short[8..8 + kept].copy_from_slice(&extension.as_bytes()[..kept]);
        short.make_ascii_uppercase();
        if !taken.contains(&short) {
            return short;
        }
        number += 1;
    }
}

/// Entries that a long name takes: none when the short one says it all.
fn long_entries(name: &str) -> usize {
    match short_name(name) {
        Some(_) if !name.bytes().any(|b| b.is_ascii_lowercase()) => 0,
        _ => name.len().div_ceil(13),
    }
}

/// The pieces of a long name, the last one first, each with the short name's checksum.
fn long_name(name: &str, alias: &[u8; 11]) -> Vec<u8> {
    let checksum = alias
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let count = long_entries(name);
    let mut entries = Vec::new();
    for (number, letters) in name.as_bytes().chunks(13).enumerate().take(count).rev() {
        // After the letters one zero, then ones.
        let mut units = [0xffff_u16; 13];
        for (unit, letter) in units.iter_mut().zip(letters) {
            *unit = u16::from(*letter);
        }
        if let Some(end) = units.get_mut(letters.len()) {
            *end = 0;
        }
        let mut entry = [0; 32];
        let last = if number + 1 == count { 0x40 } else { 0 };
        entry[0] = u8::try_from(number + 1).unwrap_or(0) | last;
        entry[11] = LONG_NAME;
        entry[13] = checksum;
        let places = (1..11)
            .step_by(2)
            .chain((14..26).step_by(2))
            .chain([28, 30]);
        for (place, unit) in places.zip(units) {
            entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entries.extend(entry);
    }
    entries
}

fn boot_sector(volume: &Volume<'_>, geometry: &Geometry) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"RACKLET ");
    put(11, &SECTOR_FIELD.to_le_bytes());
    put(13, &[geometry.cluster_sectors]);
    put(14, &RESERVED_FIELD.to_le_bytes());
    put(16, &[2]);
    put(21, &[MEDIA]);
    // Sectors of a track and heads: of no meaning, and 0 upsets some tools.
    put(24, &32_u16.to_le_bytes());
    put(26, &64_u16.to_le_bytes());
    put(28, &u32::try_from(volume.hidden).unwrap_or(0).to_le_bytes());
    put(32, &geometry.sectors.to_le_bytes());
    let table_sectors = u32::try_from(geometry.table_sectors).unwrap_or(u32::MAX);
    put(36, &table_sectors.to_le_bytes());
    // The root folder's cluster, the information sector, the backup's first sector.
    put(44, &2_u32.to_le_bytes());
    put(48, &1_u16.to_le_bytes());
    put(50, &6_u16.to_le_bytes());
    put(64, &[0x80, 0, 0x29]);
    put(67, &volume.id.to_le_bytes());
    put(71, volume.label);
    put(82, b"FAT32   ");
    put(510, &[0x55, 0xaa]);
    sector
}

fn information(free: usize, next: usize) -> Vec<u8> {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut sector = vec![0; SECTOR];
    sector[..4].copy_from_slice(b"RRaA");
    sector[484..488].copy_from_slice(b"rrAa");
    sector[488..492].copy_from_slice(&number(free));
    sector[492..496].copy_from_slice(&number(next));
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
