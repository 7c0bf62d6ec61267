// SPDX-License-Identifier: Apache-2.0
//! The heads that a tray keeps: the one accepted last, and the one last in force.
//!
//! Each is one file with everything in its tree: the history behind it was verified when it was accepted, and the next fetch asks for
//! what came since. So there is nothing to collect or repair, and a power cut leaves the old file or the new one. What is reopened is
//! verified again, like a first boot. Mostly both are the same head, in two copies: bit rot in one of them costs nothing.

use std::{io, path::PathBuf};

use racklet_trust::{TrustRoot, Verified, floors::Floors, history::Accepted};

use super::{Fetched, RackTree, Rejected};
use crate::{
    disk::{self, Disk},
    limits::Limits,
    snapshot::{Snapshot, SnapshotError},
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Accepted last by the history rule: nothing is followed that is not behind it.
    Accepted,
    /// Last in force: its files were without fault.
    InForce,
}

/// The folder where heads are kept.
#[derive(Debug)]
pub struct RackStore<D> {
    disk: D,
    folder: PathBuf,
}

/// Why a kept head cannot be had. Nothing is lost: the next fetch brings it again.
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// The file cannot be read.
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// It is damaged.
    #[error("{0} is damaged")]
    Damaged(PathBuf, #[source] SnapshotError),
    /// It does not verify.
    #[error("the kept head is not followed")]
    Rejected(
        #[source]
        #[from]
        Rejected,
    ),
}

impl<D: Disk> RackStore<D> {
    /// Keeps heads in `folder`, which need not exist yet.
    pub fn new(disk: D, folder: impl Into<PathBuf>) -> Self {
        Self {
            disk,
            folder: folder.into(),
        }
    }

    fn path(&self, which: Kept) -> PathBuf {
        self.folder.join(match which {
            Kept::Accepted => "head",
            Kept::InForce => "in-force",
        })
    }

    /// Reads a kept head and verifies it under `root` (the baked trust root), as on a first boot. `None` when there is none. What follows
    /// it must be above `floors`, and so must the head accepted last itself; the head in force may be older, since newer ones were
    /// accepted whose files are at fault.
    ///
    /// # Errors
    /// [`ReopenError`] with the reason.
    pub fn reopen(
        &self,
        which: Kept,
        root: &Verified<TrustRoot>,
        floors: &Floors,
        limits: &Limits,
    ) -> Result<Option<RackTree>, ReopenError> {
        let Some(snapshot) = self.read(self.path(which), limits)? else {
            return Ok(None);
        };
        let below = match which {
            Kept::Accepted => floors.clone(),
            Kept::InForce => Floors::default(),
        };
        let accepted = Accepted::kept(root.clone(), snapshot.generation(), below);
        let mut tree = Fetched::kept(&snapshot, limits).verify(&accepted)?;
        tree.floors.raise(floors);
        Ok(Some(tree))
    }

    fn read(&self, path: PathBuf, limits: &Limits) -> Result<Option<Snapshot>, ReopenError> {
        let bytes = match self.disk.read(&path, Snapshot::max_size(limits)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReopenError::Read(path, error)),
        };
        Snapshot::decode(&bytes)
            .map(Some)
            .map_err(|error| ReopenError::Damaged(path, error))
    }

    /// Keeps a head in place of the one before.
    ///
    /// # Errors
    /// The file system's; then the one before is still there.
    pub fn keep(&self, which: Kept, tree: &RackTree) -> io::Result<()> {
        self.disk.create_folder(&self.folder)?;
        disk::replace(&self.disk, &self.path(which), &tree.snapshot.encode())
    }
}
