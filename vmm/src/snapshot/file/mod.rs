// SPDX-License-Identifier: Apache-2.0
//! `state`: a line with the format's version and the digest of what follows, then JSON. The digest is against damage. Who can write
//! a snapshot can write its digest, too, and decides what the restored guest is, and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use racklet_trust::digest::{Digest, Hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vm_memory::GuestAddress;

use super::{BASE, MEMORY, STATE, memory};
use crate::arch;
use crate::memory::{Memory, lay_file, map};
use crate::virtio::DeviceState;

/// Longest `state`: 32 vCPUs and 15 devices are half a MiB.
pub const MAX_STATE: u64 = 4 << 20;
const MAGIC: &str = "racklet-snapshot ";
/// Raised with every change of what the file says.
const VERSION: u32 = 2;

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
    /// A difference to another one.
    #[error("what is at `{BASE}` is not the snapshot that this one is the difference to")]
    Base,
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
    /// What its memory is the difference to; nothing where it is all there.
    pub(super) base: Option<Base>,
    /// Ranges of guest memory: first address, bytes.
    pub(super) ram: Vec<(u64, u64)>,
    /// By number.
    pub(super) devices: Vec<DeviceState>,
    /// The architecture's own, which only it reads.
    pub(super) machine: Value,
}

/// Names a full snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Base {
    /// Of the file with its state: what who asked for the difference said.
    pub(super) state: Digest,
    /// Its own, from the file with its memory: what the monitor has seen.
    pub(super) id: Id,
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
    /// The memory of what it is the difference to.
    base: Option<(File, Id)>,
}

fn open(folder: &Path, name: &str) -> Result<File, SnapshotError> {
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
}

/// The state in this folder.
fn read(folder: &Path) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = Vec::new();
    let read = open(folder, STATE)?
        .take(MAX_STATE + 1)
        .read_to_end(&mut bytes);
    read.map_err(|source| SnapshotError::Read {
        path: folder.join(STATE),
        source,
    })?;
    if bytes.len() as u64 > MAX_STATE {
        return Err(SnapshotError::Damaged);
    }
    Ok(bytes)
}

/// The memory of the snapshot in this folder, if it is the full one that is named there, and of such a machine.
fn open_base(folder: &Path, named: &Base, of: &State) -> Result<(File, Id), SnapshotError> {
    let bytes = read(folder)?;
    if Digest::of(&bytes) != named.state {
        return Err(SnapshotError::Base);
    }
    let (state, _) = parse(&bytes)?;
    if state.id != named.id || state.ram != of.ram || state.base.is_some() {
        return Err(SnapshotError::Base);
    }
    Ok((open(folder, MEMORY)?, state.id))
}

/// The digest by which a difference to the snapshot in this folder names it, and its memory.
pub fn open_full(folder: &Path) -> Result<(Digest, File), SnapshotError> {
    let bytes = read(folder)?;
    parse(&bytes)?;
    Ok((Digest::of(&bytes), open(folder, MEMORY)?))
}

impl Snapshot {
    /// The one in this folder, and what it is the difference to, if it is one.
    pub(crate) fn open(folder: &Path) -> Result<Snapshot, SnapshotError> {
        let bytes = read(folder)?;
        let (state, machine) = parse(&bytes)?;
        let base = match &state.base {
            Some(named) => Some(open_base(&folder.join(BASE), named, &state)?),
            None => None,
        };
        Ok(Snapshot {
            state,
            machine,
            memory: open(folder, MEMORY)?,
            base,
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
        let bits = self.base.as_ref().map_or(0, |_| memory::bits(total));
        let own = (&self.memory, total + bits, &self.state.id);
        let base = self.base.iter().map(|(file, id)| (file, total, id));
        for (file, length, id) in std::iter::once(own).chain(base) {
            if !memory::is_whole(file, length, id).map_err(SnapshotError::Map)? {
                return Err(SnapshotError::Memory);
            }
        }
        let mapped = map(ram).map_err(SnapshotError::Map)?;
        let full = self.base.as_ref().map_or(&self.memory, |(file, _)| file);
        let mut offset = 0;
        for (at, bytes) in ram {
            let file = full.as_fd();
            lay_file(&mapped, GuestAddress(*at), *bytes, file, offset)
                .map_err(SnapshotError::Map)?;
            offset += bytes;
        }
        if self.base.is_some() {
            memory::apply(&mapped, &self.memory).map_err(SnapshotError::Map)?;
        }
        Ok(mapped)
    }
}

#[cfg(test)]
mod tests;
