// SPDX-License-Identifier: Apache-2.0
//! Slots on a card that a Raspberry Pi's own firmware starts. It finds what it loads by name and takes files as long as they are, so a
//! slot is written as a whole: a partition of its own, with a new file system in it.
//!
//! ```text
//! p1 control: autoboot.txt, the slot record twice      p2 slot a      p3 slot b
//! ```
//!
//! A slot's first sector is emptied before anything else of it is written and comes back last, so what is half written is no file system
//! at all: firmware does not start it, not even when it walks over the partitions. Which slot is started is `autoboot.txt`'s to say,
//! one sector that is overwritten in place; the other one is started by the firmware's one-shot alone ([`Storage::by_one_shot`]), which
//! the firmware forgets before it starts anything.

use std::io;

use racklet_cpio::{Archive, CpioError};
use racklet_fat::write::{self, Entry, FatError, Piece};
use racklet_fat::{LocateError, Place, SECTOR};
use racklet_trust::Digest;
use racklet_trust::slot::{Copies, SIZE, Slot};

use crate::device::{Device, write_changed};
use crate::esp::{OpenError, Records, contents, locate};
use crate::{NoRoom, Storage};

/// Bytes of each of the three partitions. The next round size above the least that FAT32 can be with clusters of 512 bytes, which is
/// what `mkfs.vfat` takes for small volumes; a bootstrap of 24 MiB with all of its firmware fits.
pub const VOLUME: u64 = 40 << 20;
/// Which slot is started, on the control partition.
pub const AUTOBOOT: &str = "autoboot.txt";
/// Trust root and tray configuration, as an initramfs: carried from slot to slot, and no part of what is released.
pub const OWNER: &str = "owner.cpio";
/// The slot's own name, as an initramfs; no part of what is released either.
pub const NAME: &str = "slot.cpio";
/// The most of [`OWNER`], in bytes: its two files have at most 4 MiB each for who reads them.
const MOST_OWNER: u64 = 9 << 20;

/// The number of a slot's partition.
#[must_use]
pub const fn partition(slot: Slot) -> u8 {
    match slot {
        Slot::A => 2,
        Slot::B => 3,
    }
}

/// `autoboot.txt`, by which the firmware chooses the partition: that of `usual` for every boot, that of the other slot for the one after a
/// one-shot. Its length is the same whichever it is, so that it can be written in place.
#[must_use]
pub fn autoboot(usual: Slot) -> String {
    format!(
        "[all]\ntryboot_a_b=1\nboot_partition={}\n[tryboot]\nboot_partition={}\n",
        partition(usual),
        partition(usual.other())
    )
}

/// Where a file of a slot is, by its name in [`Storage`]: papers in a folder of ours, what the firmware loads where it looks.
fn path(name: &str) -> String {
    match name.strip_prefix("files/") {
        Some(name) => name.to_owned(),
        None => format!("racklet/{name}"),
    }
}

/// A slot's partition, `start` bytes from the beginning of its disk, with these files by their names in [`Storage`] and what the tray's
/// owner said.
///
/// # Errors
/// When they do not fit.
pub fn volume(
    slot: Slot,
    start: u64,
    files: &[(String, &[u8])],
    owner: &[u8],
) -> Result<Vec<Piece>, VolumeError> {
    let name = name(slot)?;
    let mut paths: Vec<(String, &[u8])> = Vec::new();
    paths.extend(files.iter().map(|(name, contents)| (path(name), *contents)));
    paths.push((OWNER.to_owned(), owner));
    paths.push((NAME.to_owned(), &name));
    // Tells two volumes apart, and follows from what is in them.
    let digests = paths.iter().flat_map(|(path, contents)| {
        let digests = [Digest::of(path.as_bytes()), Digest::of(contents)];
        digests.map(|digest| digest.0)
    });
    let digest = Digest::of(&digests.collect::<Vec<_>>().concat()).0;
    let entries: Vec<Entry<'_>> = paths
        .iter()
        .map(|(path, contents)| Entry {
            path,
            contents,
            apart: false,
            room: 0,
        })
        .collect();
    Ok(write::volume(
        &write::Volume {
            size: VOLUME,
            hidden: start / SECTOR as u64,
            id: u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]),
            label: match slot {
                Slot::A => b"RACKLET-A  ",
                Slot::B => b"RACKLET-B  ",
            },
        },
        &entries,
    )?)
}

/// The slot's own name, whatever the firmware says of the partition.
fn name(slot: Slot) -> Result<Vec<u8>, CpioError> {
    let json = format!("{{\"slot\":\"{slot}\"}}");
    let mut archive = Archive::new();
    archive.directory("racklet", 0o755)?;
    archive.file("racklet/slot.json", 0o444, json.as_bytes())?;
    Ok(archive.finish())
}

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It is too small for what is to be in it.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// The slot's name cannot be said.
    #[error(transparent)]
    Name(#[from] CpioError),
}

