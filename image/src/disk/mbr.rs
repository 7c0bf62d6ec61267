// SPDX-License-Identifier: Apache-2.0
//! An MBR of primary partitions, for disks with sectors of 512 bytes.
//!
//! A Raspberry Pi's firmware takes neither a GPT nor a hybrid of both ("it's worked by luck": raspberrypi/firmware, issue 1465), and
//! of the types of FAT it is 0x0c that every stage of it takes. Partitions are in the order of their places: with others the
//! one-shot failed (raspberrypi/rpi-eeprom, issue 705).

use racklet_trust::Digest;

use super::gpt::SECTOR;

/// FAT32, counted in sectors.
pub(super) const FAT: u8 = 0x0c;
/// Whatever Linux has.
pub(super) const LINUX: u8 = 0x83;

/// A partition; start and length in bytes, multiples of [`SECTOR`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Partition {
    pub(super) kind: u8,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// The signature of a disk, which tells it from all others of ours: from `seed` alone, and never 0, which means that there is none.
pub(super) fn signature(seed: &Digest) -> u32 {
    let [a, b, c, d, ..] = seed.0;
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// The first sector.
pub(super) fn table(signature: u32, partitions: &[Partition; 4]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    for (entry, partition) in sector[446..510].chunks_exact_mut(16).zip(partitions) {
        entry[4] = partition.kind;
        // Cylinder, head and sector that say "look at the other fields", at both ends: images end below 2 TiB.
        for at in [1, 5] {
            entry[at..at + 3].copy_from_slice(&[0xfe, 0xff, 0xff]);
        }
        for (at, bytes) in [(8, partition.start), (12, partition.length)] {
            let sectors = u32::try_from(bytes / SECTOR).unwrap_or(u32::MAX);
            entry[at..at + 4].copy_from_slice(&sectors.to_le_bytes());
        }
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
