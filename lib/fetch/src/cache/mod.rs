// SPDX-License-Identifier: Apache-2.0
//! Payloads, artifacts and bootstraps on the state partition.
//!
//! ```text
//!   chunks/<xx>/<sha256>                    compressed chunks of payloads and of images that are not whole yet, named by their digest,
//!                                           verified at every use
//!   payloads/<manifest-sha256>/             manifest.json, signatures/<n>.sig, basis, complete
//!   bootstraps/<manifest-sha256>/           the same
//!   artifacts/<manifest-sha256>/            the same, and rootfs.erofs
//! ```
//!
//! An entry counts from the moment its empty file `complete` is there, which is written after everything else has been synced. So a
//! power cut leaves an entry that counts or one that does not. One with a manifest that does not count yet was begun: its chunks stay for
//! the next try, over a restart too, until [`Cache::retain`] is called without it or room is needed. Nothing is written before a
//! manifest is verified, and then only what it names. `basis` holds the commit and its small objects, so that the
//! next fetch of the branch can tell the server what is here. Nothing read from here is believed: manifests are verified by their
//! signatures again, chunks and files by their digests.
//!
//! An image that is whole is kept once: its chunks are removed, and the next image takes the pieces that it has in common from it. What is
//! read from there need not be verified: the new image is, as a whole, and when it is another one, all its chunks are fetched. Where the
//! file system can, an image is sealed ([`Disk::seal`]): verified whenever it is read, and not at each start.

mod arrive;
mod ask;
mod assemble;
mod bring;
mod sink;
pub(crate) mod tip;

use std::{
    cell::RefCell,
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use racklet_trust::{
    Digest, Manifest, TrustRoot, Verified,
    manifest::{self, Kind, ManifestError},
};

use self::assemble::NEW;
pub use self::{
    arrive::{ArriveError, Arrived, NotCached, NotPinned, Pin, Report},
    assemble::{AssembleError, PayloadFiles, Rootfs},
};
use crate::{
    disk::{Disk, folder},
    rack::Snapshot,
};

/// The largest signature file, in bytes, and the most of them.
const MAX_SIGNATURE: u64 = 16 * 1024;
const MAX_SIGNATURES: usize = 64;
/// The largest basis: a manifest, signatures and trees.
const MAX_BASIS: u64 = 4 * manifest::MAX_SIZE as u64;

/// Why a cached entry is not used.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A file of it cannot be read.
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// Its manifest is another one: bit rot, or somebody else's hand.
    #[error("{path} has SHA-256 {found}, which is not its name")]
    OtherManifest {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Digest,
    },
    /// Its manifest is refused.
    #[error("{0} is refused")]
    Manifest(PathBuf, #[source] ManifestError),
}

/// The folder of what was verified.
#[derive(Debug)]
pub struct Cache<D> {
    disk: D,
    folder: PathBuf,
    /// Chunks and images (by their manifests) that are here by name and size, and were found damaged or unreadable. They do not count as here, and are not removed
    /// either: the next look may go well, and a disk that nobody can write must not keep them from being fetched.
    doubted: RefCell<HashSet<Digest>>,
}

/// One cached entry, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// SHA-256 of its manifest.
    pub digest: Digest,
    /// Its manifest, which nobody verified yet.
    pub manifest: Manifest,
}

fn folder_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Payload => "payloads",
        Kind::Artifact => "artifacts",
        Kind::Bootstrap => "bootstraps",
    }
}

/// The kinds that are cached.
const KINDS: [Kind; 3] = [Kind::Payload, Kind::Artifact, Kind::Bootstrap];

/// Whether files of this kind are used from memory: their chunks are the entry. That of an artifact is a file.
fn in_memory(kind: Kind) -> bool {
    kind != Kind::Artifact
}

impl<D: Disk> Cache<D> {
    /// The cache in `folder`, which another process keeps: nothing of it is removed or made by opening it.
    pub fn of_another(disk: D, folder: impl Into<PathBuf>) -> Self {
        Self {
            disk,
            folder: folder.into(),
            doubted: RefCell::default(),
        }
    }

    /// Opens the cache in `folder`, makes it if there is none, and removes what a power cut left: entries without a whole manifest, and
    /// chunks that no entry names.
    ///
    /// # Errors
    /// The file system's. What cannot be removed is none: it does not count.
    pub fn open(disk: D, folder: impl Into<PathBuf>) -> io::Result<Self> {
        let cache = Self::of_another(disk, folder);
        cache.disk.create_folder(&cache.folder.join("chunks"))?;
        for kind in KINDS {
            let entries = cache.folder.join(folder_of(kind));
            cache.disk.create_folder(&entries)?;
            for name in cache.disk.list(&entries)? {
                let entry = entries.join(&name);
                match name.parse() {
                    Ok(digest)
                        if cache.is_complete(kind, digest)
                            || cache.chunks_of(kind, digest).is_some() =>
                    {
                        let _ = cache.disk.remove(&cache.rootfs(digest).with_extension(NEW));
                    }
                    _ => drop(cache.disk.remove_all(&entry)),
                }
            }
        }
        let _ = cache.remove_unused_chunks();
        Ok(cache)
    }

