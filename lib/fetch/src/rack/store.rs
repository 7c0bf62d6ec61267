// SPDX-License-Identifier: Apache-2.0
//! The heads that a tray keeps: the one accepted last, and the one last in force.
//!
//! Each is one file with everything in its tree: the history behind it was verified when it was accepted, and the next fetch asks for
//! what came since. So there is nothing to collect or repair, and a power cut leaves the old file or the new one. What is reopened is
//! verified again, like a first boot. Mostly both are the same head, in two copies: bit rot in one of them costs nothing.

use std::{io, path::PathBuf};

use racklet_trust::{TrustRoot, Verified, floors::Floors, history::Accepted};

use super::{RackTree, Rejected};
use crate::{
    disk::{self, Disk},
    limits::Limits,
    snapshot::{Snapshot, SnapshotError},
};

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

    fn accepted(&self) -> PathBuf {
        self.folder.join("head")
    }

    fn in_force(&self) -> PathBuf {
        self.folder.join("in-force")
    }

    /// Reads the head accepted last and verifies it under `root` (the baked trust root), as on a first boot, and `floors`. `None` when
    /// there is none.
    ///
    /// # Errors
    /// [`ReopenError`] with the reason.
    pub fn reopen(
        &self,
        root: &Verified<TrustRoot>,
        floors: &Floors,
        limits: &Limits,
    ) -> Result<Option<RackTree>, ReopenError> {
        let Some(snapshot) = self.read(self.accepted(), limits)? else {
            return Ok(None);
        };
        let accepted = Accepted::kept(root.clone(), snapshot.generation(), floors.clone());
        let mut tree = snapshot.to_fetched(limits).verify(&accepted)?;
        tree.floors.raise(floors);
        Ok(Some(tree))
    }

    /// Reads the head last in force, in the same way. It may be older than the floors, since newer ones were accepted whose files are
    /// at fault; what follows it may not.
    ///
    /// # Errors
    /// [`ReopenError`] with the reason.
    pub fn reopen_in_force(
        &self,
        root: &Verified<TrustRoot>,
        floors: &Floors,
        limits: &Limits,
    ) -> Result<Option<RackTree>, ReopenError> {
        let Some(snapshot) = self.read(self.in_force(), limits)? else {
            return Ok(None);
        };
        let generation = snapshot.generation();
        let accepted = Accepted::kept(root.clone(), generation, Floors::default());
        let mut tree = snapshot.to_fetched(limits).verify(&accepted)?;
        tree.floors = floors.clone();
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

    /// Keeps an accepted head in place of the one before.
    ///
    /// # Errors
    /// The file system's; then the one before is still there.
    pub fn keep(&self, tree: &RackTree) -> io::Result<()> {
        self.write(self.accepted(), tree)
    }

    /// Keeps a head that was put in force in place of the one before.
    ///
    /// # Errors
    /// The file system's; then the one before is still there.
    pub fn keep_in_force(&self, tree: &RackTree) -> io::Result<()> {
        self.write(self.in_force(), tree)
    }

    fn write(&self, path: PathBuf, tree: &RackTree) -> io::Result<()> {
        self.disk.create_folder(&self.folder)?;
        disk::replace(&self.disk, &path, &tree.snapshot.encode())
    }
}
