// SPDX-License-Identifier: Apache-2.0
//! Marking the bootstrap slot good: the slot record's two sectors on the ESP, written in place. The ESP is never mounted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use racklet_api::handoff as boot;
use racklet_fat::{LocateError, SECTOR};
use racklet_linux::block;
use racklet_trust::slot::{self, Copies, SIZE, Slot, State, StoreError};

const LABEL: &str = "racklet-esp";
const PATHS: [&str; 2] = ["racklet/slots.0", "racklet/slots.1"];

/// Why the slot was not marked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkError {
    #[error("list the partitions")]
    List(#[source] io::Error),
    #[error("{0} partitions are labelled {LABEL}, not one")]
    Partitions(usize),
    #[error("open the boot partition")]
    Open(#[source] io::Error),
    #[error("find {0} on the boot partition")]
    Locate(&'static str, #[source] LocateError<io::Error>),
    #[error("{0} is {1} bytes, not {SIZE}")]
    Length(&'static str, u32),
    #[error("write the slot record")]
    Store(#[source] StoreError<io::Error>),
}

struct Esp {
    device: File,
    offsets: [u64; 2],
}

impl Copies for Esp {
    type Error = io::Error;

    fn read(&mut self, copy: usize) -> io::Result<[u8; SIZE]> {
        let mut bytes = [0; SIZE];
        self.device.read_exact_at(&mut bytes, self.offsets[copy])?;
        Ok(bytes)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> io::Result<()> {
        self.device.write_all_at(bytes, self.offsets[copy])?;
        self.device.sync_data()
    }
}

/// Marks the slot that this boot came from, on the disk that has the partition `boot` where that is known; says what there
/// was to do.
pub(crate) fn mark_good(booted: &boot::BootInfo, boot: Option<&str>) -> Result<String, MarkError> {
    let mut found = block::by_label(LABEL).map_err(MarkError::List)?;
    if let Some(boot) = boot {
        found = block::on_the_disk_of(boot, found);
    }
    if found.len() != 1 {
        return Err(MarkError::Partitions(found.len()));
    }
    let device = File::options()
        .read(true)
        .write(true)
        .open(found.remove(0).device)
        .map_err(MarkError::Open)?;
    mark(device, booted)
}

fn mark(device: File, booted: &boot::BootInfo) -> Result<String, MarkError> {
    let mut offsets = [0; 2];
    for (offset, path) in offsets.iter_mut().zip(PATHS) {
        let read = |at: u64, sector: &mut [u8; SECTOR]| device.read_exact_at(sector, at);
        let place =
            racklet_fat::locate(read, path).map_err(|error| MarkError::Locate(path, error))?;
        if place.size as usize != SIZE {
            return Err(MarkError::Length(path, place.size));
        }
        *offset = place.offset;
    }
    let mut esp = Esp { device, offsets };
    let loaded = slot::load(&mut esp);
    let slot = match booted.slot {
        boot::Slot::A => Slot::A,
        boot::Slot::B => Slot::B,
    };
    let state = loaded.record.slot(slot);
    let marked = loaded.record.mark_good(slot, booted.version);
    if marked == loaded.record && !loaded.lost() {
        return Ok(format!("slot {} was good already", booted.slot));
    }
    slot::store(&mut esp, &loaded, marked).map_err(MarkError::Store)?;
    let before = if state.state == State::Good {
        "its tries start again"
    } else {
        "it was on trial"
    };
    Ok(format!(
        "slot {}, version {}, marked good ({before})",
        booted.slot, booted.version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use racklet_trust::slot::SlotRecord;
    use std::path::Path;
    use std::process::Command;

    fn run(program: &str, arguments: &[&str]) {
        let done = Command::new(program)
            .args(arguments)
            .env("MTOOLS_SKIP_CHECK", "1")
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "{program} is needed (`cargo xtask doctor`)"
        );
    }

    /// An ESP with this record in both copies.
    fn esp(folder: &Path, record: SlotRecord) -> File {
        let image = folder.join("esp");
        File::create(&image)
            .and_then(|file| file.set_len(70_000 * 512))
            .expect("makes the volume");
        let image = image.to_str().expect("utf-8");
        run("mkfs.vfat", &["-F", "32", "-s", "1", "--mbr=n", image]);
        run("mmd", &["-i", image, "::racklet"]);
        for (copy, path) in PATHS.iter().enumerate() {
            let file = folder.join("copy");
            std::fs::write(&file, record.encode(copy as u64)).expect("writes");
            run(
                "mcopy",
                &[
                    "-i",
                    image,
                    file.to_str().expect("utf-8"),
                    &format!("::{path}"),
                ],
            );
        }
        File::options()
            .read(true)
            .write(true)
            .open(image)
            .expect("opens")
    }

    fn read_back(folder: &Path) -> SlotRecord {
        let device = File::open(folder.join("esp")).expect("opens");
        let mut offsets = [0; 2];
        for (offset, path) in offsets.iter_mut().zip(PATHS) {
            let read = |at: u64, sector: &mut [u8; SECTOR]| device.read_exact_at(sector, at);
            *offset = racklet_fat::locate(read, path).expect("is there").offset;
        }
        slot::load(&mut Esp { device, offsets }).record
    }

    #[test]
    fn the_slot_that_was_booted_is_marked_good_and_nothing_else_changes() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let record = SlotRecord::new(Some(7), Some(8));
        let booted = boot::BootInfo {
            slot: boot::Slot::B,
            tries: 1,
            version: 8,
        };
        let text = mark(esp(folder.path(), record), &booted).expect("marks");
        assert!(text.contains("slot b, version 8, marked good"), "{text}");
        let after = read_back(folder.path());
        assert_eq!(
            (after.slot(Slot::B).state, after.slot(Slot::B).version),
            (State::Good, 8)
        );
        assert_eq!(after.slot(Slot::A), record.slot(Slot::A));
        assert_eq!(after.preferred(), Slot::B);
        let device = File::options()
            .read(true)
            .write(true)
            .open(folder.path().join("esp"))
            .expect("opens");
        assert!(
            mark(device, &booted)
                .expect("marks")
                .contains("good already")
        );
    }

    #[test]
    fn an_esp_without_a_slot_record_is_told_as_such() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(esp(folder.path(), SlotRecord::default()));
        let image = folder.path().join("esp");
        run(
            "mdel",
            &["-i", image.to_str().expect("utf-8"), "::racklet/slots.1"],
        );
        let device = File::options()
            .read(true)
            .write(true)
            .open(&image)
            .expect("opens");
        let booted = boot::BootInfo {
            slot: boot::Slot::A,
            tries: 1,
            version: 1,
        };
        let error = mark(device, &booted).expect_err("is refused");
        assert_eq!(
            error.to_string(),
            "find racklet/slots.1 on the boot partition"
        );
    }
}
