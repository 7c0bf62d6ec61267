// SPDX-License-Identifier: Apache-2.0
//! Approvals: the signatures beside a commit's own, where the rack asks for more than one `config` key.
//!
//! Anybody who may push can put anything beside the good ones. So only the names of keys that may approve are asked for, and only
//! where some trust root at hand wants more than one key; names that only begin like these are not counted, and what hangs there and is
//! no small blob costs itself and nothing else. Questions come in pages, however many commits are new.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use gix_hash::{Kind as Format, ObjectId};
use racklet_trust::{PublicKey, TrustRoot, root, sshsig::SshSig};

use crate::{
    http::HttpError,
    limits::Limits,
    pack::{Kind, Nowhere, Objects},
    progress::Progress,
    remote::{Remote, RemoteError, Want},
    tree,
};

/// Armored signatures by the commit they approve.
pub(super) type Approvals = HashMap<ObjectId, Vec<Vec<u8>>>;

/// Where approvals of commits are; see [`approval_ref`].
pub const APPROVALS: &str = "refs/racklet/approvals/";
/// Where they are on hosts that take nothing but branches; see [`approval_branch`].
pub const APPROVAL_BRANCHES: &str = "refs/heads/racklet/approvals/";
/// The file with the approval in the commit of an [`approval_branch`].
pub const APPROVAL_FILE: &str = "approval";
/// Names in one question, and objects in one: git's server ignores the prefixes of a question with more than 65,536, and servers in
/// front of it take 1 MB unless told otherwise (nginx). The longest name here, with what is around it, has 126 bytes.
const MAX_ASKED: usize = 4000;
/// Keys whose approvals are asked for. Four trust roots with as many keys as there can be.
const MAX_KEYS: usize = 4 * root::MAX_KEYS;
/// The largest blob that is fetched; an armored signature has some 300 bytes.
const MAX_BLOB: u64 = 16 * 1024;
/// What an approval takes on average, with the commit and the folder around it in a branch: some 600 bytes; and as much more for a pack.
const MAX_APPROVAL: u64 = 2048;
const SLACK: u64 = 256 * 1024;
/// Questions and packs more that are asked for to get around what is no approval.
const MAX_AROUND: usize = 256;

/// The ref with the approval of `commit` by `key`: it points to a blob with an armored SSHSIG.
#[must_use]
pub fn approval_ref(commit: impl Display, key: &PublicKey) -> String {
    format!("{APPROVALS}{commit}/{}", digits(key))
}

/// The branch with the approval of `commit` by `key`, where the host refuses an [`approval_ref`]: it points to a commit with the same
/// blob as its file [`APPROVAL_FILE`].
#[must_use]
pub fn approval_branch(commit: impl Display, key: &PublicKey) -> String {
    format!("{APPROVAL_BRANCHES}{commit}/{}", digits(key))
}

/// Whether an armored signature is found under the name of the key that it says it is by: one under another name does not count, on trays
/// and in a clone alike. `name` ends in what [`approval_ref`] ends in.
#[must_use]
pub fn is_named_after_its_key(name: &str, armored: &[u8]) -> bool {
    let last = name.rsplit('/').next();
    SshSig::parse(armored).is_ok_and(|it| last == Some(&digits(it.claimed_key())))
}

fn digits(key: &PublicKey) -> String {
    let start = &key.material()[..8];
    start.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let Some(wanted) = Wanted::of(known.into_iter().chain([new])) else {
        return Ok(Approvals::new());
    };
    let mut commits: Vec<ObjectId> = new
        .iter()
        .filter(|(_, (kind, _))| *kind == Kind::Commit)
        .map(|(id, _)| *id)
        .collect();
    let mut found = Found::default();
    for folder in [APPROVALS, APPROVAL_BRANCHES] {
        list(remote, folder, &commits, &wanted.digits, limits, &mut found)?;
        // Whatever has enough of them here is not looked for elsewhere. The signature of the commit itself is one.
        commits.retain(|id| found.of.get(id).copied().unwrap_or(0) + 1 < wanted.threshold);
    }
    let format = remote.format()?;
    let mut approvals = Approvals::new();
    let by_object: Vec<_> = found.by_object.into_iter().collect();
    let mut open: Vec<&[_]> = by_object.chunks(MAX_ASKED).collect();
    let mut around = 0;
    while let Some(page) = open.pop() {
        let ids: Vec<ObjectId> = page.iter().map(|(id, _)| *id).collect();
        // What is no approval is found out before it takes memory.
        let most = SLACK + MAX_APPROVAL * ids.len() as u64;
        let limits = Limits {
            response: limits.response.min(most),
            object: MAX_BLOB,
            inflated: limits.inflated.min(most),
            held: limits.held.min(most),
            ..limits.clone()
        };
        let want = Want {
            ids: &ids,
            have: &[],
            depth: Some(1),
        };
        let came = match remote.fetch(&want, &limits, &mut Nowhere, progress) {
            Ok(came) => came,
            // Something large hangs where an approval belongs: half of them are good, or half of that half.
            Err(RemoteError::Pack(_) | RemoteError::Http(HttpError::TooLarge(_))) => {
                halve(page, &mut open, &mut around);
                continue;
            }
            Err(error) => return Err(error),
        };
        for (id, named) in page {
            let Some(armored) = armored(&came, *id, format) else {
                continue;
            };
            for (commit, digits) in named {
                if is_named_after_its_key(digits, armored) {
                    approvals.entry(*commit).or_default().push(armored.to_vec());
                }
            }
        }
    }
    Ok(approvals)
}

