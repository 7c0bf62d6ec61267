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
//! The slots are `racklet-slots`' to make: a running tray writes them anew. An empty one has no file system. What could be booted must not be on p1: firmware that finds
//! neither slot good walks over all partitions, and would start it (eeprom-bootloader.adoc, `PARTITION_WALK`).

use racklet_api::handoff::Card;
use racklet_boards::Firmware;
use racklet_trust::{
    Digest, TrustRoot, Verified,
    slot::{Slot, SlotRecord},
};

use racklet_slots::pi::{self, AUTOBOOT, OWNER, VOLUME, autoboot, partition};

use super::{Area, DiskError, Plan, Spec, fat, gpt, identity, mbr, slot::Release};

const MIB: u64 = 1 << 20;

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
    let mut volumes = vec![Vec::new()];
    let mut contents: Vec<(String, Vec<u8>)> = vec![(OWNER.into(), owner.clone())];
    let mut versions = [None; 2];
    for ((slot, package), version) in Slot::ALL.into_iter().zip(spec.slots).zip(&mut versions) {
        let mut pieces = Vec::new();
        if let Some(package) = package {
            let release = Release::of(spec.board, root, slot, package)?;
            *version = Some(release.version);
            let files = release.files.iter();
            let files = files.map(|(name, bytes)| (format!("files/{name}"), bytes.clone()));
            let all: Vec<(String, Vec<u8>)> = release.papers().into_iter().chain(files).collect();
            let named: Vec<(String, &[u8])> = all
                .iter()
                .map(|(name, bytes)| (name.clone(), &**bytes))
                .collect();
            pieces = pi::volume(slot, start_of(partition(slot)), &named, &owner)?;
            contents.extend(
                all.into_iter()
                    .map(|(name, bytes)| (format!("{slot}/{name}"), bytes)),
            );
        }
        volumes.push(pieces);
    }
    // The firmware's usual boot is the first slot that has something.
    let usual = match versions {
        [None, None] => return Err(DiskError::NoSlot),
        [None, Some(_)] => Slot::B,
        _ => Slot::A,
    };
    let record = SlotRecord::new(versions[0], versions[1]);
    let mut control: Vec<(String, Vec<u8>, bool)> =
        vec![(AUTOBOOT.to_owned(), autoboot(usual).into_bytes(), true)];
    for copy in 0..2 {
        control.push((
            format!("racklet/slots.{copy}"),
            record.encode(copy).into(),
            true,
        ));
    }
    match (&firmware.rom, spec.bootloader) {
        (Some(name), Some(bytes)) => control.push((name.clone(), bytes.to_vec(), false)),
        (Some(_), None) => return Err(DiskError::NoBootloader),
        (None, _) => {}
    }

    let all = control
        .iter()
        .map(|(path, bytes, _)| (&**path, &**bytes))
        .chain(contents.iter().map(|(path, bytes)| (&**path, &**bytes)));
    let identity = identity(spec, root, all);
    let entries: Vec<fat::Entry<'_>> = control
        .iter()
        .map(|(path, contents, apart)| fat::Entry {
            path,
            contents,
            apart: *apart,
            room: 0,
        })
        .collect();
    let id = gpt::Guid::derived(&identity, "fat 0").0;
    volumes[0] = fat::volume(
        &fat::Volume {
            size: VOLUME,
            hidden: start_of(1) / gpt::SECTOR,
            id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
            label: b"RACKLET-CTL",
        },
        &entries,
    )?;
    let mut pieces = Vec::new();
    for (number, volume) in (1..).zip(volumes) {
        let moved = volume.into_iter();
        pieces.extend(moved.map(|(offset, bytes)| (offset + start_of(number), bytes)));
    }
    let state = Area {
        start: start_of(4),
        length: spec.size - start_of(4),
        id: gpt::Guid::derived(&identity, "racklet-state"),
    };
    let area = |kind, start, length| mbr::Partition {
        kind,
        start,
        length,
    };
    let fat = |number| area(mbr::FAT, start_of(number), VOLUME);
    let linux = area(mbr::LINUX, state.start, state.length);
    pieces.push((0, mbr::table(signature, &[fat(1), fat(2), fat(3), linux])));
    Ok(Plan { pieces, state })
}

/// Where a FAT partition begins, in bytes; the state behind them is the fourth.
fn start_of(partition: u8) -> u64 {
    MIB + u64::from(partition - 1) * VOLUME
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
