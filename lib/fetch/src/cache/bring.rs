// SPDX-License-Identifier: Apache-2.0
//! Fetches what a rack repository pins.
//!
//! ```text
//!   refs ──> commit, manifest, signatures, list ──verify──> chunks that are not here ──> files ──> entry
//!                                                           (asked for by name)
//! ```
//!
//! A manifest's own ref leads to a small commit with a list that says which Git object is which chunk. Those that are not here are asked
//! for by the object's name, which protocol version 2 allows (gitprotocol-v2: wants can be anything), some MiB at once: the server begins
//! soon, and what came of a fetch that is cut stays.
//!
//! Where there is only the package's branch, manifest and chunks are in one tree. Git packs a tree in the order of its names: chunks come
//! before the manifest. So the first pack is read until it ends or until as many chunks came as may be held; what is then still unknown
//! of manifest and signatures is asked for by name. Chunks that are not here then are asked for one by one where the pack named them, else
//! by folder. What the server is told is here keeps the first pack small.
//!
//! Either way nothing is written before the manifest is verified, and only chunks that it names are written then.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{
    Digest, Manifest, TrustRoot, Verified,
    manifest::{self, Kind},
};

use super::{
    ArriveError, Arrived, AssembleError, Cache, MAX_SIGNATURES, NotCached, NotPinned, PayloadFiles,
    Pin, Report, Rootfs,
    assemble::{Beside, InMemory},
    chunks, in_memory,
    sink::{Hold, Keeper, is_full},
    tip::{self, Tip},
};
use crate::{
    disk::{self, Disk, folder},
    limits::Limits,
    pack::{Nowhere, PackError},
    progress::Progress,
    publish,
    rack::{Snapshot, ours},
    remote::{Remote, Want},
    tree::Layers,
};

/// Chunks held before a manifest is verified, in bytes. A payload is needed in memory anyway: one of the size that is aimed at comes
/// in one pack. What is held is kept once the manifest vouches for it; a fetch that is cut before that gets it again.
const HOLD_PAYLOAD: usize = 24 << 20;
const HOLD_ARTIFACT: usize = 4 << 20;
/// Everything inflated before a manifest is verified, held chunks included.
const MAX_UNVERIFIED: u64 = 64 << 20;

impl<D: Disk> Cache<D> {
    /// Fetches what `pin` names, verifies it under `root` and caches it. When space runs out, entries that are not in `keep` make room.
    /// What came of a fetch that the network or its deadline cut is built upon by the next one.
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
        let names = [
            publish::manifest_ref(pin.manifest),
            publish::manifest_branch(pin.manifest),
            branch.clone(),
        ];
        let refs = remote.named(&names.each_ref().map(String::as_str), limits)?;
        let format = remote.format()?;
        // Room for what comes is not made at its own cost.
        let keep = [keep, &[pin.manifest]].concat();
        let mut arrived = None;
        for name in names {
            let Some(tip) = refs.iter().find(|r| r.name == name).map(|r| r.id) else {
                continue;
            };
            let fetch = Fetch {
                cache: self,
                pin,
                root,
                keep: &keep,
                limits,
                branch: name,
                tip,
                format,
            };
            let result = fetch.run(remote, progress);
            let goes_on = result.as_ref().is_err_and(ArriveError::is_of_one_ref);
            // What is wrong with the first is more to the point than that the branch has moved on.
            if arrived.is_none() || !goes_on {
                arrived = Some(result);
            }
            if !goes_on {
                break;
            }
        }
        match arrived.unwrap_or(Err(ArriveError::NoBranch(branch))) {
            Ok(mut arrived) => {
                arrived.report.received = remote.received() - received;
                arrived.report.sent = remote.sent() - sent;
                Ok(arrived)
            }
            // Chunks of a verified manifest: the next try goes on from here.
            Err(error @ ArriveError::Remote(_)) => Err(error),
            Err(error) => {
                // What came for nothing; failing to remove it is not worth more than the error.
                if !self.is_complete(pin.kind, pin.manifest) {
                    let _ = self.remove_entry(&self.entry(pin.kind, pin.manifest));
                }
                let _ = self.remove_unused_chunks();
                Err(error)
            }
        }
    }
}

/// What is known once the manifest is verified.
struct Learnt {
    manifest: Verified<Manifest>,
    tip: Tip,
    /// What looked like chunks and came on the way.
    held: InMemory,
    /// All else that came, and what was here of earlier commits.
    source: Layers,
}

