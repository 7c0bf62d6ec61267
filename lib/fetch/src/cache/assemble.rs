// SPDX-License-Identifier: Apache-2.0
//! From verified chunks to verified files.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    rc::Rc,
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
    /// A sealed image of which [`Cache::probe_rootfs`] could not read everything.
    #[error("{0} has a block that is damaged or cannot be read")]
    Unreadable(PathBuf),
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

/// Where chunks of a manifest are found that are not files of the cache.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Those that came, as they came: verified, compressed.
    pub(super) memory: InMemory,
    /// Those that images of other packages, or of another version, are made of.
    pub(super) images: HashMap<Digest, Place>,
}

/// A piece of an image: what a chunk is once it is decompressed.
#[derive(Debug)]
pub(super) struct Place {
    image: Rc<Path>,
    offset: u64,
}

impl<D: Disk> Cache<D> {
    /// The bytes of a chunk that is a file. Those from disk are verified by [`chunk::open`]; those in memory were when they came.
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

    /// What a chunk is, decompressed, into `out`. What comes from an image is not verified here: the whole that is made of it is.
    fn open_chunk(
        &self,
        chunk: &Chunk,
        beside: &Beside,
        out: &mut [u8],
    ) -> Result<(), AssembleError> {
        if let Some(place) = self.place(chunk, beside) {
            let read = self.disk.read_at(&place.image, place.offset, out);
            return read.map_err(|error| AssembleError::Disk(place.image.to_path_buf(), error));
        }
        let bytes = self.compressed(chunk, &beside.memory)?;
        let opened = match &bytes {
            Cow::Borrowed(bytes) => chunk::open_verified(chunk.sha256, chunk.size, bytes, out),
            Cow::Owned(bytes) => chunk::open(chunk.sha256, chunk.size, bytes, out),
        };
        Ok(opened?)
    }

