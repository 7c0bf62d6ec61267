// SPDX-License-Identifier: Apache-2.0
//! Fetches what a rack repository pins, telling the server what is here already.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{
    Digest, Manifest, TrustRoot, Verified,
    manifest::{Chunk, Kind, ManifestError},
};

use super::{
    Cache, MAX_SIGNATURE, MAX_SIGNATURES,
    assemble::{AssembleError, InMemory, PayloadFiles},
};
use crate::{
    chunk::sha256,
    disk::{Disk, folder},
    limits::Limits,
    pack::{Kind as Object, Objects, Place},
    progress::Progress,
    publish,
    rack::{Snapshot, TreeError, ours},
    remote::{Remote, RemoteError, Want},
    tree::{self, Layers},
};

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
    /// Chunks that came.
    pub new_chunks: usize,
    /// Chunks of the manifest that were here.
    pub reused_chunks: usize,
}

/// A payload or artifact that came and was verified to the last byte.
#[derive(Debug)]
pub struct Arrived {
    /// What its signatures vouch for. Whether it is for this machine, [`Verified::accept`] says.
    pub manifest: Verified<Manifest>,
    /// The files of a payload, in the manifest's order. Empty for an artifact: see [`Cache::rootfs`].
    pub files: PayloadFiles,
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
    /// Whether asking again for everything may help: something that the server was told is here is not.
    fn is_a_gap(&self) -> bool {
        matches!(
            self,
            Self::Assemble(
                AssembleError::Missing(_) | AssembleError::Altered { .. } | AssembleError::Chunk(_)
            ) | Self::Tree {
                error: TreeError::Missing(_),
                ..
            } | Self::Remote(RemoteError::Pack(_))
        )
    }
}

impl<D: Disk> Cache<D> {
    /// Fetches what `pin` names, verifies it under `root` and caches it. When space runs out, entries that are not in `keep` make room.
    ///
    /// # Errors
    /// [`ArriveError`] with the reason; what is cached stays.
    pub fn fetch(
        &self,
        remote: &mut Remote,
        pin: &Pin,
        root: &Verified<TrustRoot>,
        keep: &[Digest],
        limits: &Limits,
        progress: &mut dyn Progress,
    ) -> Result<Arrived, ArriveError> {
        let (received, sent) = (remote.received(), remote.sent());
        let branch = format!("refs/heads/{}/{}", pin.kind, pin.name);
        let by_digest = publish::manifest_ref(pin.manifest);
        let refs = remote.list(&[&by_digest, &branch], limits)?;
        let named = |name: &str| {
            refs.iter()
                .find(|r| r.name == name)
                .map(|r| (name.to_owned(), r.id))
        };
        let (branch, tip) = named(&by_digest)
            .or_else(|| named(&branch))
            .ok_or(ArriveError::NoBranch(branch))?;
        let format = remote.format()?;
        let mut fetch = Fetch {
            cache: self,
            pin,
            root,
            keep,
            limits,
            branch,
            tip,
            format,
        };
        let mut bases = self.bases(pin.kind, &pin.name);
        bases.retain(|basis| basis.format() == format);
        let mut arrived = match fetch.attempt(remote, &bases, progress) {
            Err(error) if error.is_a_gap() && !bases.is_empty() => {
                fetch.attempt(remote, &[], progress)
            }
            other => other,
        };
        if let Ok(arrived) = &mut arrived {
            arrived.report.received = remote.received() - received;
            arrived.report.sent = remote.sent() - sent;
        } else {
            // Chunks that came for nothing; failing to remove them is not worth more than the error.
            let _ = self.remove_unused_chunks();
        }
        arrived
    }
}

/// What the tip's tree holds, chunks apart.
struct Tip {
    /// The pinned manifest's bytes.
    manifest: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    /// The tip's small objects.
    basis: Snapshot,
}

