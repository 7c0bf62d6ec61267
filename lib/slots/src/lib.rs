// SPDX-License-Identifier: Apache-2.0
//! A tray's bootstrap slots, as the system sees them that was started from one.
//!
//! ```text
//!   observe ──> install: empty ──> files ──> read back ──> on trial, first ──restart──> the bootloader counts tries
//!                 (the other slot)                            │ not wanted any more          │ healthy
//!                                                             └──> withdraw                  └──> mark_good: bought
//! ```
//!
//! The slot that runs is never written. Each step is one change of the slot record, which a power cut leaves as it was or makes; between
//! two of them at most the slot that counts as empty is half written. What is written was verified as the bootloader will do it, under
//! the trust root that the bootloader carries, in the memory that is then written.
//!
//! Where slots are kept is behind [`Storage`]: [`Esp`] is the boot partition of a machine with UEFI, [`PiCard`] a Raspberry
//! Pi's card. When to install and to restart, and
//! what came of it, is for others to decide.
#![forbid(unsafe_code)]

mod bootstrap;
mod device;
mod esp;
pub mod pi;

use std::io;

use racklet_trust::root::MAX_KEYS;
use racklet_trust::slot::{
    self, Copies, InstallError as Rule, MAX_MANIFEST, Slot, SlotRecord, StoreError,
};
use racklet_trust::sshsig::MAX_ARMORED;
use racklet_trust::{Digest, Manifest, TrustRoot, Verified};

pub use bootstrap::{Bootstrap, BootstrapError};
pub use device::Device;
pub use esp::{Esp, OpenError};
pub use pi::PiCard;

/// The most that is read of one file, in bytes: twice what all of a slot has room for.
pub const LARGEST: u64 = 64 << 20;

/// The name of a slot's manifest within the slot.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Where slots and their record are kept.
pub trait Storage: Copies<Error = io::Error> {
    /// The first `most` bytes of a slot's file; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or when that would be more than [`LARGEST`]: the file system's word for a size is a claim.
    fn read_file(&mut self, slot: Slot, name: &str, most: u64) -> io::Result<Option<Vec<u8>>>;

    /// Whether a slot can hold these files. Nothing is written.
    ///
    /// # Errors
    /// [`NoRoom`] for the first that it cannot.
    fn has_room(&mut self, slot: Slot, files: &[(String, &[u8])]) -> Result<(), NoRoom>;

    /// Makes these the files of a slot. When it returns, they are on the disk and not in a cache, nor does a read come from one.
    ///
    /// # Errors
    /// When they are not; what is in the slot then is anything.
    fn replace(&mut self, slot: Slot, files: &[(String, &[u8])]) -> io::Result<()>;

    /// Whether, while `running` runs, the other slot is started by a one-shot of the firmware's alone, which nobody but us counts. A
    /// bootloader of ours asks the record and counts by itself.
    ///
    /// # Errors
    /// When that cannot be read.
    fn by_one_shot(&mut self, running: Slot) -> io::Result<bool> {
        let _ = running;
        Ok(false)
    }

    /// What is to be done, beyond the record, so that `slot` is the one that is started from now on.
    ///
    /// # Errors
    /// When it cannot be done. Done again, it is the same.
    fn buy(&mut self, slot: Slot) -> io::Result<()> {
        let _ = slot;
        Ok(())
    }
}

/// Why a slot cannot hold a file.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// The card was made before slots had room for other files than their first ones.
    #[error(
        "{name} has {size} bytes, and its slot has room for {room}: write a new image made by `racklet image build`"
    )]
    Small {
        /// The file.
        name: String,
        /// Its bytes.
        size: u64,
        /// What there is.
        room: u64,
    },
    /// The place cannot be found.
    #[error("find {0} on the boot partition")]
    Find(String, #[source] io::Error),
    /// A partition is too small for all of it.
    #[error("make the slot's file system")]
    Volume(#[source] pi::VolumeError),
}

/// What was found of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The record.
    pub record: SlotRecord,
    /// Neither copy of the record could be read: what [`Observed::record`] says is assumed.
    pub lost: bool,
    /// SHA-256 of what lies where each slot's manifest is, a and b: names what is there, and proves nothing. `None` for an empty place.
    pub manifests: [Option<Digest>; 2],
}

/// Looks at both slots.
///
/// # Errors
/// When a manifest's place cannot be read.
pub fn observe(storage: &mut (impl Storage + ?Sized)) -> io::Result<Observed> {
    let loaded = slot::load(storage);
    let mut manifests = [None; 2];
    for slot in Slot::ALL {
        let bytes = storage.read_file(slot, MANIFEST, MAX_MANIFEST)?;
        let bytes = bytes.unwrap_or_default();
        let written = slot::written(&bytes);
        manifests[slot as usize] = (!written.is_empty()).then(|| Digest::of(written));
    }
    Ok(Observed {
        record: loaded.record,
        lost: loaded.lost(),
        manifests,
    })
}

