// SPDX-License-Identifier: Apache-2.0
//! `state`: a line with the format's version and the digest of what follows, then JSON. The digest is against damage. Who can write
//! a snapshot can write its digest, too, and decides what the restored guest is, and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use racklet_trust::digest::{Digest, Hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vm_memory::GuestAddress;

use super::{MEMORY, STATE, memory};
use crate::arch;
use crate::memory::{Memory, lay_file, map};
use crate::virtio::DeviceState;

/// Longest `state`: 32 vCPUs and 15 devices are half a MiB.
pub const MAX_STATE: u64 = 4 << 20;
const MAGIC: &str = "racklet-snapshot ";
/// Raised with every change of what the file says.
const VERSION: u32 = 1;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file of it cannot be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not the beginning of one.
    #[error("this is no snapshot's state")]
    Foreign,
    /// Of another version of this program.
    #[error(
        "the snapshot has version {0} of its format, and this program reads {VERSION}: make a new one"
    )]
    Version(u32),
    /// Cut off, or changed since.
    #[error("the snapshot's state is damaged: make a new one")]
    Damaged,
    /// Not what the version promises.
    #[error("the snapshot's state cannot be")]
    Content(#[source] serde_json::Error),
    /// Of another kind of machine.
    #[error("the snapshot was taken on {0}")]
    Architecture(String),
    /// Another number of vCPUs, or memory.
    #[error("the snapshot is of a machine with {0}: give this one the same")]
    Machine(String),
    /// Its memory is another one's, or cut off.
    #[error("the snapshot's memory is not the one that its state was saved with: make a new one")]
    Memory,
    /// It cannot be mapped.
    #[error("map the snapshot's memory")]
    Map(#[source] io::Error),
}

/// What binds both files of a snapshot: random, at the end of its memory and in its state.
pub(super) type Id = Hex<16>;

/// The JSON of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) architecture: String,
    pub(super) id: Id,
    /// Ranges of guest memory: first address, bytes.
    pub(super) ram: Vec<(u64, u64)>,
    /// By number.
    pub(super) devices: Vec<DeviceState>,
    /// The architecture's own, which only it reads.
    pub(super) machine: Value,
}

impl State {
    /// The file's bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let mut bytes = format!("{MAGIC}{VERSION} {}\n", Digest::of(&body)).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }
}

/// Reads a file's bytes: no part of them is used before its version and digest are right.
pub fn read_state(bytes: &[u8]) -> Result<Summary, SnapshotError> {
    parse(bytes).map(|(state, machine)| Summary::of(&state, &machine))
}

fn parse(bytes: &[u8]) -> Result<(State, arch::State), SnapshotError> {
    let rest = bytes
        .strip_prefix(MAGIC.as_bytes())
        .ok_or(SnapshotError::Foreign)?;
    let end = rest.iter().take(100).position(|b| *b == b'\n');
    let (line, body) = rest.split_at(end.ok_or(SnapshotError::Foreign)?);
    let line = std::str::from_utf8(line).map_err(|_| SnapshotError::Foreign)?;
    let (version, digest) = line.split_once(' ').ok_or(SnapshotError::Foreign)?;
    let version: u32 = version.parse().map_err(|_| SnapshotError::Foreign)?;
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let body = &body[1..];
    if digest.parse::<Digest>().ok() != Some(Digest::of(body)) {
        return Err(SnapshotError::Damaged);
    }
    parse_body(body)
}

// untrusted: snapshot_state
fn parse_body(body: &[u8]) -> Result<(State, arch::State), SnapshotError> {
    let mut state: State = serde_json::from_slice(body).map_err(SnapshotError::Content)?;
    if state.architecture != std::env::consts::ARCH {
        return Err(SnapshotError::Architecture(state.architecture));
    }
    let machine = serde_json::from_value(state.machine.take()).map_err(SnapshotError::Content)?;
    Ok((state, machine))
}

/// What a machine has to have to be restored from a snapshot, beside its disks and cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Processors.
    pub cpus: u8,
    /// Memory.
    pub memory_mib: u32,
}

impl Summary {
    fn of(state: &State, machine: &arch::State) -> Summary {
        let bytes: u128 = state.ram.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
        Summary {
            cpus: u8::try_from(machine.cpus()).unwrap_or(u8::MAX),
            memory_mib: u32::try_from(bytes >> 20).unwrap_or(u32::MAX),
        }
    }
}

/// Looks at the snapshot in a folder.
pub fn look(folder: &Path) -> Result<Summary, SnapshotError> {
    Snapshot::open(folder).map(|snapshot| Summary::of(&snapshot.state, &snapshot.machine))
}

/// A snapshot whose state was read and judged as far as it can be alone.
pub(crate) struct Snapshot {
    state: State,
    pub(crate) machine: arch::State,
    memory: File,
}

impl Snapshot {
    /// The one in this folder.
    pub(crate) fn open(folder: &Path) -> Result<Snapshot, SnapshotError> {
        let open = |name| {
            let path = folder.join(name);
            let opened = File::options()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path);
            let opened = opened.and_then(|file| match file.metadata()?.is_file() {
                true => Ok(file),
                false => Err(io::Error::other("not a plain file")),
            });
            opened.map_err(|source| SnapshotError::Read { path, source })
        };
        let mut bytes = Vec::new();
        let read = open(STATE)?.take(MAX_STATE + 1).read_to_end(&mut bytes);
        read.map_err(|source| SnapshotError::Read {
            path: folder.join(STATE),
            source,
        })?;
        if bytes.len() as u64 > MAX_STATE {
            return Err(SnapshotError::Damaged);
        }
        let (state, machine) = parse(&bytes)?;
        Ok(Snapshot {
            state,
            machine,
            memory: open(MEMORY)?,
        })
    }

    /// By number.
    pub(crate) fn devices(&self) -> &[DeviceState] {
        &self.state.devices
    }

    /// Maps the memory, for a machine that has these ranges of it and so many vCPUs and devices.
    pub(crate) fn map(
        &self,
        ram: &[(u64, u64)],
        cpus: u8,
        devices: usize,
    ) -> Result<Memory, SnapshotError> {
        if self.machine.cpus() != usize::from(cpus) {
            let count = self.machine.cpus();
            return Err(SnapshotError::Machine(format!("{count} processors")));
        }
        if self.state.ram != ram {
            let mib = Summary::of(&self.state, &self.machine).memory_mib;
            return Err(SnapshotError::Machine(format!("{mib} MiB of memory")));
        }
        if self.state.devices.len() != devices {
            let count = |kind| self.devices().iter().filter(|d| d.kind() == kind).count();
            let (cards, disks) = (count(1), count(2));
            return Err(SnapshotError::Machine(format!(
                "{disks} disks and {cards} cards"
            )));
        }
        // Checked to be what `arch::ram` gives, whose sum is a guest's memory.
        let total: u64 = ram.iter().map(|(_, bytes)| bytes).sum();
        let mut end = [0; memory::TRAILER];
        let size = self.memory.metadata().map_err(SnapshotError::Map)?.len();
        if size != total + memory::TRAILER as u64
            || self.memory.read_exact_at(&mut end, total).is_err()
            || end != memory::trailer(&self.state.id)
        {
            return Err(SnapshotError::Memory);
        }
        let mapped = map(ram).map_err(SnapshotError::Map)?;
        let mut offset = 0;
        for (at, bytes) in ram {
            let file = self.memory.as_fd();
            lay_file(&mapped, GuestAddress(*at), *bytes, file, offset)
                .map_err(SnapshotError::Map)?;
            offset += bytes;
        }
        Ok(mapped)
    }
}

#[cfg(test)]
mod tests;
