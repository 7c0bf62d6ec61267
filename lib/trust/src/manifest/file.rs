// SPDX-License-Identifier: Apache-2.0
//! The files of a manifest, in chunks, and the proof that bytes are one of them.

use alloc::{format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{Kind, MAX_CHUNK_LENGTH, MAX_CHUNK_SIZE, MAX_NAME, Manifest};
use crate::{Digest, Verified};

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
    /// Of the root file system of an artifact, which Linux verifies by it whenever it reads a block (fs-verity: SHA-256, blocks of 4096
    /// bytes, no salt); no other file has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verity: Option<Digest>,
    /// In order.
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

/// Why a file is not the one that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The manifest has no such file, or no digest of it that could be compared.
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
    /// The file system verifies it against another digest.
    #[error("{name} is under fs-verity digest {found}, not {expected}")]
    Verity {
        /// Which file.
        name: String,
        /// What every read of it is verified against.
        found: Digest,
        /// The manifest's.
        expected: Digest,
    },
}

impl File {
    pub(super) fn check_fields(&self, kind: Kind) -> Result<(), String> {
        if self.verity.is_some() != (kind == Kind::Artifact) {
            return Err(format!(
                "{}: the file of an artifact has a digest `verity`, and no other",
                self.name
            ));
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
        let bytes = contents.as_ref();
        let (size, digest) = (bytes.len() as u64, Digest::of(bytes));
        self.verify_measured(name, size, digest, contents)
    }

    /// The same for what no memory holds: `whole` is what the caller reads the file by, once it was read through and `size` and `sha256`
    /// of it were found. The caller answers for these two, and that the bytes do not change afterwards.
    ///
    /// # Errors
    /// [`FileError`] with what was found and what was expected.
    pub fn verify_measured<T>(
        &self,
        name: &str,
        size: u64,
        sha256: Digest,
        whole: T,
    ) -> Result<Verified<T>, FileError> {
        let file = self.file_of(name, size)?;
        if sha256 != file.sha256 {
            return Err(FileError::Digest {
                name: name.into(),
                found: sha256,
                expected: file.sha256,
            });
        }
        Ok(Verified::new(whole))
    }

    /// The same for a file of which every block is verified whenever it is read, by the fs-verity digest `measured` that the kernel names
    /// for it. The caller answers for `whole` being that very file.
    ///
    /// # Errors
    /// [`FileError`] with what was found and what was expected.
    pub fn verify_sealed<T>(
        &self,
        name: &str,
        size: u64,
        measured: Digest,
        whole: T,
    ) -> Result<Verified<T>, FileError> {
        let file = self.file_of(name, size)?;
        let expected = file.verity.ok_or_else(|| unknown(name))?;
        if measured != expected {
            return Err(FileError::Verity {
                name: name.into(),
                found: measured,
                expected,
            });
        }
        Ok(Verified::new(whole))
    }

    /// The file `name`, which must be of `size` bytes.
    fn file_of(&self, name: &str, size: u64) -> Result<&File, FileError> {
        let file = self.file(name).ok_or_else(|| unknown(name))?;
        match size == file.size {
            true => Ok(file),
            false => Err(FileError::Size {
                name: name.into(),
                found: size,
                expected: file.size,
            }),
        }
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
        let file = self.file(name).ok_or_else(|| unknown(name))?;
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

fn unknown(name: &str) -> FileError {
    FileError::Unknown(name.chars().take(MAX_NAME).collect())
}
