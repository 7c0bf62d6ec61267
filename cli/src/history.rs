// SPDX-License-Identifier: Apache-2.0
//! Judges a commit of this clone by the history rule that trays follow, from the trust root that the user pinned on.
//!
//! ```text
//! pin (git config racklet.root) ──> trust/1/root.json of the first commit ──> every commit since ──> the head
//!                     └──────────> the commit found good last time (kept outside of the tree) ──┘
//! ```
//!
//! What is kept is a shortcut and never more than that: where it does not lead to the head, everything is walked again. It
//! lies in Git's own folder, into which nothing of a server ever comes, and counts only for the same pin and program.

use std::fs;
use std::path::PathBuf;

use racklet_tell::error::chain;
use racklet_trust::commit::{Commit, ObjectId};
use racklet_trust::floors::Floors;
use racklet_trust::history::{Accepted, Head, Rejected, Repository as _, follow_within};
use racklet_trust::{Digest, TrustRoot, Verified};
use serde::{Deserialize, Serialize};

use crate::git::Repository;
use crate::objects::{ObjectError, Objects};

/// Commits that are followed at once. A tray takes fewer, step by step; a person's machine holds a million (some 1 GB), and what it looks
/// through is its owner's own clone.
const MOST_COMMITS: usize = 1_000_000;

/// Why a commit is not what the rack's keys signed, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

impl From<ObjectError> for Refusal {
    fn from(error: ObjectError) -> Self {
        Self(chain(&error))
    }
}

/// A commit that the rack's keys signed, with everything before it.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) head: Verified<Head>,
    /// Where the walk began: the first commit, or the head alone in a shallow clone.
    pub(crate) begin: Accepted,
    /// The clone is shallow: the head was judged alone.
    pub(crate) shallow: bool,
}

/// One clone and the trust root it is judged from.
pub(crate) struct Judge<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) objects: &'a Objects,
    /// SHA-256 of `trust/1/root.json`.
    pub(crate) pin: Digest,
}

impl Judge<'_> {
    /// Decides about the commit of this full name.
    pub(crate) fn judge(&self, head: &str) -> Result<Judged, Refusal> {
        let kept = Kept::load(self.repository, self.pin);
        if let Some(judged) = kept.and_then(|kept| self.shortcut(&kept, head)) {
            if judged.begin.head != Some(judged.head.id) {
                self.keep(&judged);
            }
            return Ok(judged);
        }
        let begin = self.begin(head)?;
        let verified = self.follow(&begin.accepted, head)?;
        let judged = Judged {
            head: verified,
            begin: begin.accepted,
            shallow: begin.shallow,
        };
        self.keep(&judged);
        Ok(judged)
    }

    /// How many commits a tray that accepted `last` would take on the way to `head`, which was found good. What lies before a
    /// good head is good; whether `last` does is what this decides.
    pub(crate) fn since(&self, last: &str, head: &str) -> Result<u64, Refusal> {
        let begin = Accepted {
            head: Some(name(last)?),
            generation: 0,
            root: self.baked(last)?,
            floors: Floors::default(),
        };
        Ok(self.follow(&begin, head)?.generation)
    }

    fn follow(&self, accepted: &Accepted, head: &str) -> Result<Verified<Head>, Refusal> {
        follow_within(self.objects, accepted, name(head)?, MOST_COMMITS)
            .map_err(|error| Refusal(explain(error)))
    }

    /// From the commit kept last time; `None` when it does not lead to `head`, or is not here any more.
    fn shortcut(&self, kept: &Kept, head: &str) -> Option<Judged> {
        let begin = Accepted {
            head: Some(ObjectId::from_hex(&kept.head)?),
            generation: kept.generation,
            root: self.baked(&kept.head).ok()?,
            floors: Floors::default(),
        };
        let head = self.follow(&begin, head).ok()?;
        Some(Judged {
            head,
            begin,
            shallow: false,
        })
    }

    fn keep(&self, judged: &Judged) {
        if judged.shallow {
            return;
        }
        let kept = Kept {
            v: KEPT_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            root: self.pin,
            head: judged.head.id.to_string(),
            generation: judged.head.generation,
        };
        // Without it the next command only takes longer.
        let _ = kept.store(self.repository);
    }

    /// The first commit behind `head`, judged alone under the pinned trust root; `head` itself in a shallow clone.
    fn begin(&self, head: &str) -> Result<Begin, Refusal> {
        let first = self
            .repository
            .text(["rev-list", "--max-parents=0", head])
            .map_err(|error| Refusal(chain(&error)))?;
        if first.lines().count() != 1 {
            return Err(Refusal(
                "the history has several beginnings: a merge brought in another repository"
                    .to_owned(),
            ));
        }
        // In a shallow clone Git shows a beginning where the commit itself names parents.
        let raw = self.objects.commit(&name(&first)?)?;
        let shallow = raw
            .and_then(|raw| Commit::parse(&raw).ok())
            .is_some_and(|commit| !commit.parents().is_empty());
        let begin = if shallow { head } else { first.as_str() };
        let start = Accepted::nothing(self.baked(begin)?, Floors::default());
        let first = self.follow(&start, begin)?;
        Ok(Begin {
            accepted: accepted(&first),
            shallow,
        })
    }

    /// The trust root that an image made at `commit` would carry; its first version must be the pinned one.
    fn baked(&self, commit: &str) -> Result<Verified<TrustRoot>, Refusal> {
        let (first, trust) = self.pinned(commit)?;
        self.objects.walked(self.pin, trust, || {
            let mut root = first;
            while let Some(next) = self.objects.root_document(&trust, root.version() + 1)? {
                root = root
                    .advance(&next.bytes, &next.signatures)
                    .map_err(|error| {
                        Refusal(format!(
                            "trust/{}/root.json: {}",
                            root.version() + 1,
                            chain(&error)
                        ))
                    })?;
            }
            Ok(root)
        })
    }

    /// The newest trust root in the tree of `commit` that root keys lead to from the pinned one. The commit itself need not be
    /// signed: each version vouches for the next.
    pub(crate) fn vouched(&self, commit: &str) -> Result<Verified<TrustRoot>, Refusal> {
        let (mut root, trust) = self.pinned(commit)?;
        while let Some(next) = self.objects.root_document(&trust, root.version() + 1)? {
            match root.advance(&next.bytes, &next.signatures) {
                Ok(next) => root = next,
                Err(_) => break,
            }
        }
        Ok(root)
    }

    /// Version 1 and the tree `trust` of `commit`.
    fn pinned(&self, commit: &str) -> Result<(Verified<TrustRoot>, ObjectId), Refusal> {
        let none = || {
            Refusal(format!(
                "commit {commit} has no trust/1/root.json: {} is not a rack repository",
                self.repository.path().display()
            ))
        };
        let tree = self
            .objects
            .commit_tree(commit)?
            .and_then(|tree| ObjectId::from_hex(&tree))
            .ok_or_else(|| Refusal(format!("commit {commit} is missing or malformed")))?;
        let trust = self.objects.trust_tree(&tree)?.ok_or_else(none)?;
        let first = self.objects.root_document(&trust, 1)?.ok_or_else(none)?;
        let found = Digest::of(&first.bytes);
        if found != self.pin {
            return Err(Refusal(format!(
                "trust/1/root.json in commit {commit} is sha256:{found}, not the pinned sha256:{}: this is another rack, or somebody exchanged its keys",
                self.pin
            )));
        }
        let root = Verified::<TrustRoot>::baked(&first.bytes)
            .map_err(|error| Refusal(format!("trust/1/root.json: {}", chain(&error))))?;
        Ok((root, trust))
    }
}

