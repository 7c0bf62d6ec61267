// SPDX-License-Identifier: Apache-2.0
//! A card that UEFI starts.
//!
//! ```text
//! 0      protective MBR, partition table          racklet-esp    FAT32, 80 MiB: bootloader, slot records, two slots with room
//! 1 MiB  racklet-esp                              racklet-state  ext4, the rest; grown to the card on first boot
//! 81 MiB racklet-state ...  backup table
//! ```

use std::collections::BTreeMap;

use racklet_boards::{Board, Stage};
use racklet_fetch::publish;
use racklet_trust::{
    Architecture, Digest, TrustRoot, Verified,
    root::MAX_KEYS,
    slot::{Slot, SlotRecord},
};

use super::{
    Area, DiskError, Plan, Spec, fat, gpt, identity,
    pe::{self, PeError},
    slot::Release,
};

/// Room for two slots, and beside them 11 MiB for bootloader and slot records.
pub(super) const ESP_SIZE: u64 = 80 << 20;
/// The files of a slot, each with the room that it has in every slot, so that a running tray can write another bootstrap over one:
/// nothing of the file system changes then. The largest are 4 and 2 MiB today; an arm64 kernel that nothing unpacks has about 10.
pub(super) const ROOMS: [(&str, u64); 3] = [
    ("files/initramfs", 12 << 20),
    ("files/kernel", 20 << 20),
    ("manifest.json", racklet_trust::slot::MAX_MANIFEST),
];
/// The room for each of the signatures that a manifest may have. One by a FIDO key has about 500 bytes.
pub(super) const SIGNATURE_ROOM: u64 = 2 << 10;

/// The card's contents.
pub(super) fn plan(spec: &Spec<'_>, root: &Verified<TrustRoot>) -> Result<Plan, DiskError> {
    let esp = Esp::gather(spec, root)?;
    let files = esp.entries();
    let files = files.iter().map(|entry| (entry.path, entry.contents));
    let layout = Layout::new(spec.size, &identity(spec, root, files));
    let mut pieces = fat::volume(&layout.esp_volume(), &esp.entries())?;
    for (offset, _) in &mut pieces {
        *offset += layout.esp.start;
    }
    let state = Area {
        start: layout.state.start,
        length: layout.state.length,
        id: layout.state.id,
    };
    let table = layout.table(spec.size);
    pieces.push((0, table.head));
    pieces.push((table.tail_offset, table.tail));
    Ok(Plan { pieces, state })
}

/// The bootloader with what it carries for a board: trust root, the tray's configuration, the board; and `more`.
pub(super) fn carrier(
    board: &Board,
    bootloader: &[u8],
    (trust_root, tray): (&[u8], &[u8]),
    more: &[(&str, &[u8])],
) -> Result<Vec<u8>, PeError> {
    let about = serde_json::json!({
        "board": board.name,
        "arguments": board.arguments(Stage::Bootstrap).join(" "),
    })
    .to_string();
    let always: [(&str, &[u8]); 3] = [
        (".trust", trust_root),
        (".tray", tray),
        (".board", about.as_bytes()),
    ];
    pe::add_sections(bootloader, board.architecture, &[&always, more].concat())
}

/// The files of the boot partition.
struct Esp {
    bootloader: (String, Vec<u8>),
    records: [(&'static str, Vec<u8>); 2],
    slots: Vec<SlotFile>,
}

/// A file of a slot, with its room.
struct SlotFile {
    path: String,
    contents: Vec<u8>,
    room: u64,
}

impl Esp {
    fn gather(spec: &Spec<'_>, root: &Verified<TrustRoot>) -> Result<Self, DiskError> {
        let bootloader = spec.bootloader.ok_or(DiskError::NoBootloader)?;
        let bootloader = carrier(spec.board, bootloader, (spec.trust_root, spec.tray), &[])?;
        // The name that UEFI starts from a disk that it was not told about (UEFI 2.10, 3.5.1.1).
        let name = match spec.board.architecture {
            Architecture::Aarch64 => "EFI/BOOT/BOOTAA64.EFI",
            Architecture::X86_64 => "EFI/BOOT/BOOTX64.EFI",
        };
        let mut slots = Vec::new();
        let mut versions = [None; 2];
        for ((slot, package), version) in Slot::ALL.into_iter().zip(spec.slots).zip(&mut versions) {
            let mut files = BTreeMap::new();
            if let Some(package) = package {
                let release = Release::of(spec.board, root, slot, package)?;
                *version = Some(release.version);
                files.extend(release.papers());
                let parts = release.files.into_iter();
                files.extend(parts.map(|(name, bytes)| (format!("files/{name}"), bytes)));
            }
            let numbers = 0..MAX_KEYS;
            let signatures = numbers.map(|n| (publish::signature_path(n), SIGNATURE_ROOM));
            let rooms = ROOMS.map(|(name, room)| (name.to_owned(), room));
            slots.extend(
                rooms
                    .into_iter()
                    .chain(signatures)
                    .map(|(name, room)| SlotFile {
                        path: format!("racklet/{slot}/{name}"),
                        contents: files.remove(&name).unwrap_or_default(),
                        room,
                    }),
            );
        }
        if versions == [None; 2] {
            return Err(DiskError::NoSlot);
        }
        let record = SlotRecord::new(versions[0], versions[1]);
        Ok(Self {
            bootloader: (name.into(), bootloader),
            records: [
                ("racklet/slots.0", record.encode(0).into()),
                ("racklet/slots.1", record.encode(1).into()),
            ],
            slots,
        })
    }

    fn entries(&self) -> Vec<fat::Entry<'_>> {
        let whole = |(path, contents)| fat::Entry {
            path,
            contents,
            apart: false,
            room: 0,
        };
        let mut entries = vec![whole((&self.bootloader.0, &self.bootloader.1))];
        entries.extend(self.records.iter().map(|(path, contents)| fat::Entry {
            apart: true,
            ..whole((path, contents))
        }));
        // The first of each slot's: a slot that is written over shares its pages of the card with nothing else.
        let first = |path: &str| path.ends_with(ROOMS[0].0);
        entries.extend(self.slots.iter().map(|file| fat::Entry {
            apart: first(&file.path),
            room: file.room,
            ..whole((&file.path, &file.contents))
        }));
        entries
    }
}

struct Layout {
    disk: gpt::Guid,
    esp: gpt::Partition,
    state: gpt::Partition,
    volume_id: u32,
}

impl Layout {
    fn new(size: u64, identity: &Digest) -> Self {
        let guid = |purpose| gpt::Guid::derived(identity, purpose);
        let id = guid("fat").0;
        let esp = gpt::Partition {
            kind: gpt::Guid::ESP,
            id: guid("racklet-esp"),
            name: "racklet-esp",
            start: gpt::ALIGNMENT,
            length: ESP_SIZE,
        };
        let start = esp.start + esp.length;
        let state = gpt::Partition {
            kind: gpt::Guid::LINUX,
            id: guid("racklet-state"),
            name: "racklet-state",
            start,
            length: gpt::usable_end(size) - start,
        };
        Self {
            disk: guid("disk"),
            esp,
            state,
            volume_id: u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
        }
    }

    fn esp_volume(&self) -> fat::Volume<'static> {
        fat::Volume {
            size: self.esp.length,
            hidden: self.esp.start / gpt::SECTOR,
            id: self.volume_id,
            label: b"RACKLET-ESP",
        }
    }

    fn table(self, size: u64) -> gpt::Table {
        gpt::table(size, self.disk, &[self.esp, self.state])
    }
}
