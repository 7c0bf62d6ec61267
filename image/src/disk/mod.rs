// SPDX-License-Identifier: Apache-2.0
//! Disk images: what is written to a card once and boots for good.
//!
//! ```text
//! 0      protective MBR, partition table          racklet-esp    FAT32, 80 MiB: bootloader, slot records, two slots with room
//! 1 MiB  racklet-esp                              racklet-state  ext4, the rest; grown to the card on first boot
//! 81 MiB racklet-state ...  backup table
//! ```
//!
//! The same inputs give the same bytes: every identifier is derived from them, and nothing has a time. What a tray would
//! refuse is refused here, before anyone carries a card to it. Signing is not done here.

mod ext4;
mod fat;
mod gpt;
pub(crate) mod pe;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use racklet_boards::{Board, Boot, Stage};
use racklet_fetch::publish;
use racklet_trust::{
    Architecture, Digest, TrustRoot, Verified,
    manifest::{Kind, Machine, NotForUs},
    root::{MAX_KEYS, RootError},
    slot::{Slot, SlotRecord},
};

pub use self::{ext4::Ext4Error, fat::FatError, pe::PeError};
use crate::package::{Package, PackageError};

/// The size of an image unless told otherwise, in bytes.
pub const DEFAULT_SIZE: u64 = 256 << 20;
/// The smallest image, in bytes: what is fetched before the first growth must fit.
pub const LEAST_SIZE: u64 = 160 << 20;
/// Room for two slots, and beside them 11 MiB for bootloader and slot records.
const ESP_SIZE: u64 = 80 << 20;
/// The files of a slot, each with the room that it has in every slot, so that a running tray can write another bootstrap over one:
/// nothing of the file system changes then. The largest are 4 and 2 MiB today; an arm64 kernel that nothing unpacks has about 10.
const ROOMS: [(&str, u64); 3] = [
    ("files/initramfs", 12 << 20),
    ("files/kernel", 20 << 20),
    ("manifest.json", racklet_trust::slot::MAX_MANIFEST),
];
/// The room for each of the signatures that a manifest may have. One by a FIDO key has about 500 bytes.
const SIGNATURE_ROOM: u64 = 2 << 10;

/// What goes into an image.
#[derive(Debug)]
pub struct Spec<'a> {
    /// The board it is for.
    pub board: &'a Board,
    /// The bootloader as it was built for the board's architecture.
    pub bootloader: &'a [u8],
    /// The trust root, canonical JSON.
    pub trust_root: &'a [u8],
    /// `tray.json` (`racklet_api::tray::TrayConfig`).
    pub tray: &'a [u8],
    /// Bootstraps for slots a and b. The same one twice survives a damaged slot before the first update.
    pub slots: [Option<&'a Package>; 2],
    /// Bytes; a multiple of 1 MiB.
    pub size: u64,
}

/// An image that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
}

