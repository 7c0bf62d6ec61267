// SPDX-License-Identifier: Apache-2.0
//! The tree of the commit that a pin leads to, as far as it is needed before a chunk is looked at. Nothing in it is believed.
//!
//! `chunks` in it is a folder with them, or a file that says which Git object is which chunk: that is all there is behind a
//! [`publish::manifest_ref`], so that nothing comes with it that is here.

use std::collections::HashMap;

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{Digest, Manifest};

use super::{ArriveError, MAX_SIGNATURE, MAX_SIGNATURES};
use crate::{
    chunk::sha256,
    pack::{Kind as Object, Objects},
    publish,
    rack::{Snapshot, TreeError, ours},
    remote,
    tree::{self, Layers},
};

const SIGNATURES: &str = "signatures";

fn is_signature(entry: &tree::Entry) -> bool {
    !entry.folder && entry.name.ends_with(".sig")
}

/// The tip's tree, chunks' contents apart.
pub(super) struct Tip {
    /// The manifest's bytes.
    pub(super) manifest: Vec<u8>,
    /// Their SHA-256.
    pub(super) manifest_digest: Digest,
    pub(super) signatures: Vec<Vec<u8>>,
    commit: ObjectId,
    format: Format,
    /// Commit, folders, manifest and signatures.
    small: Objects,
    /// Folders of chunks by their names, the first two digits of what is in them.
    folders: HashMap<String, ObjectId>,
    /// Which Git object claims to be which chunk, as far as its folder is known or a list says it.
    chunks: HashMap<Digest, ObjectId>,
    /// The list's objects, in the manifest's order.
    list: Vec<ObjectId>,
}

/// How a chunk can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Alone.
    Chunk(ObjectId),
    /// With all others in its folder, because what is in there is not known yet.
    Folder(ObjectId),
}

/// The list of chunks: one object's name a line. `None` where it is anything else.
// untrusted: git_chunk_list
pub(crate) fn read_list(bytes: &[u8], format: Format) -> Option<Vec<ObjectId>> {
    let length = format.len_in_hex() + 1;
    let lines = bytes.chunks(length);
    lines
        .map(|line| {
            let hex = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
            remote::id(hex, format)
        })
        .collect()
}

fn entries(source: &Layers, id: ObjectId, path: &str) -> Result<Vec<tree::Entry>, TreeError> {
    let bytes = tree::object(source, id, Object::Tree)?;
    tree::parse(id, &bytes, path, source.format)
}

/// Of manifest, signatures and their folder: the objects that `source` does not have. Of a folder, what is in it comes with it.
pub(super) fn unknown(tip: ObjectId, source: &Layers) -> Result<Vec<ObjectId>, TreeError> {
    let known = |id: &ObjectId| source.layers.iter().any(|layer| layer.contains_key(id));
    let mut ids = Vec::new();
    for entry in entries(source, tree::of_commit(source, tip)?, "")? {
        match (entry.name.as_str(), entry.folder) {
            (publish::MANIFEST_PATH | publish::CHUNK_LIST, false) => ids.push(entry.id),
            (SIGNATURES, true) if known(&entry.id) => {
                let files = entries(source, entry.id, "signatures/")?.into_iter();
                let files = files.filter(is_signature).take(MAX_SIGNATURES);
                ids.extend(files.map(|entry| entry.id));
            }
            (SIGNATURES, true) => ids.push(entry.id),
            _ => {}
        }
    }
    ids.retain(|id| !known(id));
    Ok(ids)
}

