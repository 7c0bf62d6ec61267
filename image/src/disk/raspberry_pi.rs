// SPDX-License-Identifier: Apache-2.0
//! A card that a Raspberry Pi's own firmware starts.
//!
//! ```text
//! 0       MBR
//! 1 MiB   p1  FAT32, 40 MiB  autoboot.txt, slot records, bootcode.bin where a board's ROM wants it; nothing that could be booted
//! 41 MiB  p2  FAT32, 40 MiB  slot a: a release, its manifest and signatures, owner.cpio, slot.cpio
//! 81 MiB  p3  FAT32, 40 MiB  slot b
//! 121 MiB p4  ext4, the rest state; grown to the card on first boot
//! ```
//!
//! 40 MiB are the next round size above the least that FAT32 can be with clusters of 512 bytes, which is what `mkfs.vfat` takes for
//! small volumes; a bootstrap of 24 MiB with all of its firmware fits. What could be booted must not be on p1: firmware that finds
//! neither slot good walks over all partitions, and would start it (eeprom-bootloader.adoc, `PARTITION_WALK`).

use racklet_api::handoff::Card;
use racklet_boards::Firmware;
use racklet_trust::{
    Digest, TrustRoot, Verified,
    slot::{Slot, SlotRecord},
};

use super::{Area, DiskError, Plan, Spec, fat, gpt, identity, mbr, slot::Release};
use crate::raspberry_pi::{OWNER, SLOT, autoboot};

const MIB: u64 = 1 << 20;
/// Of p1, p2 and p3.
const VOLUME: u64 = 40 * MIB;
/// The first partition that is a slot, and the second.
const SLOTS: [u8; 2] = [2, 3];
const LABELS: [&[u8; 11]; 3] = [b"RACKLET-CTL", b"RACKLET-A  ", b"RACKLET-B  "];

/// A file of a volume, and whether nothing else shares its MiB.
type File = (String, Vec<u8>, bool);

/// The card's contents.
pub(super) fn plan(
    spec: &Spec<'_>,
    firmware: &Firmware,
    root: &Verified<TrustRoot>,
) -> Result<Plan, DiskError> {
    // Of who the tray is, not of what it runs: an update of a slot leaves it alone. And of the tray's own secrets, so that two trays
    // differ.
    let seed = [Digest::of(spec.trust_root).0, Digest::of(spec.tray).0].concat();
    let signature = mbr::signature(&Digest::of(&seed));
    let owner = owner(spec, signature)?;
    let mut slots: Vec<Vec<File>> = Vec::new();
    let mut versions = [None; 2];
    for ((slot, package), version) in Slot::ALL.into_iter().zip(spec.slots).zip(&mut versions) {
        let mut files = Vec::new();
        if let Some(package) = package {
            let release = Release::of(spec.board, root, slot, package)?;
            *version = Some(release.version);
            let papers = release.papers().into_iter();
            let papers = papers.map(|(path, bytes)| (format!("racklet/{path}"), bytes));
            files.extend(papers.map(whole));
            files.extend(release.files.into_iter().map(whole));
            files.push(whole((OWNER.into(), owner.clone())));
            files.push(whole((SLOT.into(), named(slot)?)));
        }
        slots.push(files);
    }
    // The firmware's usual boot is the first slot that has something.
    let (usual, trial) = match versions {
        [None, None] => return Err(DiskError::NoSlot),
        [None, Some(_)] => (SLOTS[1], SLOTS[0]),
        _ => (SLOTS[0], SLOTS[1]),
    };
    let record = SlotRecord::new(versions[0], versions[1]);
    let mut control = vec![(
        "autoboot.txt".to_owned(),
        autoboot(usual, trial).into_bytes(),
        true,
    )];
    for copy in 0..2 {
        control.push((
            format!("racklet/slots.{copy}"),
            record.encode(copy).into(),
            true,
        ));
    }
    match (&firmware.rom, spec.bootloader) {
        (Some(name), Some(bytes)) => control.push(whole((name.clone(), bytes.to_vec()))),
        (Some(_), None) => return Err(DiskError::NoBootloader),
        (None, _) => {}
    }

    let volumes: Vec<Vec<File>> = [control].into_iter().chain(slots).collect();
    let all = volumes.iter().flatten();
    let identity = identity(
        spec,
        root,
        all.map(|(path, contents, _)| (&**path, &**contents)),
    );
    let start_of = |number: usize| MIB + number as u64 * VOLUME;
    let mut pieces = Vec::new();
    for (number, (files, label)) in volumes.iter().zip(LABELS).enumerate() {
        let entries: Vec<fat::Entry<'_>> = files
            .iter()
            .map(|(path, contents, apart)| fat::Entry {
                path,
                contents,
                apart: *apart,
                room: 0,
            })
            .collect();
        let id = gpt::Guid::derived(&identity, &format!("fat {number}")).0;
        let volume = fat::Volume {
            size: VOLUME,
            hidden: start_of(number) / gpt::SECTOR,
            id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
            label,
        };
        let moved = fat::volume(&volume, &entries)?.into_iter();
        pieces.extend(moved.map(|(offset, bytes)| (offset + start_of(number), bytes)));
    }
    let state = Area {
        start: start_of(3),
        length: spec.size - start_of(3),
        id: gpt::Guid::derived(&identity, "racklet-state"),
    };
    let partition = |kind, start, length| mbr::Partition {
        kind,
        start,
        length,
    };
    let fat = |number| partition(mbr::FAT, start_of(number), VOLUME);
    let linux = partition(mbr::LINUX, state.start, state.length);
    pieces.push((0, mbr::table(signature, &[fat(0), fat(1), fat(2), linux])));
    Ok(Plan { pieces, state })
}

fn whole((path, contents): (String, Vec<u8>)) -> File {
    (path, contents, false)
}

/// What a bootloader of ours would hand over in memory.
fn owner(spec: &Spec<'_>, signature: u32) -> Result<Vec<u8>, DiskError> {
    let card = Card {
        v: 1,
        boot_partition: Some(format!("{signature:08x}-01")),
        floors_lost: false,
    };
    let card = serde_json::to_vec(&card).expect("strings serialise");
    let mut archive = racklet_cpio::Archive::new();
    archive.directory("racklet", 0o755)?;
    archive.file("racklet/trust-root.json", 0o444, spec.trust_root)?;
    archive.file("racklet/tray.json", 0o400, spec.tray)?;
    archive.file("racklet/card.json", 0o444, &card)?;
    Ok(archive.finish())
}

/// The slot's own name, whatever the firmware says of the partition.
fn named(slot: Slot) -> Result<Vec<u8>, DiskError> {
    let name = serde_json::json!({ "slot": slot.name() }).to_string();
    let mut archive = racklet_cpio::Archive::new();
    archive.directory("racklet", 0o755)?;
    archive.file("racklet/slot.json", 0o444, name.as_bytes())?;
    Ok(archive.finish())
}
