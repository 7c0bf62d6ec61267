// SPDX-License-Identifier: Apache-2.0
//! Marking the bootstrap slot good: the slot record's two sectors on the ESP, written in place. The ESP is never mounted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use racklet_api::boot;
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

/// Marks the slot that this boot came from; says what there was to do.
pub(crate) fn mark_good(booted: boot::Slot) -> Result<String, MarkError> {
    let mut found = block::by_label(LABEL).map_err(MarkError::List)?;
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

fn mark(device: File, booted: boot::Slot) -> Result<String, MarkError> {
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
    let slot = match booted {
        boot::Slot::A => Slot::A,
        boot::Slot::B => Slot::B,
    };
    let state = loaded.record.slot(slot);
    let marked = loaded.record.mark_good(slot, state.version);
    if marked == loaded.record && !loaded.lost() {
        return Ok(format!("slot {booted} was good already"));
    }
    slot::store(&mut esp, &loaded, marked).map_err(MarkError::Store)?;
    let before = if state.state == State::Good {
        "its tries start again"
    } else {
        "it was on trial"
    };
    Ok(format!("slot {booted} marked good ({before})"))
}
