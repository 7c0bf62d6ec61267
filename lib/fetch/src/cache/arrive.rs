// SPDX-License-Identifier: Apache-2.0
//! What arrives, what it cost, and why it does not.

use std::{io, path::PathBuf};

use racklet_trust::{
    Digest, Manifest, Verified,
    manifest::{Kind, ManifestError},
};

use super::assemble::{AssembleError, PayloadFiles, Rootfs};
use crate::{rack::TreeError, remote::RemoteError};

/// What a rack repository pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Payload or artifact.
    pub kind: Kind,
    /// Its name: the branch is `<kind>/<name>`.
    pub name: String,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
}

/// What a fetch cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Bytes received, TLS included.
    pub received: u64,
    /// Bytes sent, TLS included.
    pub sent: u64,
    /// Chunks of the manifest that came.
    pub new_chunks: usize,
    /// As many of these came as plain files from beside the repository ([`crate::beside`]).
    pub plain_chunks: usize,
    /// Chunks of the manifest that were here.
    pub reused_chunks: usize,
}

/// A payload or artifact that came and was verified to the last byte.
#[derive(Debug)]
pub struct Arrived {
    /// What its signatures vouch for. Whether it is for this machine, [`Verified::accept`] says.
    pub manifest: Verified<Manifest>,
    /// The files of a payload, in the manifest's order; none for an artifact.
    pub files: PayloadFiles,
    /// The root file system of an artifact; none for a payload.
    pub rootfs: Option<Verified<Rootfs>>,
    /// What it cost.
    pub report: Report,
    /// Why it is not in the cache, when it is not: a full or failing disk. The older entries are as they were.
    pub not_cached: Option<NotCached>,
}

/// What went wrong in the cache while the fetch itself went well.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} could not be written, so this is not cached; what was cached before is still there"
)]
pub struct NotCached {
    /// Which file.
    pub path: PathBuf,
    /// The file system's words.
    #[source]
    pub source: io::Error,
}

/// A branch whose manifest is not the pinned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPinned {
    /// Where it was looked for.
    pub branch: String,
    /// The tip of it.
    pub commit: racklet_trust::commit::ObjectId,
    /// What the rack pins.
    pub pinned: Digest,
    /// What is there.
    pub found: Digest,
    /// What that says of itself.
    pub found_version: Option<u64>,
}

impl std::fmt::Display for NotPinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            branch,
            commit,
            pinned,
            found,
            ..
        } = self;
        write!(
            f,
            "the rack pins manifest {pinned}, but {branch} (commit {commit}) holds manifest {found}"
        )?;
        if let Some(version) = self.found_version {
            write!(f, ", which says it is version {version}")?;
        }
        f.write_str(": publish the pinned one there, or pin this one")
    }
}

/// Why a pinned payload or artifact did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ArriveError {
    /// The conversation with the server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// No such branch.
    #[error("the repository has no {0}; publish it there, or correct the pin")]
    NoBranch(String),
    /// The branch holds something else.
    #[error("{0}")]
    NotPinned(Box<NotPinned>),
    /// The tree is not laid out as one of ours, or not whole.
    #[error("the tree of {commit} is not a payload or artifact: {error}")]
    Tree {
        /// Which commit.
        commit: racklet_trust::commit::ObjectId,
        /// What is wrong.
        error: TreeError,
    },
    /// A file that must be there.
    #[error("the tree of {commit} has no {path}")]
    NoFile {
        /// Which commit.
        commit: racklet_trust::commit::ObjectId,
        /// Which file.
        path: &'static str,
    },
    /// The pinned manifest is refused.
    #[error("manifest {digest}: {error}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        error: ManifestError,
    },
    /// The pinned manifest is for another name.
    #[error("the pinned manifest is of {found}, not of {expected}")]
    Name {
        /// What it says.
        found: String,
        /// What the pin says.
        expected: String,
    },
    /// Chunks or files.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// An artifact needs the disk.
    #[error(transparent)]
    Disk(#[from] NotCached),
}

impl ArriveError {
    /// Whether another ref may lead to the same package without this fault: anybody who may push can spoil a ref or what it leads to.
    pub(super) fn is_of_one_ref(&self) -> bool {
        matches!(
            self,
            Self::NotPinned(_)
                | Self::Tree { .. }
                | Self::NoFile { .. }
                | Self::Manifest { .. }
                | Self::Assemble(AssembleError::Missing(_) | AssembleError::Altered { .. })
                // Git's words for an object that is not there.
                | Self::Remote(RemoteError::Server(_))
        )
    }

    /// Whether asking again for everything may help: something that the server was told is here is not.
    pub(super) fn is_a_gap(&self) -> bool {
        matches!(
            self,
            Self::Tree {
                error: TreeError::Missing(_),
                ..
            } | Self::Remote(RemoteError::Pack(_))
        )
    }
}