impl Tip {
    /// Reads the tree as far as it is needed. Folders of chunks may be missing.
    pub(super) fn read(tip: ObjectId, source: &Layers) -> Result<Self, ArriveError> {
        let commit = ours(&tip);
        let tree_error = |error| ArriveError::Tree { commit, error };
        let read = |id, kind| tree::object(source, id, kind).map_err(tree_error);
        let entries = |id, path| entries(source, id, path).map_err(tree_error);
        let mut small = Objects::new();
        small.insert(tip, (Object::Commit, read(tip, Object::Commit)?));
        let top = tree::of_commit(source, tip).map_err(tree_error)?;
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
        small.insert(manifest_id, (Object::Blob, manifest.clone()));
        let folder = find(SIGNATURES, true).ok_or_else(|| no(SIGNATURES))?.id;
        small.insert(folder, (Object::Tree, read(folder, Object::Tree)?));
        let mut signatures = Vec::new();
        let files = entries(folder, "signatures/")?;
        for entry in files.into_iter().filter(is_signature).take(MAX_SIGNATURES) {
            let bytes = read(entry.id, Object::Blob)?;
            if bytes.len() as u64 <= MAX_SIGNATURE {
                small.insert(entry.id, (Object::Blob, bytes.clone()));
                signatures.push(bytes);
            }
        }
        let mut tip = Self {
            manifest_digest: sha256(&manifest),
            manifest,
            signatures,
            commit: tip,
            format: source.format,
            small,
            folders: HashMap::new(),
            chunks: HashMap::new(),
            list: Vec::new(),
        };
        if let Some(list) = find(publish::CHUNK_LIST, false) {
            let bytes = read(list.id, Object::Blob)?;
            tip.list = read_list(&bytes, source.format).unwrap_or_default();
            tip.small.insert(list.id, (Object::Blob, bytes));
        }
        if let Some(folder) = find("chunks", true) {
            let bytes = read(folder.id, Object::Tree)?;
            tip.small.insert(folder.id, (Object::Tree, bytes));
            for entry in entries(folder.id, "chunks/")? {
                if !entry.folder {
                    continue;
                }
                let known = source.layers.iter().find_map(|layer| layer.get(&entry.id));
                if let Some((Object::Tree, bytes)) = known {
                    tip.open(entry.id, bytes).map_err(tree_error)?;
                }
                tip.folders.insert(entry.name, entry.id);
            }
        }
        Ok(tip)
    }

    /// Takes note of which chunk of the verified manifest each object of the list is. A list of another length is of no use.
    pub(super) fn name(&mut self, manifest: &Manifest) {
        let list = std::mem::take(&mut self.list);
        if list.len() == super::chunks(manifest).count() {
            let named = super::chunks(manifest).map(|chunk| chunk.sha256);
            self.chunks.extend(named.zip(list));
        }
    }

    /// Takes note of what is in a folder of chunks.
    fn open(&mut self, folder: ObjectId, bytes: &[u8]) -> Result<(), TreeError> {
        let files = tree::parse(folder, bytes, "chunks/", self.format)?;
        let files = files.into_iter();
        self.chunks
            .extend(files.filter_map(|file| Some((file.name.parse().ok()?, file.id))));
        self.small.insert(folder, (Object::Tree, bytes.to_vec()));
        Ok(())
    }

    /// Takes note of folders that came.
    pub(super) fn learn(&mut self, came: &Objects) -> Result<(), ArriveError> {
        let folders: Vec<ObjectId> = self.folders.values().copied().collect();
        for id in folders {
            if let Some((Object::Tree, bytes)) = came.get(&id) {
                let commit = ours(&self.commit);
                self.open(id, bytes)
                    .map_err(|error| ArriveError::Tree { commit, error })?;
            }
        }
        Ok(())
    }

    /// How to ask for a chunk; `None` when this tree does not have it.
    pub(super) fn way(&self, chunk: Digest) -> Option<Way> {
        if let Some(id) = self.chunks.get(&chunk) {
            return Some(Way::Chunk(*id));
        }
        let folder = self.folders.get(&chunk.to_string()[..2])?;
        let known = self.small.contains_key(folder);
        (!known).then_some(Way::Folder(*folder))
    }

    /// What the next fetch can tell the server, when all folders are known.
    pub(super) fn basis(&self) -> Option<Snapshot> {
        let mut folders = self.folders.values();
        folders
            .all(|id| self.small.contains_key(id))
            .then(|| Snapshot::new(self.format, self.commit, 0, Vec::new(), self.small.clone()))
    }
}