struct Fetch<'a, D> {
    cache: &'a Cache<D>,
    pin: &'a Pin,
    root: &'a Verified<TrustRoot>,
    keep: &'a [Digest],
    limits: &'a Limits,
    branch: String,
    tip: ObjectId,
    format: Format,
}

impl<D: Disk> Fetch<'_, D> {
    fn attempt(
        &mut self,
        remote: &mut Remote,
        bases: &[Snapshot],
        progress: &mut dyn Progress,
    ) -> Result<Arrived, ArriveError> {
        let mut sink = Sink {
            cache: self.cache,
            keep: self.keep,
            in_memory: self.pin.kind == Kind::Payload,
            memory: InMemory::new(),
            came: Vec::new(),
            bases: bases.iter().map(Snapshot::objects).collect(),
            chunks: chunks_by_name(bases),
            problem: None,
        };
        let mut layers = sink.bases.clone();
        let have: Vec<ObjectId> = bases.iter().map(Snapshot::head).collect();
        if !have.contains(&self.tip) {
            let want = Want {
                ids: &[self.tip],
                have: &have,
                depth: Some(1),
            };
            let fetched = remote.fetch(&want, self.limits, &mut sink, progress);
            layers.insert(
                0,
                Arc::new(fetched.map_err(|error| sink.problem_or(error))?),
            );
        }
        let source = Layers {
            layers,
            format: self.format,
        };
        let tip = self.read_tree(&source)?;
        let manifest = Manifest::verify(self.root, self.pin.kind, &tip.manifest, &tip.signatures)
            .map_err(|error| ArriveError::Manifest {
            digest: self.pin.manifest,
            error,
        })?;
        if manifest.name != self.pin.name {
            return Err(ArriveError::Name {
                found: manifest.name.clone(),
                expected: self.pin.name.clone(),
            });
        }
        let chunks = || manifest.files.iter().flat_map(|file| &file.chunks);
        let here =
            |chunk: &Chunk| sink.memory.contains_key(&chunk.sha256) || self.cache.has_chunk(chunk);
        if let Some(chunk) = chunks().find(|chunk| !here(chunk)) {
            return Err(self.gap(chunk.sha256, &tip, &source, &mut sink).into());
        }
        let report = Report {
            new_chunks: sink.came.len(),
            reused_chunks: chunks().count().saturating_sub(sink.came.len()),
            ..Report::default()
        };
        let (memory, problem) = (sink.memory, sink.problem);
        let files = match self.pin.kind {
            Kind::Payload => {
                self.cache
                    .files_with(&manifest, &memory, self.limits.inflated, progress)?
            }
            _ => Vec::new(),
        };
        let stored = match problem {
            Some(problem) => Err(problem),
            None => self.store(&manifest, &tip, &memory, progress)?,
        };
        let not_cached = stored.err();
        if not_cached.is_some() {
            let _ = self
                .cache
                .remove_entry(&self.cache.entry(self.pin.kind, self.pin.manifest));
            let _ = self.cache.remove_unused_chunks();
        }
        match not_cached {
            Some(problem) if self.pin.kind == Kind::Artifact => Err(problem.into()),
            not_cached => Ok(Arrived {
                manifest,
                files,
                report,
                not_cached,
            }),
        }
    }

    /// Why a chunk is not here: it did not come, or what came in its place has another digest.
    fn gap(
        &self,
        chunk: Digest,
        tip: &Tip,
        source: &Layers,
        sink: &mut Sink<'_, D>,
    ) -> AssembleError {
        let names = chunks_by_name(std::slice::from_ref(&tip.basis));
        let Some((id, _)) = names.into_iter().find(|(_, named)| *named == chunk) else {
            return AssembleError::Missing(chunk);
        };
        // What does not begin like a chunk is kept among the other objects.
        let kept = source.layers.iter().find_map(|layer| layer.get(&id));
        let found = kept.map(|(_, bytes)| sha256(bytes)).or_else(|| {
            let came = sink.came.clone();
            came.into_iter().find(|digest| {
                sink.taken(*digest).is_ok_and(|bytes| {
                    gix_object::compute_hash(self.format, Object::Blob, &bytes)
                        .is_ok_and(|named| named == id)
                })
            })
        });
        match found {
            Some(found) => AssembleError::Altered { chunk, found },
            None => AssembleError::Missing(chunk),
        }
    }

    /// Reads the tip's tree as far as it is needed.
    fn read_tree(&self, source: &Layers) -> Result<Tip, ArriveError> {
        let commit = ours(&self.tip);
        let tree_error = |error| ArriveError::Tree { commit, error };
        let read = |id, kind| tree::object(source, id, kind).map_err(tree_error);
        let entries = |id, path| {
            tree::parse(id, &read(id, Object::Tree)?, path, self.format).map_err(tree_error)
        };
        let mut small = Objects::new();
        small.insert(self.tip, (Object::Commit, read(self.tip, Object::Commit)?));
        let top = tree::of_commit(source, self.tip).map_err(tree_error)?;
        small.insert(top, (Object::Tree, read(top, Object::Tree)?));
        let top = entries(top, "")?;
        let find = |name: &str, folder| {
            top.iter()
                .find(|entry| entry.name == name && entry.folder == folder)
        };
        let no = |path| ArriveError::NoFile { commit, path };
        let manifest_id = find(publish::MANIFEST_PATH, false)
            .ok_or_else(|| no("manifest.json"))?
            .id;
        let manifest = read(manifest_id, Object::Blob)?;
        let found = sha256(&manifest);
        if found != self.pin.manifest {
            let claim = Manifest::parse_unverified(&manifest).ok();
            return Err(ArriveError::NotPinned(Box::new(NotPinned {
                branch: self.branch.clone(),
                commit,
                pinned: self.pin.manifest,
                found,
                found_version: claim.map(|manifest| manifest.version),
            })));
        }
        small.insert(manifest_id, (Object::Blob, manifest.clone()));
        let folder = find("signatures", true).ok_or_else(|| no("signatures"))?.id;
        small.insert(folder, (Object::Tree, read(folder, Object::Tree)?));
        let mut signatures = Vec::new();
        for entry in entries(folder, "signatures/")? {
            if entry.folder || !entry.name.ends_with(".sig") || signatures.len() == MAX_SIGNATURES {
                continue;
            }
            let bytes = read(entry.id, Object::Blob)?;
            if bytes.len() as u64 <= MAX_SIGNATURE {
                small.insert(entry.id, (Object::Blob, bytes.clone()));
                signatures.push(bytes);
            }
        }
        if let Some(folder) = find("chunks", true) {
            small.insert(folder.id, (Object::Tree, read(folder.id, Object::Tree)?));
            for entry in entries(folder.id, "chunks/")?
                .into_iter()
                .filter(|entry| entry.folder)
            {
                entries(entry.id, "chunks/")?;
                small.insert(entry.id, (Object::Tree, read(entry.id, Object::Tree)?));
            }
        }
        Ok(Tip {
            manifest,
            signatures,
            basis: Snapshot::new(self.format, self.tip, 0, Vec::new(), small),
        })
    }

    /// Writes the entry; it counts from the moment `complete` is there. The outer error is a refusal, the inner one a failing disk.
    fn store(
        &self,
        manifest: &Verified<Manifest>,
        tip: &Tip,
        memory: &InMemory,
        progress: &mut dyn Progress,
    ) -> Result<Result<(), NotCached>, ArriveError> {
        let entry = self.cache.entry(self.pin.kind, self.pin.manifest);
        if let (Kind::Artifact, Some(file)) = (self.pin.kind, manifest.file("rootfs")) {
            let rootfs = self.cache.rootfs(self.pin.manifest);
            let assembled = self
                .cache
                .disk
                .create_folder(&entry)
                .map_err(|error| AssembleError::Disk(entry.clone(), error))
                .and_then(|()| self.cache.on_disk(file, &rootfs, memory, progress));
            match assembled {
                Ok(()) => {}
                Err(AssembleError::Disk(path, source)) => {
                    return Ok(Err(NotCached { path, source }));
                }
                Err(error) => {
                    let _ = self.cache.remove_entry(&entry);
                    return Err(error.into());
                }
            }
        }
        let complete = entry.join("complete");
        let disk = &self.cache.disk;
        let write = |path: &Path, bytes: &[u8]| {
            disk.create(path).and_then(|mut file| file.write_all(bytes))
        };
        let written = (|| {
            disk.create_folder(&entry.join("signatures"))?;
            write(&entry.join("manifest.json"), &tip.manifest)?;
            for (n, signature) in tip.signatures.iter().enumerate() {
                write(&entry.join(publish::signature_path(n)), signature)?;
            }
            write(&entry.join("basis"), &tip.basis.encode())?;
            disk.sync_all(&entry)?;
            disk.create(&complete)?.sync()?;
            disk.sync_folder(&entry)?;
            disk.sync_folder(folder(&entry))
        })();
        Ok(written.map_err(|source| NotCached {
            path: entry,
            source,
        }))
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

/// Where chunks go as they come.
struct Sink<'a, D> {
    cache: &'a Cache<D>,
    keep: &'a [Digest],
    /// Whether chunks stay in memory, too: a payload is needed at once and must start even from a full disk.
    in_memory: bool,
    memory: InMemory,
    /// Chunks that came, by the digests that their bytes have.
    came: Vec<Digest>,
    bases: Vec<Arc<Objects>>,
    chunks: HashMap<ObjectId, Digest>,
    problem: Option<NotCached>,
}