/// Why an image was not written. What was at its place before is still there.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Too small or not in whole MiB.
    #[error("an image of {0} bytes cannot be made: it must have whole MiB and at least {least} MiB; leave --size out for {default} MiB",
        least = LEAST_SIZE >> 20, default = DEFAULT_SIZE >> 20)]
    Size(u64),
    /// The trust root is not one.
    #[error("the trust root")]
    Trust(#[source] RootError),
    /// Neither slot has a bootstrap.
    #[error("there is no bootstrap for either slot; build and sign one with `racklet payload`")]
    NoSlot,
    /// A slot's package.
    #[error("the bootstrap for slot {slot}")]
    Package {
        /// Which slot.
        slot: Slot,
        /// Why.
        source: PackageError,
    },
    /// A slot's bootstrap is for something else.
    #[error("the bootstrap for slot {slot}")]
    NotForBoard {
        /// Which slot.
        slot: Slot,
        /// Why.
        source: NotForUs,
    },
    /// It starts what no image of ours has.
    #[error("{0} is not started by UEFI, and images have nothing else that could be")]
    Firmware(String),
    /// The bootloader cannot carry what it must.
    #[error("the bootloader")]
    Bootloader(#[from] PeError),
    /// The boot partition.
    #[error("the boot partition")]
    Esp(#[from] FatError),
    /// The state partition.
    #[error("the state partition")]
    State(#[from] Ext4Error),
    /// A file.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Writes an image to `output`, whole or not at all. It may hold secrets (in `tray`): only its owner can read it.
///
/// # Errors
/// [`DiskError`].
pub fn build(spec: &Spec<'_>, output: &Path) -> Result<Built, DiskError> {
    if spec.board.boot != Boot::Uefi {
        return Err(DiskError::Firmware(spec.board.name.clone()));
    }
    if spec.size < LEAST_SIZE || !spec.size.is_multiple_of(gpt::ALIGNMENT) {
        return Err(DiskError::Size(spec.size));
    }
    let root = Verified::<TrustRoot>::baked(spec.trust_root).map_err(DiskError::Trust)?;
    let esp = Esp::gather(spec, &root)?;
    let layout = Layout::new(spec.size, &esp.identity(&root, spec));

    let folder = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".racklet-image-")
        .tempfile_in(folder)
        .map_err(io_error("make a file in", folder))?;
    let write = io_error("write", output);
    file.as_file().set_len(spec.size).map_err(&write)?;
    let (start, length) = (layout.state.start, layout.state.length);
    ext4::make(file.path(), start, length, layout.state.id)?;
    let mut pieces = fat::volume(&layout.esp_volume(), &esp.entries())?;
    for (offset, _) in &mut pieces {
        *offset += layout.esp.start;
    }
    let table = layout.table(spec.size);
    pieces.push((0, table.head));
    pieces.push((table.tail_offset, table.tail));
    for (offset, bytes) in &pieces {
        file.as_file()
            .write_all_at(bytes, *offset)
            .map_err(&write)?;
    }
    file.as_file().sync_all().map_err(&write)?;
    let sha256 = digest(file.path()).map_err(io_error("read back", file.path()))?;
    file.persist(output).map_err(|error| write(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("write", folder))?;
    Ok(Built {
        size: spec.size,
        sha256,
    })
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
        let board = serde_json::json!({
            "board": spec.board.name,
            "arguments": spec.board.arguments(Stage::Bootstrap).join(" "),
        });
        let bootloader = pe::add_sections(
            spec.bootloader,
            spec.board.architecture,
            &[
                (".trust", spec.trust_root),
                (".tray", spec.tray),
                (".board", board.to_string().as_bytes()),
            ],
        )?;
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
                *version = Some(add_slot(spec.board, root, slot, package, &mut files)?);
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

    /// Stands for everything that the image is made of.
    fn identity(&self, root: &TrustRoot, spec: &Spec<'_>) -> Digest {
        let mut message = format!("racklet image 2\n{}\n{}\n", root.rack(), spec.size).into_bytes();
        message.extend_from_slice(&Digest::of(spec.tray).0);
        for entry in self.entries() {
            message.extend_from_slice(&Digest::of(entry.path.as_bytes()).0);
            message.extend_from_slice(ring_digest(entry.contents).as_ref());
        }
        Digest::of(&message)
    }
}

/// Adds a slot's files by name when a tray would start them; returns the version.
fn add_slot(
    board: &Board,
    root: &Verified<TrustRoot>,
    slot: Slot,
    package: &Package,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<u64, DiskError> {
    let wrong = |source| DiskError::Package { slot, source };
    let manifest = package.verify(root).map_err(wrong)?;
    if manifest.kind != Kind::Bootstrap {
        return Err(wrong(PackageError::Manifest {
            path: package.directory().into(),
            source: racklet_trust::manifest::ManifestError::Kind {
                found: manifest.kind,
                expected: Kind::Bootstrap,
            },
        }));
    }
    manifest
        .accept(&Machine {
            architecture: board.architecture,
            board: &board.name,
            now: None,
            floor: 0,
        })
        .map_err(|source| DiskError::NotForBoard { slot, source })?;
    files.insert("manifest.json".into(), package.manifest_bytes().to_vec());
    for (number, (_, signature)) in package.signatures().map_err(wrong)?.into_iter().enumerate() {
        files.insert(publish::signature_path(number), signature);
    }
    for name in Kind::Bootstrap.file_names() {
        // Verified in the memory that is written.
        let contents = package.file(name).map_err(wrong)?.unwrap_or_default();
        files.insert(format!("files/{name}"), contents);
    }
    Ok(manifest.version)
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

fn ring_digest(bytes: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, bytes)
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(racklet_trust::digest::Hex(digest))
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io {
        doing,
        path: path.clone(),
        source,
    }
}
