// SPDX-License-Identifier: Apache-2.0
//! From a slot's files to memory that may be started, or the reason why not.
//!
//! Order matters: the manifest's signatures before the manifest, the manifest's sizes before memory for the files, the files'
//! digests before anything is done with them. What is returned is the memory that was hashed; the disk is not read again.
//!
//! A manifest's expiry is not looked at: firmware has no time that can be trusted, and a tray whose clock has lost its battery
//! must still reach the stage that can learn the time. What guards against old releases here is the version floor.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use racklet_cpio::{Archive, CpioError};
use racklet_trust::{
    Architecture, Manifest, Verified,
    manifest::{FileError, Kind, Machine, ManifestError, NotForUs},
    root::MAX_KEYS,
    slot::{BelowFloor, MAX_MANIFEST, Slot, SlotRecord, written},
    sshsig::MAX_ARMORED,
};

use crate::{baked::Baked, carried::Carried, place::PartitionId};

/// The largest kernel or initramfs; what fits a slot of the ESP is far smaller.
const MAX_FILE: u64 = 256 << 20;

/// The files of the boot partition.
pub trait Files {
    /// Reads the first `most` bytes of a file into memory, all of it when it has fewer, or nothing when there is none: a slot's files have
    /// room behind what is in them.
    ///
    /// # Errors
    /// [`ReadError`].
    fn read(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ReadError>;
}

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// Not enough memory for so many bytes.
    Memory(u64),
    /// What the firmware says.
    Firmware(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(size) => write!(f, "there is no memory for its {size} bytes"),
            Self::Firmware(reason) => write!(f, "the firmware says {reason}"),
        }
    }
}

impl core::error::Error for ReadError {}

/// What is started: all of it verified.
#[derive(Debug)]
pub struct Bootable {
    /// Where it came from; `None` of what the bootloader's own image carried.
    pub slot: Option<Slot>,
    /// Its manifest.
    pub manifest: Verified<Manifest>,
    /// A UEFI application: Linux with its EFI stub.
    pub kernel: Verified<Vec<u8>>,
    /// The initramfs that belongs to it.
    pub initramfs: Verified<Vec<u8>>,
}