/// Whose approvals are asked for.
struct Wanted {
    /// The ends of the refs' names.
    digits: Vec<String>,
    /// The most keys that a commit needs.
    threshold: usize,
}

impl Wanted {
    /// The `config` keys of all trust roots that want more than one; `None` where there are none. These are claims: a false one costs a
    /// question.
    fn of<'a>(objects: impl Iterator<Item = &'a Objects>) -> Option<Self> {
        let mut keys = BTreeSet::new();
        let mut threshold = 0;
        for (kind, bytes) in objects.flat_map(|objects| objects.values()) {
            let is_root =
                *kind == Kind::Blob && bytes.starts_with(br#"{"type":"racklet.dev/trust-root/"#);
            if let Some(root) = is_root.then(|| TrustRoot::parse(bytes).ok()).flatten()
                && root.roles().config.threshold > 1
                && keys.len() < MAX_KEYS
            {
                keys.extend(root.roles().config.keys.iter().map(digits));
                threshold = threshold.max(root.roles().config.threshold);
            }
        }
        let threshold = usize::from(threshold);
        let digits = keys.into_iter().collect();
        (threshold > 1).then_some(Self { digits, threshold })
    }
}

/// What the server lists.
#[derive(Default)]
struct Found {
    /// Of which commit, and under which key's digits, an object is an approval.
    by_object: BTreeMap<ObjectId, BTreeSet<(ObjectId, String)>>,
    /// How many a commit has.
    of: HashMap<ObjectId, usize>,
}

/// Asks for approvals in one folder of refs, so many commits at once that a question stays small.
fn list(
    remote: &mut Remote,
    folder: &str,
    commits: &[ObjectId],
    digits: &[String],
    limits: &Limits,
    found: &mut Found,
) -> Result<(), RemoteError> {
    let at_once = (MAX_ASKED / digits.len().max(1)).max(1);
    let mut open: Vec<&[ObjectId]> = commits.chunks(at_once).collect();
    let mut around = 0;
    while let Some(page) = open.pop() {
        let named = |id: &ObjectId, digits: &String| (format!("{folder}{id}/{digits}"), *id);
        let names: HashMap<String, ObjectId> = page
            .iter()
            .flat_map(|id| digits.iter().map(move |digits| named(id, digits)))
            .collect();
        let asked: Vec<&str> = names.keys().map(String::as_str).collect();
        let listed = match remote.named(&asked, limits) {
            Ok(listed) => listed,
            // Names without number that begin like one of these: they cost the commits that they stand beside, and no other.
            Err(RemoteError::Http(HttpError::TooLarge(_))) => {
                halve(page, &mut open, &mut around);
                continue;
            }
            Err(error) => return Err(error),
        };
        for it in listed {
            let end = it.name.rsplit('/').next().unwrap_or_default().to_owned();
            if let Some(commit) = names.get(&it.name) {
                *found.of.entry(*commit).or_default() += 1;
                let named = found.by_object.entry(it.id).or_default();
                named.insert((*commit, end));
            }
        }
    }
    Ok(())
}

/// Asks for both halves of a page, unless that was done too often.
fn halve<'a, T>(page: &'a [T], open: &mut Vec<&'a [T]>, around: &mut usize) {
    *around += 1;
    if page.len() > 1 && *around < MAX_AROUND {
        let (left, right) = page.split_at(page.len() / 2);
        open.extend([left, right]);
    }
}

/// The signature that a ref points to: a blob, or a commit with that blob as its file.
fn armored(came: &Objects, id: ObjectId, format: Format) -> Option<&[u8]> {
    match came.get(&id)? {
        (Kind::Blob, bytes) => Some(bytes),
        (Kind::Commit, bytes) => {
            let top = gix_object::CommitRefIter::from_bytes(bytes, format);
            let top = top.clone().tree_id().ok()?;
            let (_, bytes) = came.get(&top).filter(|(kind, _)| *kind == Kind::Tree)?;
            let mut entries = tree::parse(top, bytes, "", format).ok()?.into_iter();
            let file = entries.find(|entry| !entry.folder && entry.name == APPROVAL_FILE)?;
            let (_, bytes) = came.get(&file.id).filter(|(kind, _)| *kind == Kind::Blob)?;
            Some(bytes)
        }
        _ => None,
    }
}