    fn entry(&self, kind: Kind, digest: Digest) -> PathBuf {
        self.folder.join(folder_of(kind)).join(digest.to_string())
    }

    fn chunk_path(&self, digest: Digest) -> PathBuf {
        self.folder.join(crate::publish::chunk_path(digest))
    }

    fn is_complete(&self, kind: Kind, digest: Digest) -> bool {
        self.disk
            .size(&self.entry(kind, digest).join("complete"))
            .is_ok()
    }

    fn is_doubted(&self, digest: Digest) -> bool {
        self.doubted.borrow().contains(&digest)
    }

    fn has_chunk(&self, chunk: &manifest::Chunk) -> bool {
        !self.is_doubted(chunk.sha256)
            && self
                .disk
                .size(&self.chunk_path(chunk.sha256))
                .is_ok_and(|size| size == u64::from(chunk.size))
    }

    /// Whether every chunk of a payload is here, by name and size, and none was found damaged. Their bytes are verified whenever
    /// they are used.
    pub fn is_whole(&self, manifest: &Manifest) -> bool {
        chunks(manifest).all(|chunk| self.has_chunk(chunk))
    }

    /// From now on this chunk, or the image of this manifest, is not here, until it is written again.
    fn doubt(&self, digest: Digest) {
        self.doubted.borrow_mut().insert(digest);
    }

    /// The complete entries of `kind`, newest version first, as they say of themselves. What cannot be read is left out.
    ///
    /// # Errors
    /// The file system's.
    pub fn claims(&self, kind: Kind) -> io::Result<Vec<Claim>> {
        let entries = self.folder.join(folder_of(kind));
        let mut claims: Vec<Claim> = self
            .disk
            .list(&entries)?
            .into_iter()
            .filter_map(|name| {
                let digest = name
                    .parse()
                    .ok()
                    .filter(|&digest| self.is_complete(kind, digest))?;
                let bytes = self.manifest_bytes(kind, digest).ok()?;
                let manifest = Manifest::parse_unverified(&bytes).ok()?;
                Some(Claim { digest, manifest })
            })
            .collect();
        claims.sort_by(|a, b| {
            (b.manifest.version, b.manifest.created).cmp(&(a.manifest.version, a.manifest.created))
        });
        Ok(claims)
    }

    fn manifest_bytes(&self, kind: Kind, digest: Digest) -> Result<Vec<u8>, EntryError> {
        let path = self.entry(kind, digest).join("manifest.json");
        let bytes = match self.disk.read(&path, manifest::MAX_SIZE as u64) {
            Ok(bytes) => bytes,
            Err(error) => return Err(EntryError::Read(path, error)),
        };
        let found = crate::chunk::sha256(&bytes);
        if found != digest {
            return Err(EntryError::OtherManifest { path, found });
        }
        Ok(bytes)
    }

    /// The manifest of a complete entry, verified under `root` as it is today. `None` when there is no such entry.
    ///
    /// # Errors
    /// [`EntryError`] when there is one that cannot be believed.
    pub fn manifest(
        &self,
        kind: Kind,
        digest: Digest,
        root: &Verified<TrustRoot>,
    ) -> Result<Option<Verified<Manifest>>, EntryError> {
        if !self.is_complete(kind, digest) {
            return Ok(None);
        }
        let bytes = self.manifest_bytes(kind, digest)?;
        let signatures = self.signatures(kind, digest)?;
        let manifest = Manifest::verify(root, kind, &bytes, &signatures)
            .map_err(|error| EntryError::Manifest(self.entry(kind, digest), error))?;
        Ok(Some(manifest))
    }

    /// The signatures of an entry, as they lie there.
    ///
    /// # Errors
    /// [`EntryError`] when one cannot be read.
    pub fn signatures(&self, kind: Kind, digest: Digest) -> Result<Vec<Vec<u8>>, EntryError> {
        let folder = self.entry(kind, digest).join("signatures");
        let mut names = self
            .disk
            .list(&folder)
            .map_err(|error| EntryError::Read(folder.clone(), error))?;
        names.sort();
        names
            .into_iter()
            .take(MAX_SIGNATURES)
            .map(|name| {
                let path = folder.join(name);
                self.disk
                    .read(&path, MAX_SIGNATURE)
                    .map_err(|error| EntryError::Read(path, error))
            })
            .collect()
    }

