// SPDX-License-Identifier: Apache-2.0
//! Approvals: the signatures beside a commit's own, where the rack asks for more than one `config` key.
//!
//! Anybody who may push can put anything beside the good ones. So only the names of keys that may approve are asked for, and only
//! where some trust root at hand wants more than one key; what hangs there and is no small blob costs itself and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use gix_hash::ObjectId;
use racklet_trust::{PublicKey, TrustRoot, root};

use crate::{
    limits::Limits,
    pack::{Kind, Nowhere, Objects},
    progress::Progress,
    remote::{Remote, RemoteError, Want},
};

/// Armored signatures by the commit they approve.
pub(super) type Approvals = HashMap<ObjectId, Vec<Vec<u8>>>;

/// Where approvals of commits are; see [`approval_ref`].
pub const APPROVALS: &str = "refs/racklet/approvals/";
/// Refs that one question asks for: git's server ignores the prefixes of a question with more than 65,536.
const MAX_ASKED: usize = 4000;
/// Keys whose approvals are asked for. Four trust roots with as many keys as there can be.
const MAX_KEYS: usize = 4 * root::MAX_KEYS;
/// The largest blob that is fetched; an armored signature has some 300 bytes.
const MAX_BLOB: u64 = 16 * 1024;
/// Packs that are asked for to get around what is no approval.
const MAX_PACKS: usize = 256;

/// The ref with the approval of `commit` by `key`: it points to a blob with an armored SSHSIG.
#[must_use]
pub fn approval_ref(commit: impl Display, key: &PublicKey) -> String {
    let digits: String = key.material()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{APPROVALS}{commit}/{digits}")
}

/// The approvals of the commits in `new` by keys that a trust root in `known` or `new` names, where it wants more than one.
pub(super) fn fetch(
    remote: &mut Remote,
    new: &Objects,
    known: Option<&Objects>,
    limits: &Limits,
    progress: &mut dyn Progress,
) -> Result<Approvals, RemoteError> {
    // What is known comes first: it was verified.
    let keys = keys(known.into_iter().chain([new]));
    if keys.is_empty() {
        return Ok(Approvals::new());
    }
    let commits = new.iter().filter(|(_, (kind, _))| *kind == Kind::Commit);
    let names: Vec<(String, ObjectId)> = commits
        .flat_map(|(id, _)| keys.iter().map(move |key| (approval_ref(id, key), *id)))
        .collect();
    let mut by_blob: BTreeMap<ObjectId, BTreeSet<ObjectId>> = BTreeMap::new();
    for names in names.chunks(MAX_ASKED) {
        let asked: HashMap<&str, ObjectId> =
            names.iter().map(|(n, id)| (n.as_str(), *id)).collect();
        let prefixes: Vec<&str> = asked.keys().copied().collect();
        // A longer name begins like the one asked for: room for some of those.
        let limits = Limits {
            refs: limits.refs + prefixes.len(),
            ..limits.clone()
        };
        for found in remote.list(&prefixes, &limits)? {
            if let Some(commit) = asked.get(found.name.as_str()) {
                by_blob.entry(found.id).or_default().insert(*commit);
            }
        }
    }
    let limits = Limits {
        object: MAX_BLOB,
        ..limits.clone()
    };
    let mut approvals = Approvals::new();
    let ids: Vec<ObjectId> = by_blob.keys().copied().collect();
    let mut open = vec![ids];
    let mut packs = 0;
    while let Some(ids) = open.pop().filter(|_| packs < MAX_PACKS) {
        if ids.is_empty() {
            continue;
        }
        packs += 1;
        let want = Want {
            ids: &ids,
            have: &[],
            depth: Some(1),
        };
        let found = match remote.fetch(&want, &limits, &mut Nowhere, progress) {
            Ok(found) => found,
            // Something large hangs where an approval belongs: half of them are good, or half of that half.
            Err(RemoteError::Pack(_)) => {
                if ids.len() > 1 {
                    let (left, right) = ids.split_at(ids.len() / 2);
                    open.extend([left.to_vec(), right.to_vec()]);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        for (id, (kind, bytes)) in found {
            if kind == Kind::Blob {
                for commit in by_blob.get(&id).into_iter().flatten() {
                    approvals.entry(*commit).or_default().push(bytes.clone());
                }
            }
        }
    }
    Ok(approvals)
}

/// The `config` keys of all trust roots that want more than one. These are claims: a false one costs a question.
fn keys<'a>(objects: impl Iterator<Item = &'a Objects>) -> BTreeSet<PublicKey> {
    let mut keys = BTreeSet::new();
    for (kind, bytes) in objects.flat_map(|objects| objects.values()) {
        let is_root =
            *kind == Kind::Blob && bytes.starts_with(br#"{"type":"racklet.dev/trust-root/"#);
        if let Some(root) = is_root.then(|| TrustRoot::parse(bytes).ok()).flatten()
            && root.roles().config.threshold > 1
            && keys.len() < MAX_KEYS
        {
            keys.extend(root.roles().config.keys.iter().cloned());
        }
    }
    keys
}
