// SPDX-License-Identifier: Apache-2.0
//! The slot that a board's own firmware started, without a bootloader of ours: which it is, and whether it is what was signed.
//!
//! Firmware whose owner has not set up its secure boot starts whatever lies in a slot. So this stops nothing: somebody who can change
//! the kernel there can change this program. It finds what broke by itself, and what was changed by somebody who knew less than that;
//! and a slot that is not what was signed is never reported good.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use racklet_api::handoff::{BootInfo, Card, SlotName};
use racklet_api::tray::TrayConfig;
use racklet_fat::{LocateError, SECTOR};
use racklet_linux::block::Mark;
use racklet_tell::error::chain;
use racklet_trust::manifest::{Kind, Machine, Manifest, ManifestError, NotForUs};
use racklet_trust::slot::{self, Copies, SIZE, Slot, TRIES};
use racklet_trust::{Architecture, TrustRoot, Verified, root, sshsig};

use super::INIT;
use crate::firmware::Report;
use crate::pid1::{self, HandedError};
use crate::supervise::slots::{MARK, SLOT_MARKS, slot_of};

const RECORDS: [&str; 2] = ["racklet/slots.0", "racklet/slots.1"];
/// The longest manifest of a slot, in bytes; one that names ten files has about 1,500.
const MANIFEST: u32 = 256 << 10;
const _: () = assert!(MANIFEST as u64 == slot::MAX_MANIFEST);
/// As long as an armored signature may be.
const SIGNATURE: u32 = 4096;
const _: () = assert!(SIGNATURE as usize == sshsig::MAX_ARMORED);
/// The longest file of a slot, in bytes: the partition is no larger.
const FILE: u32 = 40 << 20;

/// Why the slot is not known to be what was signed.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error("list the partitions")]
    List(#[source] io::Error),
    #[error("{0} partitions could be slot {1}")]
    Partitions(usize, Slot),
    #[error("open it")]
    Open(#[source] io::Error),
    #[error("find {0}")]
    Find(String, #[source] LocateError<io::Error>),
    #[error("{0} has {1} bytes")]
    Long(String, u32),
    #[error("read {0}")]
    Read(String, #[source] io::Error),
    #[error("its manifest")]
    Manifest(#[from] ManifestError),
    #[error("its release")]
    NotForUs(#[from] NotForUs),
    #[error("{}", .0.join("; "))]
    Differs(Vec<String>),
}

/// The slot that this system was started from, where there is such a thing and it is what was signed. Tells what it finds.
pub(super) fn slot(
    root: &Verified<TrustRoot>,
    tray: &TrayConfig,
    card: &Card,
) -> Result<Option<BootInfo>, HandedError> {
    let Some(SlotName { slot }) = pid1::handed_json("/racklet/slot.json")? else {
        return Ok(None);
    };
    let name = slot_of(slot);
    for doubt in Report::read().doubts(SLOT_MARKS[name as usize].number) {
        INIT.failed(doubt, "go on");
    }
    let boot = card.boot_partition.as_deref();
    match open(SLOT_MARKS[name as usize], name, boot).and_then(|file| prove(&file, root, tray)) {
        Ok(version) => {
            let tries = tries(name, boot);
            Ok(Some(BootInfo {
                slot,
                tries,
                version,
            }))
        }
        Err(error) => {
            INIT.failed(
                format_args!("slot {name} is not what was signed: {}", chain(&error)),
                "go on, as the firmware did; it will not be reported good",
            );
            Ok(None)
        }
    }
}

fn open(mark: Mark, slot: Slot, boot: Option<&str>) -> Result<File, Unproven> {
    let found = mark.find(boot).map_err(Unproven::List)?.unwrap_or_default();
    match &*found {
        [partition] => File::open(&partition.device).map_err(Unproven::Open),
        several => Err(Unproven::Partitions(several.len(), slot)),
    }
}

/// The version of the release in a slot, all files of which are as its manifest says.
fn prove(
    volume: &impl FileExt,
    root: &Verified<TrustRoot>,
    tray: &TrayConfig,
) -> Result<u64, Unproven> {
    let manifest = whole(volume, "racklet/manifest.json", MANIFEST)?;
    let mut signatures = Vec::new();
    for number in 0..root::MAX_KEYS {
        match whole(
            volume,
            &format!("racklet/signatures/{number}.sig"),
            SIGNATURE,
        ) {
            Err(Unproven::Find(_, LocateError::Missing)) => break,
            signature => signatures.push(signature?),
        }
    }
    let manifest = Manifest::verify(root, Kind::Bootstrap, &manifest, &signatures)?;
    manifest.accept(&Machine {
        architecture: Architecture::HERE,
        board: &tray.board,
        now: None,
        floor: 0,
    })?;
    let mut differs = Vec::new();
    for file in &manifest.files {
        let proven = whole(volume, &file.name, FILE)
            .map_err(|error| chain(&error))
            .and_then(|bytes| {
                let proven = manifest.verify_file(&file.name, &*bytes);
                proven.map(|_| ()).map_err(|error| chain(&error))
            });
        differs.extend(proven.err());
    }
    match differs.is_empty() {
        true => Ok(manifest.version),
        false => Err(Unproven::Differs(differs)),
    }
}

/// A file of at most `most` bytes.
// untrusted: fat_locate
fn whole(volume: &impl FileExt, path: &str, most: u32) -> Result<Vec<u8>, Unproven> {
    let read = |at: u64, sector: &mut [u8; SECTOR]| volume.read_exact_at(sector, at);
    let place = racklet_fat::locate(read, path).map_err(|e| Unproven::Find(path.into(), e))?;
    if place.size > most {
        return Err(Unproven::Long(path.into(), place.size));
    }
    let mut bytes = vec![0; place.size as usize];
    let read = volume.read_exact_at(&mut bytes, place.offset);
    read.map_err(|error| Unproven::Read(path.into(), error))?;
    Ok(bytes)
}

/// How many times the slot was started without success, this one included, as far as the record knows. Nothing hangs on it here.
fn tries(slot: Slot, boot: Option<&str>) -> u8 {
    struct Read(File);
    impl Copies for Read {
        type Error = io::Error;

        fn read(&mut self, copy: usize) -> io::Result<[u8; SIZE]> {
            let read = |at: u64, sector: &mut [u8; SECTOR]| self.0.read_exact_at(sector, at);
            let place = racklet_fat::locate(read, RECORDS[copy]).map_err(io::Error::other)?;
            let mut bytes = [0; SIZE];
            self.0.read_exact_at(&mut bytes, place.offset)?;
            Ok(bytes)
        }

        fn write(&mut self, _: usize, _: &[u8; SIZE]) -> io::Result<()> {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        }
    }
    let record = open(MARK, slot, boot).map(|file| slot::load(&mut Read(file)).record);
    record.map_or(1, |record| {
        (TRIES - record.slot(slot).tries_left.min(TRIES)).max(1)
    })
}

#[cfg(test)]
mod tests;