    /// Where a chunk is that only an image has.
    fn place<'b>(&self, chunk: &Chunk, beside: &'b Beside) -> Option<&'b Place> {
        let place = beside.images.get(&chunk.sha256)?;
        let elsewhere = beside.memory.contains_key(&chunk.sha256) || self.has_chunk(chunk);
        (!elsewhere && !self.is_doubted(chunk.sha256)).then_some(place)
    }

    /// Whether a chunk need not be fetched.
    pub(super) fn has(&self, chunk: &Chunk, beside: &Beside) -> bool {
        beside.memory.contains_key(&chunk.sha256)
            || self.has_chunk(chunk)
            || self.place(chunk, beside).is_some()
    }

    /// Which chunks of `manifest` are in images that are here. An image that was found to be another than its manifest says, and is not
    /// sealed, is left out: nobody knows which of its pieces are good.
    pub(super) fn images_with(&self, manifest: &Manifest) -> HashMap<Digest, Place> {
        let wanted: HashMap<Digest, u32> = super::chunks(manifest)
            .map(|chunk| (chunk.sha256, chunk.length))
            .collect();
        let mut found = HashMap::new();
        let names = self
            .disk
            .list(&self.folder.join(super::folder_of(Kind::Artifact)));
        for digest in names.unwrap_or_default() {
            let Ok(digest) = digest.parse() else { continue };
            let path = self.rootfs(digest);
            let Ok(size) = self.disk.size(&path) else {
                continue;
            };
            let bytes = self.manifest_bytes(Kind::Artifact, digest);
            let parsed = bytes.map(|bytes| Manifest::parse_unverified(&bytes));
            let Ok(Ok(other)) = parsed else { continue };
            let Some(file) = other.file(ROOTFS).filter(|file| file.size == size) else {
                continue;
            };
            let sealed = || self.disk.sealed(&path).is_ok_and(|it| it == file.verity);
            if self.is_doubted(digest) && !sealed() {
                continue;
            }
            let image: Rc<Path> = path.into();
            let mut offset = 0;
            for chunk in &file.chunks {
                if wanted.get(&chunk.sha256) == Some(&chunk.length) {
                    let image = Rc::clone(&image);
                    found.insert(chunk.sha256, Place { image, offset });
                }
                offset += u64::from(chunk.length);
            }
        }
        found
    }

    /// Reads every chunk of a manifest that is only on the disk, and doubts those that cannot be read or hold other bytes. Where all
    /// can be read and the whole was `another` than the manifest says, it doubts those that lie in images. Whether there are any.
    pub(super) fn doubt_damaged(
        &self,
        manifest: &Manifest,
        beside: &Beside,
        another: bool,
    ) -> bool {
        let mut any = false;
        let mut buffer = Vec::new();
        for chunk in super::chunks(manifest) {
            let good = if beside.memory.contains_key(&chunk.sha256) {
                true
            } else if let Some(place) = self.place(chunk, beside) {
                buffer.resize(chunk.length as usize, 0);
                let read = self.disk.read_at(&place.image, place.offset, &mut buffer);
                read.is_ok()
            } else {
                self.compressed(chunk, &beside.memory)
                    .is_ok_and(|bytes| chunk::check(chunk.sha256, chunk.size, &bytes).is_ok())
            };
            if !good {
                self.doubt(chunk.sha256);
                any = true;
            }
        }
        if !any && another {
            for chunk in super::chunks(manifest) {
                if self.place(chunk, beside).is_some() {
                    self.doubt(chunk.sha256);
                    any = true;
                }
            }
        }
        any
    }

    /// One file of a payload, in memory, with the proof that it is the one its manifest names.
    pub(super) fn in_memory(
        &self,
        manifest: &Verified<Manifest>,
        file: &File,
        beside: &Beside,
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
            self.open_chunk(chunk, beside, out)?;
            done += u64::from(chunk.length);
            progress.report(Phase::Assembling, done);
        }
        Ok(manifest.verify_file(&file.name, whole)?)
    }

    /// The root file system of an artifact, as a file in its entry: written beside the one that may be there, synced, sealed where the file
    /// system can, verified, and only then put in its place. Never more than one chunk is in memory.
    pub(super) fn on_disk(
        &self,
        manifest_digest: Digest,
        manifest: &Verified<Manifest>,
        beside: &Beside,
        progress: &mut dyn Progress,
    ) -> Result<Verified<Rootfs>, AssembleError> {
        let path = self.rootfs(manifest_digest);
        // The power went after it was put in its place.
        if !self.is_doubted(manifest_digest)
            && let Ok(rootfs) = self.verified(&path, path.clone(), manifest)
        {
            return Ok(rootfs);
        }
        let new = path.with_extension(NEW);
        let disk = |error| AssembleError::Disk(new.clone(), error);
        let mut out = self.disk.create(&new).map_err(disk)?;
        let mut buffer = Vec::new();
        let mut done = 0;
        for chunk in manifest.file(ROOTFS).iter().flat_map(|file| &file.chunks) {
            buffer.resize(chunk.length as usize, 0);
            self.open_chunk(chunk, beside, &mut buffer)?;
            out.write_all(&buffer).map_err(disk)?;
            done += u64::from(chunk.length);
            progress.report(Phase::Assembling, done);
        }
        out.sync().map_err(disk)?;
        drop(out);
        match self.disk.seal(&new) {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(disk(error)),
            _ => {}
        }
        let rootfs = self.verified(&new, path.clone(), manifest)?;
        self.disk.rename(&new, &path).map_err(disk)?;
        self.doubted.borrow_mut().remove(&manifest_digest);
        Ok(rootfs)
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
        beside: &Beside,
        limit: u64,
        progress: &mut dyn Progress,
    ) -> Result<PayloadFiles, AssembleError> {
        manifest
            .files
            .iter()
            .map(|file| {
                Ok((
                    file.name.clone(),
                    self.in_memory(manifest, file, beside, limit, progress)?,
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

    /// Holds the root file system of an artifact against its manifest. Of a sealed one nothing is read: the file system verifies each block
    /// when it is read, against the digest that it names. Any other is read to its last byte: bit rot, or an altered card.
    ///
    /// # Errors
    /// [`AssembleError`] with what was found. The file must not be used then.
    pub fn check_rootfs(
        &self,
        manifest_digest: Digest,
        manifest: &Verified<Manifest>,
    ) -> Result<Verified<Rootfs>, AssembleError> {
        let path = self.rootfs(manifest_digest);
        let sealed = || self.disk.sealed(&path).is_ok_and(|it| it.is_some());
        if self.is_doubted(manifest_digest) && sealed() {
            return Err(AssembleError::Unreadable(path));
        }
        let checked = self.verified(&path, path.clone(), manifest);
        checked.inspect_err(|_| self.doubt(manifest_digest))
    }

    /// Reads a sealed image through, after something could not be read of it. What the file system refuses counts as not here from now on,
    /// so that the next fetch brings it again; everything else is taken from the image. `Ok` when all of it can be read, and for an image
    /// that is not sealed: [`Self::check_rootfs`] reads it anyway.
    ///
    /// # Errors
    /// The file system's, for the first piece that it refuses.
    pub fn probe_rootfs(&self, manifest_digest: Digest) -> io::Result<()> {
        let path = self.rootfs(manifest_digest);
        if self.disk.sealed(&path)?.is_none() {
            return Ok(());
        }
        let read = self.disk.read_through(&path, &mut |_| {});
        read.inspect_err(|_| self.doubt(manifest_digest))
    }

    /// The proof for the file that lies `at` a place and will be at `path`.
    fn verified(
        &self,
        at: &Path,
        path: PathBuf,
        manifest: &Verified<Manifest>,
    ) -> Result<Verified<Rootfs>, AssembleError> {
        let disk = |error| AssembleError::Disk(at.to_owned(), error);
        let size = self.disk.size(at).map_err(disk)?;
        let rootfs = |sealed, read| Rootfs { path, sealed, read };
        if let Some(measured) = self.disk.sealed(at).map_err(disk)? {
            let rootfs = rootfs(Some(measured), 0);
            return Ok(manifest.verify_sealed(ROOTFS, size, measured, rootfs)?);
        }
        let mut digest = Context::new(&SHA256);
        // Nothing is read of a file that cannot be it.
        if manifest.file(ROOTFS).is_some_and(|file| file.size == size) {
            self.disk
                .read_through(at, &mut |bytes| digest.update(bytes))
                .map_err(disk)?;
        }
        let rootfs = rootfs(None, size);
        Ok(manifest.verify_measured(ROOTFS, size, found(digest), rootfs)?)
    }
}

/// The file of an artifact.
const ROOTFS: &str = "rootfs";
/// How the name of a file ends that is not whole yet.
pub(super) const NEW: &str = "new";

/// The root file system of an artifact, where it lies. Inside a [`Verified`] it was read to its last byte since this program started, or
/// each of its bytes is verified when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    path: PathBuf,
    sealed: Option<Digest>,
    read: u64,
}

impl Rootfs {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fs-verity digest that the file system verifies each block against; `None` where it does not, so that whoever changes the disk
    /// changes the file.
    #[must_use]
    pub fn sealed(&self) -> Option<Digest> {
        self.sealed
    }

    /// Bytes that were read and hashed to verify it.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }
}

/// The digest of everything that `digest` has seen.
fn found(digest: Context) -> Digest {
    let mut found = [0; 32];
    found.copy_from_slice(digest.finish().as_ref());
    racklet_trust::digest::Hex(found)
}