/// Why a bootstrap is not installed. What runs is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The rules of the slot record.
    #[error(transparent)]
    Rule(Rule),
    /// The card.
    #[error(transparent)]
    Room(#[from] NoRoom),
    /// The record.
    #[error("write the slot record")]
    Record(#[source] StoreError<io::Error>),
    /// A file.
    #[error("write slot {0}")]
    Write(Slot, #[source] io::Error),
    /// What was written is not what is read.
    #[error("the card did not keep {name} of slot {slot}; replace the card")]
    NotKept {
        /// Which slot.
        slot: Slot,
        /// Which file.
        name: String,
    },
}

/// Writes `bootstrap` into the slot that does not run, to be tried at the next start. Done again after a power cut it goes on where that
/// was: what is on the card already is not written again.
///
/// # Errors
/// [`InstallError`]; then the slot that runs is the one that is started next.
pub fn install(
    storage: &mut (impl Storage + ?Sized),
    running: Slot,
    bootstrap: &Bootstrap,
) -> Result<(), InstallError> {
    let (slot, version) = (running.other(), bootstrap.manifest().version);
    let loaded = slot::load(storage);
    let prepared = loaded.record.prepare(slot, version);
    let prepared = prepared.map_err(InstallError::Rule)?;
    let installed = prepared.install(slot, version);
    let installed = installed.map_err(InstallError::Rule)?;
    let files = bootstrap.files();
    storage.has_room(slot, &files)?;
    let loaded = slot::store(storage, &loaded, prepared).map_err(InstallError::Record)?;
    let write = |error| InstallError::Write(slot, error);
    storage.replace(slot, &files).map_err(write)?;
    for (name, contents) in &files {
        let kept = storage.read_file(slot, name, contents.len() as u64);
        if kept.map_err(write)?.as_deref() != Some(*contents) {
            let name = name.clone();
            return Err(InstallError::NotKept { slot, name });
        }
    }
    slot::store(storage, &loaded, installed).map_err(InstallError::Record)?;
    Ok(())
}

/// Before a restart: whether that has to be by the firmware's one-shot, so that what is on trial is started. That try is counted here,
/// since nobody else can.
///
/// # Errors
/// When it cannot be counted; then it is not to be tried.
pub fn count_trial(
    storage: &mut (impl Storage + ?Sized),
    running: Slot,
) -> Result<bool, StoreError<io::Error>> {
    if !storage.by_one_shot(running).map_err(StoreError::Move)? {
        return Ok(false);
    }
    let loaded = slot::load(storage);
    match loaded.record.choose(&[]) {
        Some(choice) if choice.slot != running && !choice.renewed && !loaded.lost() => {
            slot::store(storage, &loaded, choice.record).map(|_| true)
        }
        _ => Ok(false),
    }
}

/// Writes the bootstrap that runs into the other slot as well, so that there is one to fall back to: after a power cut had left that one
/// half written, and nothing else is wanted. It is not tried while the slot that runs starts.
///
/// # Errors
/// [`CopyError`]; the slot that runs is as it was.
pub fn copy(
    storage: &mut (impl Storage + ?Sized),
    running: Slot,
    root: &Verified<TrustRoot>,
    board: &str,
) -> Result<(), CopyError> {
    let bytes = storage.read_file(running, MANIFEST, MAX_MANIFEST);
    let bytes = bytes.map_err(CopyError::Read)?.unwrap_or_default();
    let manifest = Manifest::parse_unverified(slot::written(&bytes));
    let manifest = manifest.map_err(BootstrapError::Manifest)?;
    let mut signatures = Vec::new();
    for number in 0..MAX_KEYS {
        let name = bootstrap::signature_name(number);
        let armored = storage.read_file(running, &name, MAX_ARMORED as u64);
        let armored = armored.map_err(CopyError::Read)?.unwrap_or_default();
        signatures.push(slot::written(&armored).to_vec());
    }
    // Asked for once the manifest's signatures are found good: its sizes count only then.
    let file = |name: &str| {
        let size = manifest.file(name)?.size;
        // What cannot be read is missing, and what is too short is another file.
        storage
            .read_file(running, &format!("files/{name}"), size)
            .ok()?
    };
    let held = Bootstrap::verify(root, board, &manifest, &signatures, file)?;
    install(storage, running, &held)?;
    withdraw(storage, running).map_err(InstallError::Record)?;
    Ok(())
}

/// Why there is no second copy of what runs.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The slot that runs cannot be read.
    #[error("read the slot that runs")]
    Read(#[source] io::Error),
    /// It is not what was started.
    #[error("the slot that runs")]
    Held(#[from] BootstrapError),
    /// The other slot.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// What is installed beside the slot that runs and was not tried yet is not wanted any more: it is only started when the other one fails.
/// Says whether there was such a thing.
///
/// # Errors
/// [`StoreError`]; then it is still tried at the next start.
pub fn withdraw(
    storage: &mut (impl Storage + ?Sized),
    running: Slot,
) -> Result<bool, StoreError<io::Error>> {
    let loaded = slot::load(storage);
    let withdrawn = loaded.record.withdraw(running.other());
    if withdrawn == loaded.record {
        return Ok(false);
    }
    slot::store(storage, &loaded, withdrawn).map(|_| true)
}

/// The system that was started from `running`, with this version, has found itself healthy. Gives what was known before, or nothing where
/// that says so already.
///
/// # Errors
/// [`StoreError`].
pub fn mark_good(
    storage: &mut (impl Storage + ?Sized),
    running: Slot,
    version: u64,
) -> Result<Option<SlotRecord>, StoreError<io::Error>> {
    // First, and whatever the record says already: where the power goes in between, the next start is one of this slot all the same.
    storage.buy(running).map_err(StoreError::Move)?;
    let loaded = slot::load(storage);
    let marked = loaded.record.mark_good(running, version);
    if marked == loaded.record && !loaded.lost() {
        return Ok(None);
    }
    slot::store(storage, &loaded, marked)?;
    Ok(Some(loaded.record))
}