/// A partition of the card.
#[derive(Debug)]
pub struct Part<D> {
    /// It.
    pub device: D,
    /// Where it begins on its disk, in bytes.
    pub start: u64,
}

/// See the module.
#[derive(Debug)]
pub struct PiCard<D> {
    control: D,
    slots: [Part<D>; 2],
    records: Records,
    /// Where `autoboot.txt` is, of the length that ours have.
    autoboot: u64,
}

impl<D: Device> PiCard<D> {
    /// Finds the slot record and `autoboot.txt` on the control partition.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(control: D, slots: [Part<D>; 2]) -> Result<Self, OpenError> {
        let records = Records::find(&control)?;
        let place =
            locate(&control, AUTOBOOT).map_err(|error| OpenError::Locate(AUTOBOOT, error))?;
        if place.size as usize != autoboot(Slot::A).len() {
            return Err(OpenError::Autoboot(place.size));
        }
        Ok(Self {
            control,
            slots,
            records,
            autoboot: place.offset,
        })
    }

    /// The slot that every boot starts; nothing where `autoboot.txt` is not ours.
    fn usual(&self) -> io::Result<Option<Slot>> {
        let sector = self.sector()?;
        let usual = |slot: &Slot| sector.starts_with(autoboot(*slot).as_bytes());
        Ok(Slot::ALL.into_iter().find(usual))
    }

    fn sector(&self) -> io::Result<[u8; SECTOR]> {
        let mut sector = [0; SECTOR];
        self.control.read_at(&mut sector, self.autoboot)?;
        Ok(sector)
    }

    /// Where a slot's file is; nothing when there is none, or no file system, which is how a slot is while it is written.
    fn place(&self, slot: Slot, name: &str) -> io::Result<Option<Place>> {
        match locate(&self.slots[slot as usize].device, &path(name)) {
            Ok(place) => Ok(Some(place)),
            Err(LocateError::Read(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What the owner said, from the slot that runs: the other one may be anything.
    fn owner(&mut self, running: Slot) -> io::Result<Vec<u8>> {
        let owner = self.read_file(running, &format!("files/{OWNER}"), MOST_OWNER)?;
        owner.ok_or_else(|| {
            let missing = format!("{OWNER} of slot {running} is missing");
            io::Error::new(io::ErrorKind::NotFound, missing)
        })
    }

    fn pieces(
        &mut self,
        slot: Slot,
        files: &[(String, &[u8])],
    ) -> io::Result<Result<Vec<Piece>, VolumeError>> {
        let owner = self.owner(slot.other())?;
        Ok(volume(slot, self.slots[slot as usize].start, files, &owner))
    }
}

impl<D: Device> Copies for PiCard<D> {
    type Error = io::Error;

    fn read(&mut self, copy: usize) -> io::Result<[u8; SIZE]> {
        self.records.read(&self.control, copy)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> io::Result<()> {
        self.records.write(&mut self.control, copy, bytes)
    }
}

impl<D: Device> Storage for PiCard<D> {
    fn read_file(&mut self, slot: Slot, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let place = self.place(slot, name)?;
        let device = &self.slots[slot as usize].device;
        place.map(|place| contents(device, place, most)).transpose()
    }

    fn has_room(&mut self, slot: Slot, files: &[(String, &[u8])]) -> Result<(), NoRoom> {
        let pieces = self.pieces(slot, files);
        let pieces = pieces.map_err(|error| NoRoom::Find(OWNER.to_owned(), error))?;
        pieces.map(drop).map_err(NoRoom::Volume)
    }

    fn replace(&mut self, slot: Slot, files: &[(String, &[u8])]) -> io::Result<()> {
        let mut pieces = self.pieces(slot, files)?.map_err(io::Error::other)?;
        // Whatever becomes of this, the slot that runs is the one that is started.
        self.buy(slot.other())?;
        let device = &mut self.slots[slot as usize].device;
        device.write_at(&[0; SECTOR], 0)?;
        device.flush()?;
        let (_, boot) = pieces.remove(0);
        for (offset, mut bytes) in pieces {
            // Zeros to the end of the last sector, which a folder's end is told by.
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
            write_changed(device, &bytes, offset)?;
        }
        device.flush()?;
        device.write_at(&boot, 0)?;
        device.flush()
    }

    fn by_one_shot(&mut self, running: Slot) -> io::Result<bool> {
        Ok(self.usual()? == Some(running))
    }

    fn buy(&mut self, slot: Slot) -> io::Result<()> {
        if self.usual()? == Some(slot) {
            return Ok(());
        }
        let mut sector = self.sector()?;
        let text = autoboot(slot);
        sector[..text.len()].copy_from_slice(text.as_bytes());
        self.control.write_at(&sector, self.autoboot)?;
        self.control.flush()?;
        match self.usual()? == Some(slot) {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "the card did not keep {AUTOBOOT}; replace the card"
            ))),
        }
    }
}
