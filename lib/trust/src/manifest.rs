// SPDX-License-Identifier: Apache-2.0
//! The manifest of a payload (operating system), an artifact (workload image) or a bootstrap slot.
//!
//! Signatures are over the manifest's bytes; everything else hangs on the digests in it. Large files are cut into chunks, so
//! that an update transfers only what changed; each chunk carries the digest of its *compressed* bytes, to be checked before
//! anything is decompressed. This module does no decompression and no I/O.

use alloc::{collections::BTreeMap, collections::BTreeSet, format, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Architecture, Digest, Verified, arguments,
    date::Utc,
    namespace,
    root::{Role, TrustRoot, Unauthorised},
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
    /// A slot of the boot partition: `kernel` and `initramfs`, whole files.
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

    /// The names of its files.
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

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// See [`Kind::file_names`].
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
    /// In order; empty for a bootstrap slot, whose files are kept whole.
    pub chunks: Vec<Chunk>,
}

/// A piece of a file, one zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Of the compressed bytes; also its file name.
    pub sha256: Digest,
    /// Compressed bytes.
    pub size: u32,
    /// Uncompressed bytes.
    pub length: u32,
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_SIZE`].
    #[error("the manifest is longer than 16 MiB")]
    TooLarge,
    /// Too few signatures.
    #[error("{0}")]
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

/// Why a good manifest is not for this machine at this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForUs {
    /// Another architecture.
    #[error("it is for {found}; this is {here}")]
    Architecture {
        /// The manifest's.
        found: Architecture,
        /// This machine's.
        here: Architecture,
    },
    /// Another board.
    #[error("it is for {}; this board is {here}", boards.join(", "))]
    Board {
        /// The manifest's boards.
        boards: Vec<String>,
        /// This board.
        here: String,
    },
    /// Its time is over.
    #[error("it expired at {}, and it is {} now", Utc(*expires), Utc(*now))]
    Expired {
        /// Unix time in seconds.
        expires: u64,
        /// Unix time in seconds.
        now: u64,
    },
    /// A newer one was accepted before.
    #[error("version {found} is older than version {floor}, which was accepted before")]
    Downgrade {
        /// Its version.
        found: u64,
        /// The lowest version still accepted.
        floor: u64,
    },
}

/// Why a file is not the one that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The manifest has no such file.
    #[error("the manifest names no file {0:?}")]
    Unknown(String),
    /// Another length.
    #[error("{name} has {found} bytes, not {expected}")]
    Size {
        /// Which file.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// The manifest's.
        expected: u64,
    },
    /// A compressed chunk of it holds other bytes.
    #[error("chunk {expected} of {name} has {size} bytes with SHA-256 {found}")]
    Chunk {
        /// Which file.
        name: String,
        /// The manifest's digest, which is the chunk's name.
        expected: Digest,
        /// Its digest.
        found: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// Other contents.
    #[error("{name} has SHA-256 {found}, not {expected}")]
    Digest {
        /// Which file.
        name: String,
        /// Its digest.
        found: Digest,
        /// The manifest's.
        expected: Digest,
    },
}

/// The machine that a manifest is judged for.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Its processor's.
    pub architecture: Architecture,
    /// The board's name.
    pub board: &'a str,
    /// Unix time in seconds; `None` where no trustworthy time is to be had (firmware).
    pub now: Option<u64>,
    /// The lowest version still accepted.
    pub floor: u64,
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
        let names: BTreeSet<&str> = self.files.iter().map(|file| &*file.name).collect();
        let expected: BTreeSet<&str> = self.kind.file_names().iter().copied().collect();
        if names != expected || self.files.len() != expected.len() || self.files.len() > MAX_FILES {
            return Err(format!(
                "files are not exactly {}",
                self.kind.file_names().join(" and ")
            ));
        }
        self.files
            .iter()
            .try_for_each(|file| file.check_fields(self.kind))
    }
}

impl File {
    fn check_fields(&self, kind: Kind) -> Result<(), String> {
        if kind == Kind::Bootstrap {
            return match self.chunks.is_empty() {
                true => Ok(()),
                false => Err(format!("{} has chunks, in a bootstrap slot", self.name)),
            };
        }
        let mut total = 0;
        for chunk in &self.chunks {
            if chunk.length == 0 || chunk.length > MAX_CHUNK_LENGTH {
                return Err(format!("{}: a chunk of {} bytes", self.name, chunk.length));
            }
            if chunk.size == 0 || chunk.size > MAX_CHUNK_SIZE {
                return Err(format!(
                    "{}: a compressed chunk of {} bytes",
                    self.name, chunk.size
                ));
            }
            total += u64::from(chunk.length);
        }
        match total == self.size {
            true => Ok(()),
            false => Err(format!(
                "{}: chunks of {total} bytes for a file of {}",
                self.name, self.size
            )),
        }
    }
}

impl Verified<Manifest> {
    /// Whether this machine may use it now.
    ///
    /// # Errors
    /// [`NotForUs`] with the reason.
    pub fn accept(&self, machine: &Machine<'_>) -> Result<(), NotForUs> {
        if self.architecture != machine.architecture {
            return Err(NotForUs::Architecture {
                found: self.architecture,
                here: machine.architecture,
            });
        }
        if self.kind != Kind::Artifact && !self.boards.iter().any(|b| b == machine.board) {
            return Err(NotForUs::Board {
                boards: self.boards.clone(),
                here: machine.board.into(),
            });
        }
        if let (Some(expires), Some(now)) = (self.expires, machine.now)
            && now >= expires
        {
            return Err(NotForUs::Expired { expires, now });
        }
        match self.version < machine.floor {
            true => Err(NotForUs::Downgrade {
                found: self.version,
                floor: machine.floor,
            }),
            false => Ok(()),
        }
    }

    /// Checks that `contents` are the file `name`, length and digest, and keeps them together with the proof. Whatever holds the
    /// bytes must not change under it (memory of one's own, or a sealed memfd).
    ///
    /// # Errors
    /// [`FileError`] with what was found and what was expected.
    pub fn verify_file<B: AsRef<[u8]>>(
        &self,
        name: &str,
        contents: B,
    ) -> Result<Verified<B>, FileError> {
        let file = self
            .file(name)
            .ok_or_else(|| FileError::Unknown(name.chars().take(MAX_NAME).collect()))?;
        let bytes = contents.as_ref();
        let found = bytes.len() as u64;
        if found != file.size {
            return Err(FileError::Size {
                name: name.into(),
                found,
                expected: file.size,
            });
        }
        let digest = Digest::of(bytes);
        if digest != file.sha256 {
            return Err(FileError::Digest {
                name: name.into(),
                found: digest,
                expected: file.sha256,
            });
        }
        Ok(Verified::new(contents))
    }

    /// Puts the file `name` together from its chunks: `read` gives the compressed bytes of one, `open` decompresses them into exactly
    /// the space it is given. Each chunk is compared with its digest before `open` sees it; the digest of the whole is not computed
    /// again, since signed chunks can only make up the same bytes each time. So this is for files that [`Self::verify_file`] accepted
    /// once, and costs one pass of SHA-256 instead of two.
    ///
    /// # Errors
    /// [`FileError`] for a chunk that is another one, and whatever `read` and `open` say.
    pub fn assemble<E: From<FileError>>(
        &self,
        name: &str,
        mut read: impl FnMut(&Chunk) -> Result<Vec<u8>, E>,
        mut open: impl FnMut(&Chunk, &[u8], &mut [u8]) -> Result<(), E>,
    ) -> Result<Verified<Vec<u8>>, E> {
        let file = self
            .file(name)
            .ok_or_else(|| FileError::Unknown(name.chars().take(MAX_NAME).collect()))?;
        let length = |found: u64| FileError::Size {
            name: name.into(),
            found,
            expected: file.size,
        };
        let size = usize::try_from(file.size).map_err(|_| length(0))?;
        let mut whole = alloc::vec![0; size];
        let mut rest = &mut whole[..];
        for chunk in &file.chunks {
            let bytes = read(chunk)?;
            let found = Digest::of(&bytes);
            if found != chunk.sha256 || bytes.len() as u64 != u64::from(chunk.size) {
                return Err(E::from(FileError::Chunk {
                    name: name.into(),
                    expected: chunk.sha256,
                    found,
                    size: bytes.len() as u64,
                }));
            }
            let (out, after) = rest
                .split_at_mut_checked(chunk.length as usize)
                .ok_or_else(|| length(file.size))?;
            rest = after;
            open(chunk, &bytes, out)?;
        }
        match rest.is_empty() {
            true => Ok(Verified::new(whole)),
            false => Err(E::from(length(file.size - rest.len() as u64))),
        }
    }
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
mod tests {
    use super::*;
    use crate::testing::{Keypair, roles, trust_root};
    use proptest::prelude::*;
    use std::string::ToString as _;

    fn payload() -> Manifest {
        let file = |name: &str, contents: &[u8]| File {
            name: name.into(),
            size: contents.len() as u64,
            sha256: Digest::of(contents),
            chunks: [Chunk {
                sha256: Digest::of(b"compressed"),
                size: 10,
                length: u32::try_from(contents.len()).unwrap(),
            }]
            .into(),
        };
        Manifest {
            boards: ["qemu-x86_64".into()].into(),
            created: 1_790_000_000,
            expires: Some(1_800_000_000),
            files: [file("kernel", b"kernel"), file("initramfs", b"init")].into(),
            ..Manifest::new(Kind::Payload, "stable", 14, Architecture::X86_64)
        }
    }

    fn verify(bytes: &[u8], kind: Kind) -> Result<Verified<Manifest>, ManifestError> {
        let signature = Keypair::new(1).sign(namespace::MANIFEST, bytes);
        Manifest::verify(&trust_root(1, roles(1, &[1])), kind, bytes, &[signature])
    }

    #[test]
    fn a_signed_manifest_is_accepted_on_its_board() {
        let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
        let here = Machine {
            architecture: Architecture::X86_64,
            board: "qemu-x86_64",
            now: Some(1_790_000_001),
            floor: 14,
        };
        assert_eq!(manifest.accept(&here), Ok(()));
        for wrong in [
            Machine {
                architecture: Architecture::Aarch64,
                ..here
            },
            Machine {
                board: "rpi4",
                ..here
            },
            Machine {
                now: Some(1_800_000_000),
                ..here
            },
            Machine { floor: 15, ..here },
        ] {
            assert!(manifest.accept(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_has_expired_is_refused_with_dates_that_people_read() {
        let here = Machine {
            architecture: Architecture::X86_64,
            board: "qemu-x86_64",
            now: Some(1_800_000_060),
            floor: 14,
        };
        let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
        assert_eq!(
            manifest.accept(&here).unwrap_err().to_string(),
            "it expired at 2027-01-15 08:00:00 UTC, and it is 2027-01-15 08:01:00 UTC now"
        );
    }

    #[test]
    fn a_tampered_manifest_is_refused_before_it_is_parsed() {
        let bytes = payload().to_canonical();
        let signature = Keypair::new(1).sign(namespace::MANIFEST, &bytes);
        let mut tampered = bytes;
        tampered[0] = b'?';
        let root = trust_root(1, roles(1, &[1]));
        assert!(matches!(
            Manifest::verify(&root, Kind::Payload, &tampered, &[signature]),
            Err(ManifestError::Unauthorised(_))
        ));
    }

    #[test]
    fn an_artifact_is_not_a_payload() {
        assert!(matches!(
            verify(&payload().to_canonical(), Kind::Artifact),
            Err(ManifestError::Kind { .. })
        ));
    }

    #[test]
    fn only_the_chunks_it_names_make_up_a_file() {
        let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
        let assemble = |name: &str, bytes: &[u8]| {
            let open = |_: &Chunk, _: &[u8], out: &mut [u8]| {
                out.copy_from_slice(b"kernel");
                Ok(())
            };
            manifest.assemble::<FileError>(name, |_| Ok(bytes.to_vec()), open)
        };
        assert_eq!(*assemble("kernel", b"compressed").unwrap(), b"kernel");
        for other in [&b"compresseD"[..], b"compresse", b""] {
            let refused = assemble("kernel", other);
            assert!(
                matches!(refused, Err(FileError::Chunk { .. })),
                "{refused:?}"
            );
        }
        assert!(matches!(assemble("other", b""), Err(FileError::Unknown(_))));
    }

    #[test]
    fn signed_nonsense_is_still_refused() {
        let mut cases = Vec::new();
        let mut case = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = payload();
            change(&mut manifest);
            cases.push(manifest);
        };
        case(&|m| m.name = "../up".into());
        case(&|m| m.arguments = "quiet\ninit=/bin/sh".into());
        for arguments in [
            "a -- b",
            "\"--\"",
            "x=\"",
            "init=/bin/sh",
            "panic=5 rdinit=/x",
        ] {
            case(&|m| m.arguments = arguments.into());
        }
        case(&|m| m.boards.clear());
        case(&|m| _ = m.files.pop());
        case(&|m| m.files[1].name = "kernel".into());
        case(&|m| m.files[0].size += 1);
        case(&|m| m.files[0].chunks[0].length = 0);
        case(&|m| m.files[0].chunks[0].length = MAX_CHUNK_LENGTH + 1);
        case(&|m| m.files[0].chunks[0].size = MAX_CHUNK_SIZE + 1);
        for manifest in cases {
            let outcome = verify(&manifest.to_canonical(), Kind::Payload);
            assert!(
                matches!(outcome, Err(ManifestError::Field(_))),
                "{manifest:?}"
            );
        }
    }

    #[test]
    fn a_file_with_another_length_or_byte_is_refused() {
        let manifest = verify(&payload().to_canonical(), Kind::Payload).unwrap();
        assert!(manifest.verify_file("kernel", b"kernel").is_ok());
        assert!(matches!(
            manifest.verify_file("kernel", b"kernel2"),
            Err(FileError::Size { .. })
        ));
        assert!(matches!(
            manifest.verify_file("kernel", b"kerneL"),
            Err(FileError::Digest { .. })
        ));
        assert!(matches!(
            manifest.verify_file("other", b""),
            Err(FileError::Unknown(_))
        ));
    }

    proptest! {
        #[test]
        fn any_signed_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(verify(&bytes, Kind::Payload).is_err());
        }
    }
}
