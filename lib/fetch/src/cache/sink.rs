// SPDX-License-Identifier: Apache-2.0
//! Where chunks go as they come: held in memory while nobody has vouched for anything, kept once a verified manifest names them.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{Digest, manifest::MAX_CHUNK_SIZE};

use super::{
    ArriveError, Cache, NotCached,
    assemble::{Beside, InMemory, Place as InImage},
};
use crate::{
    chunk::sha256,
    disk::{Disk, folder},
    pack::{Kind as Object, Objects, Place},
    rack::Snapshot,
    remote::RemoteError,
    tree,
};

/// How a zstd frame begins (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Before the manifest is verified: what looks like a chunk is held in memory up to a bound, and nothing is written.
pub(super) struct Hold<'a, D> {
    cache: &'a Cache<D>,
    bases: Vec<Arc<Objects>>,
    /// Chunks of the commits that the server was told of: deltas may build on them.
    names: HashMap<ObjectId, Digest>,
    held: InMemory,
    bytes: usize,
    most: usize,
}

impl<'a, D: Disk> Hold<'a, D> {
    /// Holds at most `most` bytes and one chunk.
    pub(super) fn new(cache: &'a Cache<D>, bases: &[Snapshot], most: usize) -> Self {
        Self {
            cache,
            bases: bases.iter().map(Snapshot::objects).collect(),
            names: chunks_by_name(bases),
            held: InMemory::new(),
            bytes: 0,
            most,
        }
    }

    pub(super) fn into_held(self) -> InMemory {
        self.held
    }
}

impl<D: Disk> Place for Hold<'_, D> {
    fn base(&mut self, id: &ObjectId) -> Option<(Object, Vec<u8>)> {
        if let Some(object) = self.bases.iter().find_map(|objects| objects.get(id)) {
            return Some(object.clone());
        }
        let path = self.cache.chunk_path(*self.names.get(id)?);
        let bytes = self.cache.disk.read(&path, MAX_CHUNK_SIZE.into()).ok()?;
        Some((Object::Blob, bytes))
    }

    fn take(&mut self, blob: &[u8]) -> io::Result<Option<Digest>> {
        if !blob.starts_with(&ZSTD) {
            return Ok(None);
        }
        let digest = sha256(blob);
        if self.held.insert(digest, blob.to_vec()).is_none() {
            self.bytes += blob.len();
        }
        Ok(Some(digest))
    }

    fn taken(&mut self, digest: Digest) -> io::Result<Vec<u8>> {
        self.held
            .get(&digest)
            .cloned()
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn is_full(&self) -> bool {
        self.bytes > self.most
    }
}

/// Other objects than this that came in a chunk's place are not remembered by name.
const MAX_OTHERS: usize = 256;

/// Once the manifest is verified: chunks that it names are kept, all else is dropped.
pub(super) struct Keeper<'a, D> {
    cache: &'a Cache<D>,
    format: Format,
    /// Entries that must not make room.
    keep: &'a [Digest],
    /// The manifest's chunks and their sizes.
    named: HashMap<Digest, u32>,
    /// Whether chunks stay in memory, too: a payload is needed at once and must start even from a full disk.
    in_memory: bool,
    pub(super) beside: Beside,
    /// Chunks of the manifest that came.
    pub(super) came: usize,
    /// As many of these came as plain files.
    pub(super) came_beside: usize,
    /// What came that the manifest does not name, with the digest that its bytes have.
    pub(super) others: HashMap<ObjectId, Digest>,
    /// What the disk said first.
    pub(super) problem: Option<NotCached>,
}

impl<'a, D: Disk> Keeper<'a, D> {
    pub(super) fn new(
        cache: &'a Cache<D>,
        format: Format,
        keep: &'a [Digest],
        named: HashMap<Digest, u32>,
        images: HashMap<Digest, InImage>,
        in_memory: bool,
    ) -> Self {
        Self {
            cache,
            format,
            keep,
            named,
            in_memory,
            beside: Beside {
                memory: InMemory::new(),
                images,
            },
            came: 0,
            came_beside: 0,
            others: HashMap::new(),
            problem: None,
        }
    }

    /// Keeps a chunk that the manifest names, and notes any other.
    pub(super) fn keep(&mut self, digest: Digest, bytes: Vec<u8>) -> io::Result<()> {
        if self.named.get(&digest) != u32::try_from(bytes.len()).ok().as_ref() {
            if self.others.len() < MAX_OTHERS
                && let Ok(id) = gix_object::compute_hash(self.format, Object::Blob, &bytes)
            {
                self.others.insert(id, digest);
            }
            return Ok(());
        }
        self.came += 1;
        if self.problem.is_none()
            && let Err(problem) = self.write(digest, &bytes)
        {
            self.problem = Some(problem);
            if !self.in_memory {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if self.in_memory {
            self.beside.memory.insert(digest, bytes);
        }
        Ok(())
    }

    /// Writes a chunk; where the disk is full, what need not be kept makes room.
    fn write(&self, digest: Digest, bytes: &[u8]) -> Result<(), NotCached> {
        let path = self.cache.chunk_path(digest);
        let written = self.write_at(&path, bytes).or_else(|error| {
            match is_full(&error) && self.cache.make_room(self.keep).is_ok() {
                true => self.write_at(&path, bytes),
                false => Err(error),
            }
        });
        written.map_err(|source| NotCached { path, source })?;
        self.cache.doubted.borrow_mut().remove(&digest);
        Ok(())
    }

    fn write_at(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let disk = &self.cache.disk;
        // A good chunk that is here already may be part of an entry that counts: it is never written over. A damaged one is.
        let before = disk.read(path, MAX_CHUNK_SIZE.into());
        if before.is_ok_and(|before| before == bytes) {
            return Ok(());
        }
        disk.create_folder(folder(path))?;
        let written = disk.create(path).and_then(|mut file| file.write_all(bytes));
        if written.is_err() {
            let _ = disk.remove(path);
        }
        written
    }

    /// A server's error, unless it was our disk.
    pub(super) fn problem_or(&mut self, error: RemoteError) -> ArriveError {
        self.problem
            .take()
            .map_or(ArriveError::Remote(error), ArriveError::Disk)
    }
}

/// Whether room would help.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl<D: Disk> Place for Keeper<'_, D> {
    fn base(&mut self, _: &ObjectId) -> Option<(Object, Vec<u8>)> {
        None
    }

    fn take(&mut self, blob: &[u8]) -> io::Result<Option<Digest>> {
        // Whatever it looks like: its digest decides.
        let digest = sha256(blob);
        self.keep(digest, blob.to_vec())?;
        Ok(Some(digest))
    }

    fn taken(&mut self, digest: Digest) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.beside.memory.get(&digest) {
            return Ok(bytes.clone());
        }
        let path = self.cache.chunk_path(digest);
        self.cache.disk.read(&path, MAX_CHUNK_SIZE.into())
    }
}

/// Which chunk of the cache a Git object is, by the trees of the commits that are here.
fn chunks_by_name(bases: &[Snapshot]) -> HashMap<ObjectId, Digest> {
    let mut chunks = HashMap::new();
    for basis in bases {
        for (id, (kind, bytes)) in basis.objects().iter() {
            if *kind == Object::Tree
                && let Ok(entries) = tree::parse(*id, bytes, "", basis.format())
            {
                let named = entries
                    .into_iter()
                    .filter_map(|entry| Some((entry.id, entry.name.parse().ok()?)));
                chunks.extend(named);
            }
        }
    }
    chunks
}