pub(super) struct Fetch<'a, D> {
    pub(super) cache: &'a Cache<D>,
    pin: &'a Pin,
    root: &'a Verified<TrustRoot>,
    keep: &'a [Digest],
    pub(super) limits: &'a Limits,
    branch: String,
    tip: ObjectId,
    format: Format,
}

impl<D: Disk> Fetch<'_, D> {
    fn run(
        &self,
        remote: &mut Remote,
        progress: &mut dyn Progress,
    ) -> Result<Arrived, ArriveError> {
        let mut bases = self.cache.bases(self.pin.kind, &self.pin.name);
        bases.retain(|basis| basis.format() == self.format);
        let learnt = match self.learn(remote, &bases, progress) {
            Err(error) if error.is_a_gap() && !bases.is_empty() => {
                self.learn(remote, &[], progress)?
            }
            other => other?,
        };
        let Learnt {
            manifest,
            mut tip,
            held,
            source,
        } = learnt;
        tip.name(&manifest);
        // From now on chunks stay that came; a disk that does not take this takes no chunk either, and says so then.
        let _ = self.begin(&tip);
        let named = chunks(&manifest).map(|chunk| (chunk.sha256, chunk.size));
        let images = match self.pin.kind {
            Kind::Artifact => self.cache.images_with(&manifest),
            _ => HashMap::new(),
        };
        let mut keeper = Keeper::new(
            self.cache,
            self.format,
            self.keep,
            named.collect(),
            images,
            in_memory(self.pin.kind),
        );
        for (digest, bytes) in held {
            let kept = keeper.keep(digest, bytes);
            kept.map_err(|error| keeper.problem_or(PackError::Store(error).into()))?;
        }
        let (mut looked, mut made_room) = (false, false);
        let assembled = loop {
            self.bring(remote, &manifest, &mut tip, &source, &mut keeper, progress)?;
            match self.assemble(&manifest, &keeper.beside, progress) {
                // The image needs room beside its chunks.
                Err(AssembleError::Disk(_, error))
                    if !made_room && is_full(&error) && self.cache.make_room(self.keep).is_ok() =>
                {
                    made_room = true;
                }
                // Once: what is damaged after that is damaged in memory, or the manifest is wrong.
                Err(error)
                    if !looked
                        && self.cache.doubt_damaged(
                            &manifest,
                            &keeper.beside,
                            matches!(error, AssembleError::File(_)),
                        ) =>
                {
                    looked = true;
                }
                other => break other,
            }
        };
        let report = Report {
            new_chunks: keeper.came,
            plain_chunks: keeper.came_beside,
            reused_chunks: chunks(&manifest).count().saturating_sub(keeper.came),
            ..Report::default()
        };
        let ((files, rootfs), problem) = match assembled {
            Ok(files) => (files, keeper.problem),
            Err(AssembleError::Disk(path, source)) if !in_memory(self.pin.kind) => {
                (<_>::default(), Some(NotCached { path, source }))
            }
            Err(error) => {
                let _ = self.forget();
                return Err(error.into());
            }
        };
        let not_cached = match problem {
            Some(problem) => Some(problem),
            None => self.store(&tip).err(),
        };
        if not_cached.is_some() {
            let _ = self.forget();
        }
        // Those of an image have done their work, those of an entry that is not there are for nothing.
        if not_cached.is_some() || !in_memory(self.pin.kind) {
            let _ = self.cache.remove_unused_chunks();
        }
        match not_cached {
            Some(problem) if !in_memory(self.pin.kind) => Err(problem.into()),
            not_cached => Ok(Arrived {
                manifest,
                files,
                rootfs,
                report,
                not_cached,
            }),
        }
    }

    /// Removes what there is of the entry.
    fn forget(&self) -> io::Result<()> {
        let entry = self.cache.entry(self.pin.kind, self.pin.manifest);
        self.cache.remove_entry(&entry)
    }

    /// Commit, folders, manifest and signatures, verified.
    fn learn(
        &self,
        remote: &mut Remote,
        bases: &[Snapshot],
        progress: &mut dyn Progress,
    ) -> Result<Learnt, ArriveError> {
        let most = match self.pin.kind {
            Kind::Payload | Kind::Bootstrap => HOLD_PAYLOAD,
            Kind::Artifact => HOLD_ARTIFACT,
        };
        let limits = Limits {
            response: self.limits.response.min(2 * MAX_UNVERIFIED),
            object: manifest::MAX_SIZE as u64,
            inflated: self.limits.inflated.min(MAX_UNVERIFIED),
            ..self.limits.clone()
        };
        let mut hold = Hold::new(self.cache, bases, most);
        let mut source = Layers {
            layers: bases.iter().map(Snapshot::objects).collect(),
            format: self.format,
        };
        let have: Vec<ObjectId> = bases.iter().map(Snapshot::head).collect();
        if !have.contains(&self.tip) {
            let want = Want {
                ids: &[self.tip],
                have: &have,
                depth: Some(1),
            };
            let objects = remote.fetch(&want, &limits, &mut hold, progress)?;
            source.layers.insert(0, Arc::new(objects));
        }
        let unknown = tip::unknown(self.tip, &source).map_err(|error| ArriveError::Tree {
            commit: ours(&self.tip),
            error,
        })?;
        if !unknown.is_empty() {
            let want = Want {
                ids: &unknown,
                have: &[],
                depth: None,
            };
            let limits = Limits {
                objects: u32::try_from(MAX_SIGNATURES + 2).unwrap_or(u32::MAX),
                ..limits
            };
            let objects = remote.fetch(&want, &limits, &mut Nowhere, progress)?;
            source.layers.insert(0, Arc::new(objects));
        }
        let tip = Tip::read(self.tip, &source)?;
        if tip.manifest_digest != self.pin.manifest {
            let claim = Manifest::parse_unverified(&tip.manifest).ok();
            return Err(ArriveError::NotPinned(Box::new(NotPinned {
                branch: self.branch.clone(),
                commit: ours(&self.tip),
                pinned: self.pin.manifest,
                found: tip.manifest_digest,
                found_version: claim.map(|manifest| manifest.version),
            })));
        }
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
        let size: u64 = manifest.files.iter().map(|file| file.size).sum();
        if size > self.limits.inflated {
            return Err(ArriveError::Assemble(AssembleError::TooLarge {
                name: manifest.name.clone(),
                limit: self.limits.inflated,
            }));
        }
        Ok(Learnt {
            manifest,
            tip,
            held: hold.into_held(),
            source,
        })
    }

    /// Files for memory; an artifact's file in its entry, which does not count until it is stored.
    fn assemble(
        &self,
        manifest: &Verified<Manifest>,
        beside: &Beside,
        progress: &mut dyn Progress,
    ) -> Result<(PayloadFiles, Option<Verified<Rootfs>>), AssembleError> {
        if in_memory(self.pin.kind) {
            let limit = self.limits.inflated;
            let files = self.cache.files_with(manifest, beside, limit, progress)?;
            return Ok((files, None));
        }
        let entry = self.cache.entry(self.pin.kind, self.pin.manifest);
        let created = self.cache.disk.create_folder(&entry);
        created.map_err(|error| AssembleError::Disk(entry, error))?;
        let rootfs = self
            .cache
            .on_disk(self.pin.manifest, manifest, beside, progress)?;
        Ok((PayloadFiles::new(), Some(rootfs)))
    }

    /// Writes the manifest, so that its chunks stay whatever happens. The entry does not count yet.
    fn begin(&self, tip: &Tip) -> io::Result<()> {
        let (kind, digest) = (self.pin.kind, self.pin.manifest);
        if self.cache.manifest_bytes(kind, digest).is_ok() {
            return Ok(());
        }
        let entry = self.cache.entry(kind, digest);
        let disk = &self.cache.disk;
        disk.create_folder(&entry)?;
        disk::replace(disk, &entry.join("manifest.json"), &tip.manifest)?;
        disk.sync_folder(folder(&entry))
    }

    /// Writes the entry; it counts from the moment `complete` is there.
    fn store(&self, tip: &Tip) -> Result<(), NotCached> {
        let entry = self.cache.entry(self.pin.kind, self.pin.manifest);
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
            match tip.basis() {
                Some(basis) => write(&entry.join("basis"), &basis.encode())?,
                // The next fetch of this name begins anew.
                None => drop(disk.remove(&entry.join("basis"))),
            }
            disk.sync_all(&entry)?;
            disk.create(&complete)?.sync()?;
            disk.sync_folder(&entry)?;
            disk.sync_folder(folder(&entry))
        })();
        written.map_err(|source| NotCached {
            path: entry,
            source,
        })
    }
}
