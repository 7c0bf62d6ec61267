// SPDX-License-Identifier: Apache-2.0
//! The manifest of a payload (operating system), an artifact (workload image) or a bootstrap slot.
//!
//! Signatures are over the manifest's bytes; everything else hangs on the digests in it. Large files are cut into chunks, so
//! that an update transfers only what changed; each chunk carries the digest of its *compressed* bytes, to be checked before
//! anything is decompressed. This module does no decompression and no I/O.

mod file;
mod machine;

use alloc::{collections::BTreeMap, collections::BTreeSet, format, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Verified, arguments, namespace,
    root::{Role, TrustRoot, Unauthorised},
};

pub use self::{
    file::{Chunk, File, FileError},
    machine::{Machine, NotForUs},
};

/// The largest manifest that is read, in bytes: room for 16 GiB in chunks of 256 KiB.
pub const MAX_SIZE: usize = 16 * 1024 * 1024;
/// The largest chunk, in uncompressed bytes.
pub const MAX_CHUNK_LENGTH: u32 = 1024 * 1024;
/// The largest compressed chunk: incompressible data grows by less than this.
pub const MAX_CHUNK_SIZE: u32 = MAX_CHUNK_LENGTH + 64 * 1024;
const MAX_FILES: usize = 16;
const MAX_NAME: usize = 64;

const TYPE: &str = "racklet.dev/manifest/v1";

/// What a manifest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An operating system: `kernel` and `initramfs`.
    Payload,
    /// A workload image: `rootfs`.
    Artifact,
    /// What a slot holds: `kernel`, `initramfs` and whatever else a board's firmware loads.
    Bootstrap,
}

impl Kind {
    /// The role whose keys sign manifests of this kind.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Payload | Self::Artifact => Role::Payload,
            Self::Bootstrap => Role::Firmware,
        }
    }

    /// The names of the files that it always has.
    #[must_use]
    pub fn file_names(self) -> &'static [&'static str] {
        match self {
            Self::Payload | Self::Bootstrap => &["kernel", "initramfs"],
            Self::Artifact => &["rootfs"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payload => "payload",
            Self::Artifact => "artifact",
            Self::Bootstrap => "bootstrap",
        })
    }
}