impl<D: Disk> Sink<'_, D> {
    fn write(&mut self, path: &Path, blob: &[u8]) -> io::Result<()> {
        // A chunk that is here already may be part of an entry that counts: it is never written over.
        if self
            .cache
            .disk
            .size(path)
            .is_ok_and(|size| size == blob.len() as u64)
        {
            return Ok(());
        }
        self.cache.disk.create_folder(folder(path))?;
        let written = self
            .cache
            .disk
            .create(path)
            .and_then(|mut file| file.write_all(blob));
        if written.is_err() {
            let _ = self.cache.disk.remove(path);
        }
        written
    }

    /// A server's error, unless it was our disk.
    fn problem_or(&mut self, error: RemoteError) -> ArriveError {
        self.problem
            .take()
            .map_or(ArriveError::Remote(error), ArriveError::Disk)
    }
}

/// How a zstd frame begins (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl<D: Disk> Place for Sink<'_, D> {
    fn base(&mut self, id: &ObjectId) -> Option<(Object, Vec<u8>)> {
        if let Some(object) = self.bases.iter().find_map(|objects| objects.get(id)) {
            return Some(object.clone());
        }
        let digest = *self.chunks.get(id)?;
        Some((Object::Blob, self.taken(digest).ok()?))
    }

    fn take(&mut self, blob: &[u8]) -> io::Result<Option<Digest>> {
        if !blob.starts_with(&ZSTD) {
            return Ok(None);
        }
        let digest = sha256(blob);
        self.came.push(digest);
        let path = self.cache.chunk_path(digest);
        if self.problem.is_none()
            && let Err(error) = self.write(&path, blob)
        {
            let full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
            let again = match full && self.cache.make_room(self.keep).is_ok() {
                true => self.write(&path, blob),
                false => Err(error),
            };
            if let Err(source) = again {
                self.problem = Some(NotCached { path, source });
                if !self.in_memory {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
        }
        if self.in_memory {
            self.memory.insert(digest, blob.to_vec());
        }
        Ok(Some(digest))
    }

    fn taken(&mut self, digest: Digest) -> io::Result<Vec<u8>> {
        match self.memory.get(&digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => self.cache.disk.read(
                &self.cache.chunk_path(digest),
                u64::from(racklet_trust::manifest::MAX_CHUNK_SIZE),
            ),
        }
    }
}