struct Begin {
    accepted: Accepted,
    shallow: bool,
}

/// What a tray that accepted `head` goes on from.
pub(crate) fn accepted(head: &Verified<Head>) -> Accepted {
    Accepted {
        head: Some(head.id),
        generation: head.generation,
        root: head.root.clone(),
        floors: head.floors(),
    }
}

fn name(id: &str) -> Result<ObjectId, Refusal> {
    ObjectId::from_hex(id).ok_or_else(|| Refusal(format!("{id} is not an object name")))
}

/// What the history rule says, and what to do where something is only missing.
fn explain(error: Rejected<ObjectError>) -> String {
    let mut text = chain(&error);
    if let Rejected::Unauthorised { id, error } = &error
        && error.valid > 0
    {
        text.push_str(&format!(
            "\n         another config key approves it with: racklet approve {id}"
        ));
    }
    text
}

/// Changes when older programs must not believe what newer ones kept, or the other way round.
const KEPT_VERSION: u32 = 1;

/// `racklet/verified.json` in Git's folder: the commit found good last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    v: u32,
    /// The program that judged: another one may know stricter rules.
    program: String,
    /// The pin it was judged from.
    root: Digest,
    head: String,
    generation: u64,
}

impl Kept {
    fn path(repository: &Repository) -> Option<PathBuf> {
        let folder = repository
            .text(["rev-parse", "--path-format=absolute", "--git-common-dir"])
            .ok()?;
        Some(PathBuf::from(folder).join("racklet").join("verified.json"))
    }

    fn load(repository: &Repository, pin: Digest) -> Option<Self> {
        let bytes = fs::read(Self::path(repository)?).ok()?;
        let kept: Self = serde_json::from_slice(&bytes).ok()?;
        let ours = kept.v == KEPT_VERSION && kept.program == env!("CARGO_PKG_VERSION");
        (ours && kept.root == pin).then_some(kept)
    }

    fn store(&self, repository: &Repository) -> anyhow::Result<()> {
        let Some(path) = Self::path(repository) else {
            return Ok(());
        };
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        fs::create_dir_all(folder)?;
        // Whole or not at all: two commands may run at once.
        let file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(file.as_file(), self)?;
        file.persist(&path)?;
        Ok(())
    }
}