/// A manifest. Field order is the canonical order; see [`Manifest::to_canonical`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    r#type: String,
    /// What it is for.
    pub kind: Kind,
    /// Its name: a DNS label, also the last part of its branch.
    pub name: String,
    /// Its version; never goes down on a tray.
    pub version: u64,
    /// What it is made for.
    pub architecture: Architecture,
    /// The boards it is for. Empty for an artifact, which runs on any board of its architecture.
    pub boards: Vec<String>,
    /// Unix time in seconds.
    pub created: u64,
    /// Unix time in seconds after which it is not accepted any more.
    pub expires: Option<u64>,
    /// Kernel command line, behind the board's own; see [`arguments`].
    pub arguments: String,
    /// What it was made from, by name: versions and digests of sources.
    pub source: BTreeMap<String, String>,
    /// What it consists of.
    pub files: Vec<File>,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_SIZE`].
    #[error("the manifest is longer than 16 MiB")]
    TooLarge,
    /// Too few signatures.
    #[error(transparent)]
    Unauthorised(#[from] Unauthorised),
    /// Signed, yet not JSON of the right shape; the text says where.
    #[error("the manifest is not of the form {TYPE}: {0}")]
    Malformed(String),
    /// Signed, yet spelt in another way than `racklet` writes it.
    #[error("the manifest is not in canonical form; build it with `racklet`")]
    NotCanonical,
    /// A field that cannot be right; the text says which and why.
    #[error("the manifest's {0}")]
    Field(String),
    /// A payload where an artifact was wanted, or the like.
    #[error("it is of kind {found}, not {expected}")]
    Kind {
        /// What it says.
        found: Kind,
        /// What was wanted.
        expected: Kind,
    },
}

impl Manifest {
    /// An empty manifest to be filled by whoever builds one.
    #[must_use]
    pub fn new(kind: Kind, name: &str, version: u64, architecture: Architecture) -> Self {
        Self {
            r#type: TYPE.into(),
            kind,
            name: name.into(),
            version,
            architecture,
            boards: Vec::new(),
            created: 0,
            expires: None,
            arguments: String::new(),
            source: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// The one spelling of this manifest: compact JSON with a line end. This is what is signed, and what a rack pins by digest.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("plain data always serialises");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the canonical form, without believing it: for those who build and show manifests.
    ///
    /// # Errors
    /// [`ManifestError`] when it is malformed, not canonical, or has a field that cannot be right.
    // untrusted: manifest
    pub fn parse_unverified(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::TooLarge);
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Malformed(format!("{error}")))?;
        manifest.check_fields().map_err(ManifestError::Field)?;
        if manifest.to_canonical() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// Verifies the signatures over `bytes` by the role that signs `kind`, then parses.
    ///
    /// # Errors
    /// [`ManifestError`] with the reason.
    pub fn verify(
        root: &Verified<TrustRoot>,
        kind: Kind,
        bytes: &[u8],
        signatures: &[impl AsRef<[u8]>],
    ) -> Result<Verified<Self>, ManifestError> {
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::TooLarge);
        }
        root.check(kind.role(), namespace::MANIFEST, bytes, signatures)?;
        let manifest = Self::parse_unverified(bytes)?;
        if manifest.kind != kind {
            return Err(ManifestError::Kind {
                found: manifest.kind,
                expected: kind,
            });
        }
        Ok(Verified::new(manifest))
    }

    /// The file called `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    fn check_fields(&self) -> Result<(), String> {
        if self.r#type != TYPE {
            return Err(format!("type is not {TYPE}"));
        }
        if !is_label(&self.name) {
            return Err("name is not a DNS label (a-z, 0-9 and -, at most 63)".into());
        }
        if !self.boards.iter().all(|board| is_word(board)) {
            return Err("boards are not plain names".into());
        }
        if self.boards.is_empty() != (self.kind == Kind::Artifact) {
            return Err("boards must be named, except for an artifact".into());
        }
        arguments::check(&self.arguments).map_err(|error| format!("{error}"))?;
        self.check_file_names()?;
        self.files
            .iter()
            .try_for_each(|file| file.check_fields(self.kind))
    }
}

impl Manifest {
    /// Firmware without a bootloader of ours loads what else its board needs from the same slot: device tree, settings, firmware. All
    /// of it is named here, since what is not is not verified. Which names a board needs is the board's to say.
    fn check_file_names(&self) -> Result<(), String> {
        let names: BTreeSet<&str> = self.files.iter().map(|file| &*file.name).collect();
        let always: BTreeSet<&str> = self.kind.file_names().iter().copied().collect();
        let list = self.kind.file_names().join(" and ");
        if names.len() != self.files.len() {
            return Err("files are named twice".into());
        }
        if self.kind != Kind::Bootstrap {
            return match names == always {
                true => Ok(()),
                false => Err(format!("files are not exactly {list}")),
            };
        }
        if !names.is_superset(&always) {
            return Err(format!("files lack {list}"));
        }
        if names.len() > MAX_FILES {
            return Err(format!("files are more than {MAX_FILES}"));
        }
        match names.iter().find(|name| !is_file_name(name)) {
            Some(name) => Err(format!(
                "file {name:?} is not named by 1 to {MAX_NAME} of a-z, 0-9, `.`, `-` and `_`, beginning with a letter or digit"
            )),
            None => Ok(()),
        }
    }
}

/// The name of a file that lies beside others on a FAT volume, which takes `A` for `a` and drops a `.` at the end.
fn is_file_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| letter(b) || b"._-".contains(&b))
        && text.bytes().next().is_some_and(letter)
        && !text.ends_with('.')
}

/// A DNS label: 1 to 63 of `a-z`, `0-9` and inner `-`.
#[must_use]
pub fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A board's name: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
fn is_word(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests;
