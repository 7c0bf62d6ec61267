// SPDX-License-Identifier: Apache-2.0
//! What the history rule sees of a repository: commits, approvals and trust roots.

use std::cell::RefCell;
use std::collections::HashMap;

use gix_hash::ObjectId;
use gix_object::tree::EntryMode;
use racklet_trust::{
    commit,
    history::{self, RootDocument},
    root,
};

use super::{Approvals, ours, theirs};
use crate::{
    pack::Kind,
    tree::{self, Source, TreeError},
};

/// What the history rule sees.
pub(super) struct View<'a> {
    source: &'a dyn Source,
    approvals: &'a Approvals,
    /// The tree `trust` read last: hundreds of versions are looked up in it one after the other.
    trust: RefCell<Option<(ObjectId, Entries)>>,
}

/// The entries of a tree by name; `None` for a name that is there twice.
type Entries = HashMap<Vec<u8>, Option<(ObjectId, EntryMode)>>;

/// The largest signature file, in bytes, and the most of them.
const MAX_SIGNATURE: usize = 16 * 1024;
const MAX_SIGNATURES: usize = 64;

impl<'a> View<'a> {
    pub(super) fn new(source: &'a dyn Source, approvals: &'a Approvals) -> Self {
        Self {
            source,
            approvals,
            trust: RefCell::new(None),
        }
    }

    /// The folder of a version in a tree `trust`, found as [`Self::entry`] finds it.
    fn version(&self, trust_tree: ObjectId, version: u64) -> Result<Option<ObjectId>, TreeError> {
        let mut known = self.trust.borrow_mut();
        let (_, entries) = match &mut *known {
            Some(known) if known.0 == trust_tree => known,
            other => other.insert((trust_tree, self.by_name(trust_tree)?)),
        };
        let name = version.to_string();
        match entries.get(name.as_bytes()) {
            None => Ok(None),
            Some(None) => Err(TreeError::Doubled {
                tree: trust_tree,
                name,
            }),
            Some(Some((id, mode))) => Ok(mode.is_tree().then_some(*id)),
        }
    }

    fn by_name(&self, tree: ObjectId) -> Result<Entries, TreeError> {
        let bytes = tree::object(self.source, tree, Kind::Tree)?;
        let mut entries = Entries::new();
        for entry in gix_object::TreeRefIter::from_bytes(&bytes, self.source.format()) {
            let entry = entry.map_err(|_| TreeError::Malformed(tree))?;
            let found = Some((entry.oid.to_owned(), entry.mode));
            entries
                .entry(entry.filename.to_vec())
                .and_modify(|twice| *twice = None)
                .or_insert(found);
        }
        Ok(entries)
    }

    /// The only entry of that name. What else is in the tree decides nothing about trust: a link that somebody committed beside it, and
    /// took back, must not end the history.
    fn entry(
        &self,
        tree: ObjectId,
        name: &str,
        folder: bool,
    ) -> Result<Option<ObjectId>, TreeError> {
        let bytes = tree::object(self.source, tree, Kind::Tree)?;
        let mut found = None;
        for entry in gix_object::TreeRefIter::from_bytes(&bytes, self.source.format()) {
            let entry = entry.map_err(|_| TreeError::Malformed(tree))?;
            if entry.filename != name {
                continue;
            }
            if found.is_some() {
                let name = name.to_owned();
                return Err(TreeError::Doubled { tree, name });
            }
            let fits = match folder {
                true => entry.mode.is_tree(),
                false => entry.mode.is_blob(),
            };
            found = Some(fits.then(|| entry.oid.to_owned()));
        }
        Ok(found.flatten())
    }

    fn entries(&self, tree: ObjectId) -> Result<Vec<tree::Entry>, TreeError> {
        let bytes = tree::object(self.source, tree, Kind::Tree)?;
        tree::parse(tree, &bytes, "", self.source.format())
    }

    fn blob(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, TreeError> {
        let bytes = tree::object(self.source, id, Kind::Blob)?;
        if bytes.len() > limit {
            return Err(TreeError::TooLarge(
                "a trust root or signature is larger than any can be",
            ));
        }
        Ok(bytes)
    }
}

impl history::Repository for View<'_> {
    type Error = TreeError;

    fn commit(&self, id: &commit::ObjectId) -> Result<Option<Vec<u8>>, TreeError> {
        match tree::object(self.source, theirs(id), Kind::Commit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TreeError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn approvals(&self, id: &commit::ObjectId) -> Result<Vec<Vec<u8>>, TreeError> {
        let id = theirs(id);
        match self.approvals.get(&id) {
            Some(approvals) => Ok(approvals.clone()),
            None => self
                .source
                .approvals(&id)
                .map_err(|source| TreeError::Read { id, source }),
        }
    }

    fn trust_tree(&self, tree: &commit::ObjectId) -> Result<Option<commit::ObjectId>, TreeError> {
        Ok(self.entry(theirs(tree), "trust", true)?.map(|id| ours(&id)))
    }

    fn root_document(
        &self,
        trust_tree: &commit::ObjectId,
        version: u64,
    ) -> Result<Option<RootDocument>, TreeError> {
        let Some(folder) = self.version(theirs(trust_tree), version)? else {
            return Ok(None);
        };
        let Some(document) = self.entry(folder, "root.json", false)? else {
            return Ok(None);
        };
        let bytes = self.blob(document, root::MAX_SIZE)?;
        let mut signatures = Vec::new();
        if let Some(folder) = self.entry(folder, "signatures", true)? {
            for entry in self.entries(folder)? {
                if !entry.folder && entry.name.ends_with(".sig") {
                    if signatures.len() == MAX_SIGNATURES {
                        return Err(TreeError::TooLarge(
                            "a trust root has more than 64 signatures",
                        ));
                    }
                    signatures.push(self.blob(entry.id, MAX_SIGNATURE)?);
                }
            }
        }
        Ok(Some(RootDocument { bytes, signatures }))
    }
}