    /// What the server may be told is here: of each complete entry of that name, the commit it came from. Chunks that are not here
    /// any more are asked for one by one.
    fn bases(&self, kind: Kind, name: &str) -> Vec<Snapshot> {
        let claims = self.claims(kind).unwrap_or_default();
        claims
            .iter()
            .filter(|claim| claim.manifest.name == name)
            .filter_map(|claim| {
                let bytes = self
                    .disk
                    .read(&self.entry(kind, claim.digest).join("basis"), MAX_BASIS)
                    .ok()?;
                Snapshot::decode(&bytes).ok()
            })
            .take(MAX_BASES)
            .collect()
    }

    /// Removes all entries but those of `keep` and the newest payload, then all chunks that no entry needs.
    ///
    /// # Errors
    /// The file system's. What was not removed is still good.
    pub fn retain(&self, keep: &[Digest]) -> io::Result<()> {
        self.make_room(keep)?;
        self.remove_unused_chunks()
    }

    /// As [`Self::retain`], while chunks of a new entry are coming: those removed are only the ones that removed entries needed.
    fn make_room(&self, keep: &[Digest]) -> io::Result<()> {
        let mut removed = HashSet::new();
        let newest = self
            .claims(Kind::Payload)?
            .first()
            .map(|claim| claim.digest);
        for kind in KINDS {
            let entries = self.folder.join(folder_of(kind));
            for name in self.disk.list(&entries)? {
                let kept = name
                    .parse()
                    .is_ok_and(|digest| keep.contains(&digest) || newest == Some(digest));
                if !kept {
                    removed.extend(
                        name.parse()
                            .ok()
                            .and_then(|digest| self.chunks_of(kind, digest))
                            .into_iter()
                            .flatten(),
                    );
                    self.remove_entry(&entries.join(name))?;
                }
            }
        }
        let used = self.used_chunks()?;
        for digest in removed.difference(&used) {
            match self.disk.remove(&self.chunk_path(*digest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn chunks_of(&self, kind: Kind, digest: Digest) -> Option<Vec<Digest>> {
        let manifest = Manifest::parse_unverified(&self.manifest_bytes(kind, digest).ok()?).ok()?;
        Some(chunks(&manifest).map(|chunk| chunk.sha256).collect())
    }

    /// From now on the entry does not count, until it is completed again.
    fn doubt_entry(&self, entry: &Path) -> io::Result<()> {
        match self.disk.remove(&entry.join("complete")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.disk.sync_folder(entry),
        }
    }

    /// Removes an entry so that at no time it counts while a part of it is gone.
    fn remove_entry(&self, entry: &Path) -> io::Result<()> {
        self.doubt_entry(entry)?;
        self.disk.remove_all(entry)?;
        self.disk.sync_folder(folder(entry))
    }

    /// The chunks that entries need, those that were begun included. A complete image needs none: it is made of them. An entry that counts
    /// and whose manifest cannot be read needs who knows which: that is an error. One that is damaged needs none.
    fn used_chunks(&self) -> io::Result<HashSet<Digest>> {
        let mut used = HashSet::new();
        for kind in KINDS {
            for name in self.disk.list(&self.folder.join(folder_of(kind)))? {
                let Ok(digest) = name.parse() else {
                    continue;
                };
                let counts = self.is_complete(kind, digest);
                if counts && kind == Kind::Artifact {
                    continue;
                }
                match self.manifest_bytes(kind, digest) {
                    Ok(bytes) => used.extend(
                        Manifest::parse_unverified(&bytes)
                            .iter()
                            .flat_map(chunks)
                            .map(|chunk| chunk.sha256),
                    ),
                    Err(EntryError::Read(_, error))
                        if counts && error.kind() != io::ErrorKind::NotFound =>
                    {
                        return Err(error);
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(used)
    }

    fn remove_unused_chunks(&self) -> io::Result<()> {
        let used = self.used_chunks()?;
        let chunks = self.folder.join("chunks");
        for prefix in self.disk.list(&chunks)? {
            for name in self.disk.list(&chunks.join(&prefix))? {
                if !name
                    .parse()
                    .is_ok_and(|digest: Digest| used.contains(&digest))
                {
                    let path = chunks.join(&prefix).join(&name);
                    self.disk.remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// All chunks that a manifest names, file by file.
fn chunks(manifest: &Manifest) -> impl Iterator<Item = &manifest::Chunk> {
    manifest.files.iter().flat_map(|file| &file.chunks)
}

/// More commits than this are not told to the server: each next one saves less.
const MAX_BASES: usize = 4;
