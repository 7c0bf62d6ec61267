// SPDX-License-Identifier: Apache-2.0
//! From verified chunks to verified files.

use std::{
    borrow::Cow,
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use racklet_trust::{
    Digest, Manifest, Verified,
    manifest::{Chunk, File, FileError, Kind},
};
use ring::digest::{Context, SHA256};

use super::Cache;
use crate::{
    chunk::{self, ChunkError},
    disk::Disk,
    progress::{Phase, Progress},
};

/// Why a file cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A chunk is neither in the cache nor came.
    #[error("chunk {0} is missing")]
    Missing(Digest),
    /// A chunk came and is not the one that its name promised.
    #[error("chunk {chunk} came with other bytes: they do not match its digest, theirs is {found}")]
    Altered {
        /// Which chunk, by its digest.
        chunk: Digest,
        /// The digest of what came in its place.
        found: Digest,
    },
    /// A chunk is not what the manifest says. If it was in the cache, it counts no more as being there.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// All chunks are right, the file is not: the manifest contradicts itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Reading a chunk or writing the file.
    #[error("{0} cannot be read or written")]
    Disk(PathBuf, #[source] io::Error),
    /// A file that no memory holds.
    #[error("{name} is larger than {limit} bytes")]
    TooLarge {
        /// Which file.
        name: String,
        /// Allowed.
        limit: u64,
    },
}

/// The files of a payload by name, each with the proof that it is the one its manifest names, in the manifest's order.
pub type PayloadFiles = Vec<(String, Verified<Vec<u8>>)>;

/// Chunks that were verified when they came.
pub(super) type InMemory = HashMap<Digest, Vec<u8>>;

impl<D: Disk> Cache<D> {
    /// The bytes of a chunk. Those from disk are verified by [`chunk::open`]; those in memory were when they came.
    fn compressed<'m>(
        &self,
        chunk: &Chunk,
        memory: &'m InMemory,
    ) -> Result<Cow<'m, [u8]>, AssembleError> {
        if let Some(bytes) = memory.get(&chunk.sha256) {
            return Ok(Cow::Borrowed(bytes));
        }
        let path = self.chunk_path(chunk.sha256);
        match self
            .disk
            .read(&path, u64::from(racklet_trust::manifest::MAX_CHUNK_SIZE))
        {
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(AssembleError::Missing(chunk.sha256))
            }
            Err(error) => Err(AssembleError::Disk(path, error)),
        }
    }

    fn open_chunk(
        &self,
        chunk: &Chunk,
        memory: &InMemory,
        out: &mut [u8],
    ) -> Result<(), AssembleError> {
        let bytes = self.compressed(chunk, memory)?;
        let opened = match &bytes {
            Cow::Borrowed(bytes) => chunk::open_verified(chunk.sha256, chunk.size, bytes, out),
            Cow::Owned(bytes) => chunk::open(chunk.sha256, chunk.size, bytes, out),
        };
        Ok(opened?)
    }

    /// Reads every chunk of a manifest that is only on the disk, and doubts those that cannot be read or hold other bytes. Whether
    /// there are any.
    pub(super) fn doubt_damaged(&self, manifest: &Manifest, memory: &InMemory) -> bool {
        let mut any = false;
        for chunk in super::chunks(manifest) {
            let good = memory.contains_key(&chunk.sha256)
                || self
                    .compressed(chunk, memory)
                    .is_ok_and(|bytes| chunk::check(chunk.sha256, chunk.size, &bytes).is_ok());
            if !good {
                self.doubt(chunk.sha256);
                any = true;
            }
        }
        any
    }

    /// One file of a payload, in memory, with the proof that it is the one its manifest names.
    pub(super) fn in_memory(
        &self,
        manifest: &Verified<Manifest>,
        file: &File,
        memory: &InMemory,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<Verified<Vec<u8>>, AssembleError> {
        let too_large = || AssembleError::TooLarge {
            name: file.name.clone(),
            limit,
        };
        let size = usize::try_from(file.size)
            .ok()
            .filter(|_| file.size <= limit)
            .ok_or_else(too_large)?;
        let mut whole = vec![0; size];
        let mut rest = &mut whole[..];
        let mut done = 0;
        for chunk in &file.chunks {
            // The manifest's own check: lengths add up to the size.
            let (out, after) = rest
                .split_at_mut_checked(chunk.length as usize)
                .ok_or_else(too_large)?;
            rest = after;
            self.open_chunk(chunk, memory, out)?;
            done += u64::from(chunk.length);
            progress.report(Phase::Assembling, done);
        }
        Ok(manifest.verify_file(&file.name, whole)?)
    }

    /// The root file system of an artifact, as a file in its entry, synced. Never more than one chunk is in memory.
    pub(super) fn on_disk(
        &self,
        manifest: &Verified<Manifest>,
        file: &File,
        path: &Path,
        memory: &InMemory,
        progress: &mut dyn Progress,
    ) -> Result<(), AssembleError> {
        let disk = |error| AssembleError::Disk(path.to_owned(), error);
        let mut out = self.disk.create(path).map_err(disk)?;
        let mut digest = Context::new(&SHA256);
        let mut buffer = Vec::new();
        let mut done = 0;
        for chunk in &file.chunks {
            buffer.resize(chunk.length as usize, 0);
            self.open_chunk(chunk, memory, &mut buffer)?;
            digest.update(&buffer);
            out.write_all(&buffer).map_err(disk)?;
            done += u64::from(chunk.length);
            progress.report(Phase::Assembling, done);
        }
        out.sync().map_err(disk)?;
        manifest.verify_measured(&file.name, done, found(digest), ())?;
        Ok(())
    }

    /// The files of a complete entry. Their chunks are verified; the digest of the whole was, before the entry was completed.
    ///
    /// # Errors
    /// [`AssembleError`]; a chunk that is damaged or cannot be read is not here any more, so that a fetch brings it again.
    pub fn files(
        &self,
        manifest: &Verified<Manifest>,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<PayloadFiles, AssembleError> {
        let mut files = PayloadFiles::new();
        for file in &manifest.files {
            if file.size > limit {
                return Err(AssembleError::TooLarge {
                    name: file.name.clone(),
                    limit,
                });
            }
            let mut done = 0;
            let read = |chunk: &Chunk| match self.compressed(chunk, &InMemory::new()) {
                Ok(bytes) => Ok(bytes.into_owned()),
                Err(error) => {
                    self.doubt(chunk.sha256);
                    Err(error)
                }
            };
            let open = |chunk: &Chunk, bytes: &[u8], out: &mut [u8]| {
                chunk::open_verified(chunk.sha256, chunk.size, bytes, out)?;
                done += u64::from(chunk.length);
                progress.report(Phase::Assembling, done);
                Ok(())
            };
            let whole = manifest
                .assemble(&file.name, read, open)
                .inspect_err(|error| {
                    if let AssembleError::File(FileError::Chunk { expected, .. }) = error {
                        self.doubt(*expected);
                    }
                })?;
            files.push((file.name.clone(), whole));
        }
        Ok(files)
    }

    pub(super) fn files_with(
        &self,
        manifest: &Verified<Manifest>,
        memory: &InMemory,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<PayloadFiles, AssembleError> {
        manifest
            .files
            .iter()
            .map(|file| {
                Ok((
                    file.name.clone(),
                    self.in_memory(manifest, file, memory, limit, progress)?,
                ))
            })
            .collect()
    }

    /// Where the root file system of a complete artifact is.
    #[must_use]
    pub fn rootfs(&self, manifest_digest: Digest) -> PathBuf {
        self.entry(Kind::Artifact, manifest_digest)
            .join("rootfs.erofs")
    }

    /// Reads the root file system of an artifact to its last byte and holds it against its manifest: bit rot, or an altered card.
    ///
    /// # Errors
    /// [`AssembleError`] with what was found. The file must not be used then.
    pub fn check_rootfs(
        &self,
        manifest_digest: Digest,
        manifest: &Verified<Manifest>,
    ) -> Result<Verified<Rootfs>, AssembleError> {
        let path = self.rootfs(manifest_digest);
        let disk = |error| AssembleError::Disk(path.clone(), error);
        let size = self.disk.size(&path).map_err(disk)?;
        let mut digest = Context::new(&SHA256);
        // Nothing is read of a file that cannot be it.
        if manifest
            .file("rootfs")
            .is_some_and(|file| file.size == size)
        {
            self.disk
                .read_through(&path, &mut |bytes| digest.update(bytes))
                .map_err(disk)?;
        }
        Ok(manifest.verify_measured("rootfs", size, found(digest), Rootfs { path })?)
    }
}

/// The root file system of an artifact, where it lies. Inside a [`Verified`] it was read to its last byte since this program started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    path: PathBuf,
}

impl Rootfs {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The digest of everything that `digest` has seen.
fn found(digest: Context) -> Digest {
    let mut found = [0; 32];
    found.copy_from_slice(digest.finish().as_ref());
    racklet_trust::digest::Hex(found)
}