/// Why a slot is not started.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A file is missing.
    Missing(String),
    /// A file cannot be read.
    Read(String, ReadError),
    /// The manifest is not signed as it must be, or is no bootstrap manifest.
    Manifest(ManifestError),
    /// It is for another machine.
    NotForUs(NotForUs),
    /// It is too old.
    BelowFloor(BelowFloor),
    /// A file is not the one that the manifest names.
    File(FileError),
    /// It was started and came back, or the firmware refused to start it.
    Start(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{path} is missing"),
            Self::Read(path, error) => write!(f, "{path} cannot be read: {error}"),
            Self::Manifest(error) => error.fmt(f),
            Self::NotForUs(error) => error.fmt(f),
            Self::BelowFloor(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Start(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for Refusal {}

/// Reads and verifies a slot.
///
/// # Errors
/// [`Refusal`] with the reason.
pub fn slot(
    files: &mut impl Files,
    baked: &Baked<'_>,
    architecture: Architecture,
    record: &SlotRecord,
    slot: Slot,
) -> Result<Bootable, Refusal> {
    let bytes = need(files, slot, "manifest.json", MAX_MANIFEST)?;
    let bytes = written(&bytes);
    if bytes.is_empty() {
        return Err(Refusal::Missing(path(slot, "manifest.json")));
    }
    let mut signatures = Vec::new();
    for number in 0..MAX_KEYS {
        let path = path(slot, &format!("signatures/{number}.sig"));
        match files.read(&path, MAX_ARMORED as u64) {
            Ok(found) => signatures.extend(found.filter(|found| !written(found).is_empty())),
            Err(error) => return Err(Refusal::Read(path, error)),
        }
    }
    let signatures: Vec<&[u8]> = signatures.iter().map(|armored| written(armored)).collect();
    let manifest = manifest(baked, architecture, bytes, &signatures)?;
    record
        .admits(slot, manifest.version)
        .map_err(Refusal::BelowFloor)?;
    let mut file = |name: &str| {
        let size = manifest.file(name).map_or(0, |file| file.size);
        let contents = need(files, slot, &format!("files/{name}"), size.min(MAX_FILE))?;
        manifest.verify_file(name, contents).map_err(Refusal::File)
    };
    Ok(Bootable {
        slot: Some(slot),
        kernel: file("kernel")?,
        initramfs: file("initramfs")?,
        manifest,
    })
}

/// Verifies what the bootloader's own image carries.
///
/// # Errors
/// [`Refusal`] with the reason.
pub fn carried(
    carried: &Carried<'_>,
    baked: &Baked<'_>,
    architecture: Architecture,
) -> Result<Bootable, Refusal> {
    let manifest = manifest(baked, architecture, carried.manifest, &carried.signatures)?;
    let file = |name: &str| {
        let contents = carried.file(name);
        let contents = contents.ok_or_else(|| Refusal::Missing(name.into()))?;
        // A copy: what was hashed is what is started, whatever becomes of this image in memory.
        let mut copy = Vec::new();
        copy.try_reserve_exact(contents.len())
            .map_err(|_| Refusal::Read(name.into(), ReadError::Memory(contents.len() as u64)))?;
        copy.extend_from_slice(contents);
        manifest.verify_file(name, copy).map_err(Refusal::File)
    };
    Ok(Bootable {
        slot: None,
        kernel: file("kernel")?,
        initramfs: file("initramfs")?,
        manifest,
    })
}

/// A manifest of this machine's, signed as it must be.
fn manifest(
    baked: &Baked<'_>,
    architecture: Architecture,
    bytes: &[u8],
    signatures: &[&[u8]],
) -> Result<Verified<Manifest>, Refusal> {
    let manifest = Manifest::verify(&baked.root, Kind::Bootstrap, bytes, signatures)
        .map_err(Refusal::Manifest)?;
    manifest
        .accept(&Machine {
            architecture,
            board: &baked.board.board,
            now: None,
            floor: 0,
        })
        .map_err(Refusal::NotForUs)?;
    Ok(manifest)
}

impl Bootable {
    /// The kernel command line: the board's part, then the manifest's. There is no other source.
    #[must_use]
    pub fn arguments(&self, baked: &Baked<'_>) -> String {
        let parts = [&*baked.board.arguments, &*self.manifest.arguments];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }
}

/// The archive that follows the initramfs: what the bootstrap is told by the bootloader. Of `boot`, the slot and which try of it this is,
/// there is none where nothing was chosen.
///
/// # Errors
/// [`CpioError`] when a baked section is larger than the format can say.
pub fn extra_archive(
    baked: &Baked<'_>,
    boot: Option<(Slot, u8)>,
    version: u64,
    came_from: Option<PartitionId>,
) -> Result<Vec<u8>, CpioError> {
    let mut archive = Archive::new();
    archive.directory("racklet", 0o755)?;
    archive.file("racklet/trust-root.json", 0o444, baked.root_json)?;
    archive.file("racklet/tray.json", 0o400, baked.tray_json)?;
    if let Some((slot, tries)) = boot {
        let boot = format!("{{\"slot\":\"{slot}\",\"tries\":{tries},\"version\":{version}}}\n");
        archive.file("racklet/boot.json", 0o444, boot.as_bytes())?;
    }
    // A file of its own: a bootstrap that does not know it reads the others all the same.
    if let Some(partition) = came_from {
        let card = format!("{{\"v\":1,\"bootPartition\":\"{partition}\"}}\n");
        archive.file("racklet/card.json", 0o444, card.as_bytes())?;
    }
    Ok(archive.finish())
}

fn path(slot: Slot, name: &str) -> String {
    format!("racklet/{slot}/{name}")
}

fn need(files: &mut impl Files, slot: Slot, name: &str, most: u64) -> Result<Vec<u8>, Refusal> {
    let path = path(slot, name);
    match files.read(&path, most) {
        Ok(Some(contents)) => Ok(contents),
        Ok(None) => Err(Refusal::Missing(path)),
        Err(error) => Err(Refusal::Read(path, error)),
    }
}
