// SPDX-License-Identifier: Apache-2.0
//! Slots on the boot partition of a machine with UEFI: files of FAT32 with room behind what is in them, written in place. The file system
//! is never mounted, and nothing of it changes but the contents of these files.

use std::io;

use racklet_fat::{LocateError, Place, SECTOR};
use racklet_trust::root::MAX_KEYS;
use racklet_trust::slot::{Copies, MAX_MANIFEST, SIZE, Slot};

use crate::bootstrap::signature_name;
use crate::device::{Device, write_changed};
use crate::{LARGEST, NoRoom, Storage};

pub(crate) const RECORDS: [&str; 2] = ["racklet/slots.0", "racklet/slots.1"];
/// Why this is not a boot partition of ours.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What says which slot to start is not there.
    #[error("find {0} on the boot partition")]
    Locate(&'static str, #[source] LocateError<io::Error>),
    /// A copy of the slot record is something else.
    #[error("{0} is {1} bytes, not {SIZE}")]
    Length(&'static str, u32),
    /// `autoboot.txt` is not what we write.
    #[error("autoboot.txt is {0} bytes, not what was written with the image: somebody changed it")]
    Autoboot(u32),
}

/// See the module.
#[derive(Debug)]
pub struct Esp<D> {
    device: D,
    records: Records,
}

impl<D: Device> Esp<D> {
    /// Finds the slot record on a partition.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(device: D) -> Result<Self, OpenError> {
        let records = Records::find(&device)?;
        Ok(Self { device, records })
    }

    /// The partition below.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Where a slot's file is; nothing when there is none.
    fn place(&self, slot: Slot, name: &str) -> io::Result<Option<Place>> {
        match locate(&self.device, &format!("racklet/{slot}/{name}")) {
            Ok(place) => Ok(Some(place)),
            Err(LocateError::Missing | LocateError::Empty) => Ok(None),
            Err(LocateError::Read(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Where the two copies of the slot record are on a partition, in bytes from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records([u64; 2]);

impl Records {
    pub(crate) fn find(device: &impl Device) -> Result<Self, OpenError> {
        let mut records = [0; 2];
        for (offset, path) in records.iter_mut().zip(RECORDS) {
            let place = locate(device, path).map_err(|error| OpenError::Locate(path, error))?;
            if place.size as usize != SIZE {
                return Err(OpenError::Length(path, place.size));
            }
            *offset = place.offset;
        }
        Ok(Self(records))
    }

    pub(crate) fn read(self, device: &impl Device, copy: usize) -> io::Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        device.read_at(&mut bytes, self.0[copy])?;
        Ok(bytes)
    }

    pub(crate) fn write(
        self,
        device: &mut impl Device,
        copy: usize,
        bytes: &[u8; SIZE],
    ) -> io::Result<()> {
        device.write_at(bytes, self.0[copy])?;
        device.flush()
    }
}

pub(crate) fn locate(device: &impl Device, path: &str) -> Result<Place, LocateError<io::Error>> {
    let read = |at: u64, sector: &mut [u8; SECTOR]| device.read_at(sector, at);
    racklet_fat::locate(read, path)
}

/// The first `most` bytes of what is there, or all of it where that is less.
pub(crate) fn contents(device: &impl Device, place: Place, most: u64) -> io::Result<Vec<u8>> {
    let length = u64::from(place.size).min(most);
    if length > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    device.read_at(&mut bytes, place.offset)?;
    Ok(bytes)
}

impl<D: Device> Copies for Esp<D> {
    type Error = io::Error;

    fn read(&mut self, copy: usize) -> io::Result<[u8; SIZE]> {
        self.records.read(&self.device, copy)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> io::Result<()> {
        self.records.write(&mut self.device, copy, bytes)
    }
}

impl<D: Device> Storage for Esp<D> {
    fn read_file(&mut self, slot: Slot, name: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let place = self.place(slot, name)?;
        place
            .map(|place| contents(&self.device, place, most))
            .transpose()
    }

    fn has_room(&mut self, slot: Slot, files: &[(String, &[u8])]) -> Result<(), NoRoom> {
        for (name, contents) in files {
            let place = self.place(slot, name);
            let place = place.map_err(|error| NoRoom::Find(name.clone(), error))?;
            let room = place.map_or(0, |place| u64::from(place.size));
            let size = contents.len() as u64;
            if size > room {
                let name = name.clone();
                return Err(NoRoom::Small { name, size, room });
            }
        }
        Ok(())
    }

    fn replace(&mut self, slot: Slot, files: &[(String, &[u8])]) -> io::Result<()> {
        // Of a signature that is not there any more nothing stays: it would be one of another manifest.
        let mut all = files.to_vec();
        all.extend(
            (0..MAX_KEYS)
                .map(signature_name)
                .filter(|name| !files.iter().any(|(other, _)| other == name))
                .map(|name| (name, &[][..])),
        );
        for (name, contents) in all {
            let Some(place) = self.place(slot, &name)? else {
                continue;
            };
            let room = u64::from(place.size);
            if contents.len() as u64 > room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            write_changed(&mut self.device, contents, place.offset)?;
            // These end where the zeros begin; of the other files the manifest says how long they are.
            if !name.starts_with("files/") {
                let behind = contents.len() as u64..room.min(MAX_MANIFEST);
                let zeros = usize::try_from(behind.end.saturating_sub(behind.start));
                let zeros = vec![0; zeros.map_err(io::Error::other)?];
                write_changed(&mut self.device, &zeros, place.offset + behind.start)?;
            }
        }
        self.device.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume that nothing is behind: clusters of 64 KiB, each of which leads to the next, and a kernel of all but 4 GiB.
    struct Liar;

    impl Liar {
        fn byte(at: u64) -> u8 {
            let within = |from: u64| usize::try_from(at - from).ok();
            let entry = |name: &[u8; 11], folder: bool, cluster: u8, size: u32| {
                let mut entry = [0; 32];
                entry[..11].copy_from_slice(name);
                entry[11] = if folder { 0x10 } else { 0x20 };
                entry[26] = cluster;
                entry[28..].copy_from_slice(&size.to_le_bytes());
                entry
            };
            let (table, cluster) = (32 * 512, 128 * 512);
            let data = table + 8192 * 512;
            let found = match at {
                0..512 => {
                    let mut boot = [0; 512];
                    for (place, bytes) in [
                        (11, &[0, 2, 128, 32, 0, 1][..]),
                        (32, &134_152_224_u32.to_le_bytes()),
                        (36, &8192_u32.to_le_bytes()),
                        (44, &[2]),
                        (510, &[0x55, 0xaa]),
                    ] {
                        boot[place..place + bytes.len()].copy_from_slice(bytes);
                    }
                    boot.get(within(0).unwrap_or_default()).copied()
                }
                _ if (table..data).contains(&at) => {
                    let number = (at - table) / 4 + 1;
                    let next = u32::try_from(number).unwrap_or_default().to_le_bytes();
                    next.get(usize::from((at - table).to_le_bytes()[0] % 4))
                        .copied()
                }
                _ => {
                    let number = at.saturating_sub(data) / cluster;
                    let entries = match number {
                        0 => vec![entry(b"RACKLET    ", true, 3, 0)],
                        1 => vec![
                            entry(b"SLOTS   0  ", false, 9, 512),
                            entry(b"SLOTS   1  ", false, 9, 512),
                            entry(b"A          ", true, 4, 0),
                        ],
                        2 => vec![entry(b"FILES      ", true, 5, 0)],
                        3 => vec![entry(b"KERNEL     ", false, 6, u32::MAX - 65_535)],
                        _ => Vec::new(),
                    };
                    let place = within(data + number * cluster).unwrap_or(usize::MAX);
                    entries.concat().get(place).copied()
                }
            };
            found.unwrap_or_default()
        }
    }

    impl Device for Liar {
        fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
            assert!(out.len() as u64 <= LARGEST, "{} bytes", out.len());
            for (byte, at) in out.iter_mut().zip(offset..) {
                *byte = Self::byte(at);
            }
            Ok(())
        }

        fn write_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_card_that_claims_a_file_of_gigabytes_gets_no_memory_for_it() {
        let mut esp = Esp::open(Liar).expect("has a record");
        let place = esp.place(Slot::A, "files/kernel").expect("is found");
        assert_eq!(place.map(|place| place.size), Some(u32::MAX - 65_535));
        let refused = esp.read_file(Slot::A, "files/kernel", u64::MAX);
        let refused = refused.map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::FileTooLarge));
        let first = esp.read_file(Slot::A, "files/kernel", 7).expect("is read");
        assert_eq!(first, Some(vec![0; 7]));
    }
}
