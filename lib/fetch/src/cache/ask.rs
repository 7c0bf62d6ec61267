// SPDX-License-Identifier: Apache-2.0
//! Asks for the chunks of a verified manifest that are not here, some at once.

use std::collections::{BTreeMap, HashSet};

use gix_hash::ObjectId;
use racklet_trust::{
    Digest, Manifest,
    manifest::{Chunk, MAX_CHUNK_SIZE},
};

use super::{
    ArriveError, AssembleError,
    bring::Fetch,
    chunks,
    sink::Keeper,
    tip::{Tip, Way},
};
use crate::{
    beside::Files,
    chunk::sha256,
    disk::Disk,
    limits::Limits,
    pack::{Objects, PackError},
    progress::{Phase, Progress},
    remote::{Remote, RemoteError, Want},
    tree::Layers,
};

/// Bytes of chunks asked for at once. Git looks for deltas among them before the first byte leaves: 0.86 s of processor time were measured
/// for 64 chunks, 15.6 MB, out of two packs, so that a server that is ten times slower begins after nine seconds.
const BATCH: u64 = 16 << 20;
/// Chunks asked for at once: a request of 75 KB. Servers in front of Git take 1 MB unless told otherwise (nginx).
const BATCH_OF_CHUNKS: usize = 1000;
/// Folders of chunks asked for at once: a sixteenth of all, so that a fetch that is cut goes on not far from there.
const BATCH_OF_FOLDERS: usize = 16;
/// The most that a folder holds beside what is missing in it: a 256th of the largest artifact, and half as much again.
const MAX_FOLDER: u64 = 48 << 20;

impl<D: Disk> Fetch<'_, D> {
    /// Asks for the chunks of the manifest that are not here.
    pub(super) fn bring(
        &self,
        remote: &mut Remote,
        manifest: &Manifest,
        tip: &mut Tip,
        source: &Layers,
        keeper: &mut Keeper<'_, D>,
        progress: &mut dyn Progress,
    ) -> Result<(), ArriveError> {
        self.bring_beside(remote, manifest, keeper, progress)?;
        // Twice: of a folder that nobody knew, some chunks may still be missing once it is known.
        for _ in 0..2 {
            let wanted = self.wanted(manifest, tip, source, keeper)?;
            let wanted: Vec<(Way, u64)> = wanted.into_iter().collect();
            for batch in batches(&wanted) {
                let came = self.ask(remote, batch, keeper, progress)?;
                tip.learn(&came)?;
            }
        }
        // Says what came in place of a chunk.
        self.wanted(manifest, tip, source, keeper)?;
        match chunks(manifest).find(|chunk| !self.is_here(chunk, keeper)) {
            Some(chunk) => Err(AssembleError::Missing(chunk.sha256).into()),
            None => Ok(()),
        }
    }

    /// Takes what lies beside the repository as plain files.
    fn bring_beside(
        &self,
        remote: &mut Remote,
        manifest: &Manifest,
        keeper: &mut Keeper<'_, D>,
        progress: &mut dyn Progress,
    ) -> Result<(), ArriveError> {
        let Some(mut files) = remote.beside().and_then(Files::fetching) else {
            return Ok(());
        };
        for chunk in chunks(manifest) {
            if self.is_here(chunk, keeper) {
                continue;
            }
            let came = files.chunk(chunk).map_err(RemoteError::Http)?;
            let Some(bytes) = came else {
                continue;
            };
            progress.report(Phase::Receiving, files.bytes());
            let kept = keeper.keep(chunk.sha256, bytes);
            kept.map_err(|error| keeper.problem_or(PackError::Store(error).into()))?;
            keeper.came_beside += 1;
        }
        Ok(())
    }

    /// How to ask for what is missing, and how many bytes that brings. An error where asking again makes no sense.
    fn wanted(
        &self,
        manifest: &Manifest,
        tip: &Tip,
        source: &Layers,
        keeper: &Keeper<'_, D>,
    ) -> Result<BTreeMap<Way, u64>, AssembleError> {
        let mut wanted = BTreeMap::new();
        let mut seen = HashSet::new();
        for chunk in chunks(manifest) {
            if !seen.insert(chunk.sha256) || self.is_here(chunk, keeper) {
                continue;
            }
            let missing = AssembleError::Missing(chunk.sha256);
            let way = tip.way(chunk.sha256).ok_or(missing)?;
            if let Way::Chunk(id) = way {
                // What came under that name before comes again.
                let kept = source.layers.iter().find_map(|layer| layer.get(&id));
                altered(chunk, kept.map(|(_, bytes)| sha256(bytes)))?;
                altered(chunk, keeper.others.get(&id).copied())?;
            }
            *wanted.entry(way).or_default() += u64::from(chunk.size);
        }
        Ok(wanted)
    }

    /// One pack with what `batch` names.
    fn ask(
        &self,
        remote: &mut Remote,
        batch: &[(Way, u64)],
        keeper: &mut Keeper<'_, D>,
        progress: &mut dyn Progress,
    ) -> Result<Objects, ArriveError> {
        let ids: Vec<ObjectId> = batch
            .iter()
            .map(|(Way::Chunk(id) | Way::Folder(id), _)| *id)
            .collect();
        let sizes: u64 = batch.iter().map(|(_, size)| size).sum();
        let folders = batch
            .iter()
            .filter(|(way, _)| matches!(way, Way::Folder(_)))
            .count() as u64;
        // Of a folder some chunks may be here, and come all the same: as many again as the largest folders of a payload or
        // artifact have.
        let most = 2 * sizes + folders * MAX_FOLDER + (1 << 20);
        let limits = Limits {
            response: self.limits.response.min(most),
            object: MAX_CHUNK_SIZE.into(),
            // Each chunk, and each perhaps as a delta.
            inflated: self.limits.inflated.min(2 * most),
            ..self.limits.clone()
        };
        let want = Want {
            ids: &ids,
            have: &[],
            depth: None,
        };
        remote
            .fetch(&want, &limits, keeper, progress)
            .map_err(|error| keeper.problem_or(error))
    }

    fn is_here(&self, chunk: &Chunk, keeper: &Keeper<'_, D>) -> bool {
        self.cache.has(chunk, &keeper.beside)
    }
}

/// What is asked for at once: one kind of ways, not too many of them, and not too much.
fn batches(mut wanted: &[(Way, u64)]) -> impl Iterator<Item = &[(Way, u64)]> {
    std::iter::from_fn(move || {
        let is_chunk = |way: &Way| matches!(way, Way::Chunk(_));
        let first = is_chunk(&wanted.first()?.0);
        let most = if first {
            BATCH_OF_CHUNKS
        } else {
            BATCH_OF_FOLDERS
        };
        let mut bytes = 0;
        let fits = |(way, size): &&(Way, u64)| {
            let fits = is_chunk(way) == first && bytes < BATCH;
            bytes += size;
            fits
        };
        let count = wanted.iter().take(most).take_while(fits).count();
        let (batch, rest) = wanted.split_at(count);
        wanted = rest;
        Some(batch)
    })
}

/// An error where something came for a chunk that is not it.
fn altered(chunk: &Chunk, found: Option<Digest>) -> Result<(), AssembleError> {
    match found {
        Some(found) if found != chunk.sha256 => Err(AssembleError::Altered {
            chunk: chunk.sha256,
            found,
        }),
        _ => Ok(()),
    }
}
