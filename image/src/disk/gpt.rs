// SPDX-License-Identifier: Apache-2.0
//! A GUID partition table (UEFI 2.10, chapter 5), for disks with sectors of 512 bytes.

use racklet_trust::Digest;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = SECTOR_BYTES as u64;
/// Where partitions may begin and end, in bytes: erase blocks of cards divide it.
pub(super) const ALIGNMENT: u64 = 1 << 20;

const ENTRIES_FIELD: u32 = 128;
const ENTRY_SIZE_FIELD: u32 = 128;
const ENTRIES: usize = ENTRIES_FIELD as usize;
const ENTRY_SIZE: usize = ENTRY_SIZE_FIELD as usize;
const SECTOR_BYTES: usize = 512;
const HEADER_SIZE: u32 = 92;
/// Sectors of the array of entries.
const ARRAY_SECTORS: u64 = (ENTRIES * ENTRY_SIZE) as u64 / SECTOR;
const LAST_USABLE_FROM_END: u64 = ARRAY_SECTORS + 2;

/// A GUID as it stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guid(pub(super) [u8; 16]);

impl Guid {
    /// C12A7328-F81F-11D2-BA4B-00A0C93EC93B
    pub(super) const ESP: Self = Self([
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9,
        0x3b,
    ]);
    /// 0FC63DAF-8483-4772-8E79-3D69D8477DE4
    pub(super) const LINUX: Self = Self([
        0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d,
        0xe4,
    ]);

    /// A GUID that depends on `seed` and `purpose` and nothing else (version 8, "custom", of RFC 9562).
    pub(super) fn derived(seed: &Digest, purpose: &str) -> Self {
        let mut message = seed.0.to_vec();
        message.extend_from_slice(purpose.as_bytes());
        let mut guid = [0; 16];
        guid.copy_from_slice(&Digest::of(&message).0[..16]);
        // On disk the first three fields are little-endian: the version is the upper half of byte 7.
        guid[7] = guid[7] & 0x0f | 0x80;
        guid[8] = guid[8] & 0x3f | 0x80;
        Self(guid)
    }

    /// As people and mke2fs write it.
    pub(super) fn text(self) -> String {
        let b = self.0;
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        format!(
            "{}-{}-{}-{}-{}",
            hex(&[b[3], b[2], b[1], b[0]]),
            hex(&[b[5], b[4]]),
            hex(&[b[7], b[6]]),
            hex(&b[8..10]),
            hex(&b[10..])
        )
    }
}

/// A partition; start and length in bytes, multiples of [`SECTOR`].
pub(super) struct Partition {
    pub(super) kind: Guid,
    pub(super) id: Guid,
    pub(super) name: &'static str,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The bytes before the first partition and those behind the last, with the place of the latter.
pub(super) struct Table {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) tail_offset: u64,
}

/// Where the last partition of a disk of `size` bytes must end at the latest.
pub(super) fn usable_end(size: u64) -> u64 {
    (size - (ARRAY_SECTORS + 1) * SECTOR) / ALIGNMENT * ALIGNMENT
}

/// The table of a disk of `size` bytes.
pub(super) fn table(size: u64, disk: Guid, partitions: &[Partition]) -> Table {
    let last = size / SECTOR - 1;
    let mut array = vec![0; ENTRIES * ENTRY_SIZE];
    for (entry, partition) in array.chunks_exact_mut(ENTRY_SIZE).zip(partitions) {
        entry[..16].copy_from_slice(&partition.kind.0);
        entry[16..32].copy_from_slice(&partition.id.0);
        let first = partition.start / SECTOR;
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        let end = (partition.start + partition.length) / SECTOR - 1;
        entry[40..48].copy_from_slice(&end.to_le_bytes());
        for (place, unit) in entry[56..]
            .chunks_exact_mut(2)
            .zip(partition.name.encode_utf16())
        {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let header = |here: u64, other: u64, entries: u64| {
        let mut header = vec![0; SECTOR_BYTES];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&HEADER_SIZE.to_le_bytes());
        header[24..32].copy_from_slice(&here.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&(ARRAY_SECTORS + 2).to_le_bytes());
        header[48..56].copy_from_slice(&(last + 1 - LAST_USABLE_FROM_END).to_le_bytes());
        header[56..72].copy_from_slice(&disk.0);
        header[72..80].copy_from_slice(&entries.to_le_bytes());
        header[80..84].copy_from_slice(&ENTRIES_FIELD.to_le_bytes());
        header[84..88].copy_from_slice(&ENTRY_SIZE_FIELD.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
        let checksum = crc32fast::hash(&header[..HEADER_SIZE as usize]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    };
    let mut head = protective_mbr(last);
    head.extend(header(1, last, 2));
    head.extend_from_slice(&array);
    let tail_start = last - ARRAY_SECTORS;
    let mut tail = array.clone();
    tail.extend(header(last, 1, tail_start));
    Table {
        head,
        tail,
        tail_offset: tail_start * SECTOR,
    }
}

/// Tells tools that know no GPT that the disk is in use.
fn protective_mbr(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR_BYTES];
    // Not bootable, from CHS 0/0/2, type EE, to the largest CHS, from sector 1, of this many sectors.
    mbr[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    mbr[454..458].copy_from_slice(&1_u32.to_le_bytes());
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    mbr[458..462].copy_from_slice(&sectors.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
