// SPDX-License-Identifier: Apache-2.0
//! Disk images: what is written to a card once and boots for good.
//!
//! How a card is divided, and what lies where, follows from what starts its board: [`uefi`] or [`raspberry_pi`].
//!
//! The same inputs give the same bytes: every identifier is derived from them, and nothing has a time. What a tray would
//! refuse is refused here, before anyone carries a card to it. Signing is not done here.

mod ext4;
mod gpt;
mod mbr;
mod netboot;
pub(crate) mod pe;
mod raspberry_pi;
mod slot;
mod uefi;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use racklet_boards::{Board, Boot};
use racklet_cpio::CpioError;
use racklet_trust::{Digest, TrustRoot, Verified, manifest::NotForUs, root::RootError, slot::Slot};

pub use self::{ext4::Ext4Error, pe::PeError};
pub use racklet_fat::write::FatError;

use racklet_fat::write as fat;
use racklet_slots::pi::VolumeError;

use crate::package::{Package, PackageError};

/// The size of an image unless told otherwise, in bytes.
pub const DEFAULT_SIZE: u64 = 256 << 20;
/// The smallest image, in bytes: what is fetched before the first growth must fit.
pub const LEAST_SIZE: u64 = 160 << 20;

pub use netboot::{Netboot, netboot};

/// What goes into an image.
#[derive(Debug)]
pub struct Spec<'a> {
    /// The board it is for.
    pub board: &'a Board,
    /// What lies before both slots and starts one of them, where the board has that: the bootloader as it was built for its
    /// architecture, or the second stage that a Raspberry Pi's ROM loads.
    pub bootloader: Option<&'a [u8]>,
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
    /// A slot's bootstrap does not consist of what the board starts.
    #[error(
        "the bootstrap for slot {slot} consists of {found}, and the board starts {expected}; build it with `racklet bootstrap build --board`"
    )]
    Files {
        /// Which slot.
        slot: Slot,
        /// Its files.
        found: String,
        /// What they have to be.
        expected: String,
    },
    /// Nothing lies before the slots.
    #[error(
        "the board needs a bootloader; name it with --bootloader, or run `cargo xtask install`"
    )]
    NoBootloader,
    /// It is not started by UEFI.
    #[error("{0} is not started by UEFI, and there is no other file for a tray without a card yet")]
    Netboot(String),
    /// The board's folder says nothing about what its firmware loads.
    #[error("boards/trays/{0}/board.toml names no firmware")]
    NoFirmware(String),
    /// What is carried from slot to slot.
    #[error("write trust root and tray configuration")]
    Owner(#[from] CpioError),
    /// The bootloader cannot carry what it must.
    #[error("the bootloader")]
    Bootloader(#[from] PeError),
    /// The boot partition.
    #[error("the boot partition")]
    Esp(#[from] FatError),
    /// A slot's partition.
    #[error("a slot's partition")]
    Slot(#[from] VolumeError),
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
    if spec.size < LEAST_SIZE || !spec.size.is_multiple_of(gpt::ALIGNMENT) {
        return Err(DiskError::Size(spec.size));
    }
    let root = Verified::<TrustRoot>::baked(spec.trust_root).map_err(DiskError::Trust)?;
    let plan = match (spec.board.boot, &spec.board.firmware) {
        (Boot::Uefi, _) => uefi::plan(spec, &root)?,
        (Boot::RaspberryPi, Some(firmware)) => raspberry_pi::plan(spec, firmware, &root)?,
        (Boot::RaspberryPi, None) => {
            return Err(DiskError::NoFirmware(spec.board.name.clone()));
        }
    };

    written(output, |file| {
        let write = io_error("write", output);
        file.as_file().set_len(spec.size).map_err(&write)?;
        let Area { start, length, id } = plan.state;
        ext4::make(file.path(), start, length, id)?;
        for (offset, bytes) in &plan.pieces {
            file.as_file()
                .write_all_at(bytes, *offset)
                .map_err(&write)?;
        }
        Ok(())
    })
}

/// Has `fill` make the file at `output`, whole or not at all.
fn written(
    output: &Path,
    fill: impl FnOnce(&tempfile::NamedTempFile) -> Result<(), DiskError>,
) -> Result<Built, DiskError> {
    let folder = match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".racklet-image-")
        .tempfile_in(folder)
        .map_err(io_error("make a file in", folder))?;
    let write = io_error("write", output);
    fill(&file)?;
    file.as_file().sync_all().map_err(&write)?;
    let size = file.as_file().metadata().map_err(&write)?.len();
    let sha256 = digest(file.path()).map_err(io_error("read back", file.path()))?;
    file.persist(output).map_err(|error| write(error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("write", folder))?;
    Ok(Built { size, sha256 })
}

/// An image before it is written.
struct Plan {
    /// What is not zero.
    pieces: Vec<fat::Piece>,
    state: Area,
}

/// Where the state partition is, in bytes, and how its file system is called.
struct Area {
    start: u64,
    length: u64,
    id: gpt::Guid,
}

/// Stands for everything that an image is made of.
fn identity<'a>(
    spec: &Spec<'_>,
    root: &TrustRoot,
    files: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Digest {
    let mut message = format!("racklet image 2\n{}\n{}\n", root.rack(), spec.size).into_bytes();
    message.extend_from_slice(&Digest::of(spec.tray).0);
    for (path, contents) in files {
        message.extend_from_slice(&Digest::of(path.as_bytes()).0);
        message.extend_from_slice(ring_digest(contents).as_ref());
    }
    Digest::of(&message)
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
