// SPDX-License-Identifier: Apache-2.0
//! Which head of the rack repository may be followed.
//!
//! ```text
//!   accepted ──> c1 ──> c2 ──> head        every commit behind `accepted` is signed by enough config keys
//!        │        └──> c3 ──┘              of the trust root of each of its parents; every way back ends
//!        └ its trust root decides c1       at `accepted`
//! ```
//!
//! The rule is a pure function over a [`Repository`], so that the CLI, PID 1 and the hypervisor say the same of the same history. It
//! knows the floors, too: whoever follows a head cannot forget them.
//!
//! A head whose descent from the floor's head is not proved (nothing is accepted yet, the kept head was lost, or only an older one is
//! left) has to be above the floors by its own signed date, and nobody but a key of the newest trust root may have signed it once the
//! floors know that root.
//! Fetching, hashing and bounding objects is the store's business.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use crate::{
    Verified,
    commit::{Commit, CommitError, ObjectId},
    floors::{BelowFloor, Floors},
    root::{RootError, TrustRoot, Unauthorised},
};

/// The most commits that a tray takes in one step, from an accepted head to a new one: 10,000 of them are some 10 MiB. Whoever is farther
/// away comes in several steps.
pub const MAX_COMMITS: usize = 10_000;

/// One version of the trust root, as it lies in a tree under `trust/<version>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDocument {
    /// The contents of `root.json`.
    pub bytes: Vec<u8>,
    /// The contents of `signatures/*.sig`.
    pub signatures: Vec<Vec<u8>>,
}

/// Where commits come from: a store that has checked each object against its name.
pub trait Repository {
    /// Why an object could not be had.
    type Error;

    /// The contents of commit `id`; `None` when the store does not have it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn commit(&self, id: &ObjectId) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The armored approvals of commit `id`; empty where there are none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn approvals(&self, id: &ObjectId) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// The name of the tree `trust` in `tree`; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn trust_tree(&self, tree: &ObjectId) -> Result<Option<ObjectId>, Self::Error>;

    /// Version `version` in a tree that [`Repository::trust_tree`] named; `None` when it is not there.
    ///
    /// # Errors
    /// When the store cannot be read, or the files are larger than a trust root may be.
    fn root_document(
        &self,
        trust_tree: &ObjectId,
        version: u64,
    ) -> Result<Option<RootDocument>, Self::Error>;
}

/// The head that was accepted last, with what was believed there.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Its commit; `None` where there is none, or where it is lost: the next head is then judged alone.
    pub head: Option<ObjectId>,
    /// Its generation, [`Head::generation`].
    pub generation: u64,
    /// The trust root in force there.
    pub root: Verified<TrustRoot>,
    /// What nothing accepted from now on may be below.
    pub floors: Floors,
}

impl Accepted {
    /// No head is at hand: a tray's first boot, or one whose kept head is lost.
    #[must_use]
    pub fn nothing(root: Verified<TrustRoot>, floors: Floors) -> Self {
        Self {
            head: None,
            generation: floors.generation(),
            root,
            floors,
        }
    }

    /// To judge again a head that was accepted here as number `generation` and kept. Its date does not matter: it was accepted for
    /// its descent.
    #[must_use]
    pub fn kept(root: Verified<TrustRoot>, generation: u64, floors: Floors) -> Self {
        Self {
            head: None,
            generation: generation.saturating_sub(1),
            root,
            floors: Floors { time: 0, ..floors },
        }
    }
}

/// A head that may be followed.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its commit.
    pub id: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// Grows with every commit accepted; never goes down.
    pub generation: u64,
    /// The trust root in force behind it.
    pub root: Verified<TrustRoot>,
    /// The newest committer's date among the commits verified, Unix time in seconds.
    pub time: u64,
}

impl Head {
    /// What a tray that accepts this head never goes below again.
    #[must_use]
    pub fn floors(&self) -> Floors {
        Floors {
            trust_root: self.root.version(),
            head: Some((self.id, self.generation)),
            time: self.time,
            ..Floors::default()
        }
    }
}

/// Why a head is not followed.
#[derive(Debug, thiserror::Error)]
pub enum Rejected<E> {
    /// The store failed; nothing is said about the head.
    #[error("read the repository")]
    Store(#[source] E),
    /// An object on the way is not there.
    #[error("commit {0} is missing: the history is cut or shallow there")]
    Missing(ObjectId),
    /// An object on the way is no good commit.
    #[error("commit {id}: {error}")]
    Commit {
        /// Which commit.
        id: ObjectId,
        /// What is wrong with it.
        error: CommitError,
    },
    /// A commit that too few config keys signed.
    #[error("commit {id}: {error}")]
    Unauthorised {
        /// Which commit.
        id: ObjectId,
        /// Why its signatures do not suffice.
        error: Unauthorised,
    },
    /// The trust root in a commit's tree does not follow from its parent's.
    #[error(
        "commit {id}: its trust root version {version} is refused: {}",
        chain(error)
    )]
    Root {
        /// Which commit.
        id: ObjectId,
        /// Which version.
        version: u64,
        /// Why.
        error: Box<RootError>,
    },
    /// A version that was in force is gone from the tree, or its bytes differ.
    #[error("commit {id}: trust/{version}/root.json is not the trust root that is in force")]
    RootChanged {
        /// Which commit.
        id: ObjectId,
        /// The version in force.
        version: u64,
    },
    /// A way back that does not end at the accepted head: a force push, an old head, or another repository.
    #[error(
        "head {head} does not descend from {accepted}, the head accepted before (force push, or an old state?)"
    )]
    NotDescendant {
        /// The head on offer.
        head: ObjectId,
        /// The head accepted before.
        accepted: ObjectId,
    },
    /// A merge of something that began before or beside the accepted head.
    #[error("commit {id} was made before or beside the accepted head {accepted}; rebase it")]
    SideBranch {
        /// The commit.
        id: ObjectId,
        /// The head accepted before.
        accepted: ObjectId,
    },
    /// Properly signed, and older than what was accepted here before.
    #[error(transparent)]
    BelowFloor(#[from] BelowFloor),
    /// More commits than one step may have.
    #[error("more than {0} commits since the accepted head")]
    TooLong(usize),
}

fn chain(error: &RootError) -> alloc::string::String {
    match error {
        RootError::Old(inner) | RootError::Own(inner) => alloc::format!("{error}: {inner}"),
        other => alloc::format!("{other}"),
    }
}

/// Decides whether `head` may follow `accepted`.
///
/// Where no head is at hand (`accepted.head` is `None`), the new one is judged alone: by the newest trust root that its tree leads to
/// from the one accepted, or by the one before that, since the head may be the very commit that brought the newest. It cannot authorise
/// itself, since every step there needs root keys. With floors below the newest root, the holder of a key that this root removed gains
/// nothing: such a head could as well have left the newest root out. With floors that know the newest root, the commit that brought it
/// was accepted before, so only the newest root's keys count.
///
/// # Errors
/// [`Rejected`] with the reason; the accepted head stays in force.
pub fn follow<R: Repository>(
    repository: &R,
    accepted: &Accepted,
    head: ObjectId,
) -> Result<Verified<Head>, Rejected<R::Error>> {
    follow_within(repository, accepted, head, MAX_COMMITS)
}

/// As [`follow`], for whoever has room for another number of commits than a tray: `most` between the accepted head and the new one, which
/// counts as one of them.
///
/// # Errors
/// [`Rejected`] with the reason.
pub fn follow_within<R: Repository>(
    repository: &R,
    accepted: &Accepted,
    head: ObjectId,
    most: usize,
) -> Result<Verified<Head>, Rejected<R::Error>> {
    let walk = Walk { repository, most };
    let floors = &accepted.floors;
    let commit = walk.commit(head)?;
    let (mut found, proven) = match accepted.head {
        None => (walk.alone(accepted, head, &commit)?, false),
        Some(base) => walk.descend(accepted, base, head, &commit)?,
    };
    if floors.head.is_some_and(|(id, _)| id == head) {
        found.generation = floors.generation();
    } else if !proven {
        if found.root.version() <= floors.trust_root {
            walk.authorise(head, &commit, &found.root)?;
        }
        floors.judge(&found.floors())?;
        floors.judge_date(&found)?;
    }
    floors.judge(&found.floors())?;
    Ok(Verified::new(found))
}

/// The trust root in force behind a commit, and the one that it followed.
type RootStep = (Verified<TrustRoot>, Verified<TrustRoot>);

struct Walk<'a, R> {
    repository: &'a R,
    /// Commits in one step.
    most: usize,
}

impl<R: Repository> Walk<'_, R> {
    /// The head by itself, without a look at what is behind it.
    fn alone(
        &self,
        accepted: &Accepted,
        id: ObjectId,
        commit: &Commit,
    ) -> Result<Head, Rejected<R::Error>> {
        let (root, before) = self.roots_behind(id, commit, &accepted.root)?;
        self.authorise(id, commit, &root)
            .or_else(|refused| self.authorise(id, commit, &before).map_err(|_| refused))?;
        Ok(Head {
            id,
            tree: commit.tree(),
            generation: accepted.generation.saturating_add(1),
            root,
            time: commit.time(),
        })
    }

    /// The head with every commit behind it down to `base`; and whether that proves it to be no older than the floor's head.
    fn descend(
        &self,
        accepted: &Accepted,
        base: ObjectId,
        head: ObjectId,
        commit: &Commit,
    ) -> Result<(Head, bool), Rejected<R::Error>> {
        let order = self.commits_since(base, head)?;
        let mut roots = BTreeMap::from([(base, accepted.root.clone())]);
        let mut time = commit.time();
        for (id, commit) in &order {
            let mut newest: Option<Verified<TrustRoot>> = None;
            for parent in commit.parents() {
                let before = roots.get(parent).ok_or(Rejected::Missing(*parent))?;
                self.authorise(*id, commit, before)?;
                let (behind, _) = self.roots_behind(*id, commit, before)?;
                if newest
                    .as_ref()
                    .is_none_or(|root| root.version() < behind.version())
                {
                    newest = Some(behind);
                }
            }
            roots.insert(*id, newest.ok_or(Rejected::Missing(*id))?);
            time = time.max(commit.time());
        }
        let counted = accepted.generation.saturating_add(order.len() as u64);
        let floor = accepted.floors.generation();
        let through = |(newest, _)| roots.contains_key(&newest);
        let passed = accepted.floors.head.is_some_and(through);
        let proven = passed || accepted.generation >= floor;
        let generation = match accepted.generation < floor && (passed || counted >= floor) {
            // It was counted another way than the floor's head, and is the newest from now on.
            true => counted.max(floor.saturating_add(1)),
            false => counted,
        };
        let found = Head {
            id: head,
            tree: commit.tree(),
            generation,
            root: roots.remove(&head).ok_or(Rejected::Missing(head))?,
            time,
        };
        Ok((found, proven))
    }

    fn commit(&self, id: ObjectId) -> Result<Commit, Rejected<R::Error>> {
        let raw = self
            .repository
            .commit(&id)
            .map_err(Rejected::Store)?
            .ok_or(Rejected::Missing(id))?;
        Commit::parse(&raw).map_err(|error| Rejected::Commit { id, error })
    }

    /// The commits that `head` has and `base` has not, parents first.
    fn commits_since(
        &self,
        base: ObjectId,
        head: ObjectId,
    ) -> Result<Vec<(ObjectId, Commit)>, Rejected<R::Error>> {
        let mut order = Vec::new();
        let mut done = BTreeMap::from([(base, ())]);
        let mut open: Vec<(ObjectId, Option<Commit>)> = Vec::from([(head, None)]);
        let mut reached_base = head == base;
        let mut steps = 0usize;
        while let Some((id, visited)) = open.pop() {
            if let Some(commit) = visited {
                if done.insert(id, ()).is_none() {
                    order.push((id, commit));
                }
                continue;
            }
            if done.contains_key(&id) {
                continue;
            }
            // Each commit comes here once: whatever else led to it lies deeper in `open`, and finds it done.
            steps += 1;
            if steps > self.most {
                return Err(Rejected::TooLong(self.most));
            }
            let commit = match self.commit(id) {
                // What is missing lies behind the accepted head, or the accepted head is not on the way at all.
                Err(Rejected::Missing(id)) if reached_base => {
                    return Err(Rejected::SideBranch { id, accepted: base });
                }
                other => other?,
            };
            if commit.parents().is_empty() {
                return Err(match reached_base {
                    true => Rejected::SideBranch { id, accepted: base },
                    false => Rejected::NotDescendant {
                        head,
                        accepted: base,
                    },
                });
            }
            reached_base |= commit.parents().contains(&base);
            let parents: Vec<_> = commit.parents().iter().rev().map(|p| (*p, None)).collect();
            open.push((id, Some(commit)));
            open.extend(parents);
        }
        Ok(order)
    }

    fn authorise(
        &self,
        id: ObjectId,
        commit: &Commit,
        root: &Verified<TrustRoot>,
    ) -> Result<(), Rejected<R::Error>> {
        let approvals = match root.roles().config.threshold {
            1 => Vec::new(),
            _ => self.repository.approvals(&id).map_err(Rejected::Store)?,
        };
        commit
            .verify(root, &approvals)
            .map_err(|error| Rejected::Unauthorised { id, error })
    }

    /// The trust root in force behind `commit` when `before` was in force at its parent: the newest in its tree that follows,
    /// step by step. With it comes the one that it followed, or the same again when there was no step.
    fn roots_behind(
        &self,
        id: ObjectId,
        commit: &Commit,
        before: &Verified<TrustRoot>,
    ) -> Result<RootStep, Rejected<R::Error>> {
        let changed = Rejected::RootChanged {
            id,
            version: before.version(),
        };
        let trust_tree = self
            .repository
            .trust_tree(&commit.tree())
            .map_err(Rejected::Store)?;
        let Some(trust_tree) = trust_tree else {
            return Err(changed);
        };
        let document = |version| {
            self.repository
                .root_document(&trust_tree, version)
                .map_err(Rejected::Store)
        };
        if document(before.version())?.is_none_or(|d| d.bytes != before.to_canonical()) {
            return Err(changed);
        }
        let mut root = before.clone();
        let mut previous = before.clone();
        while let Some(next) = document(root.version().saturating_add(1))? {
            let version = root.version().saturating_add(1);
            let next = root
                .advance(&next.bytes, &next.signatures)
                .map_err(|error| Rejected::Root {
                    id,
                    version,
                    error: Box::new(error),
                })?;
            previous = core::mem::replace(&mut root, next);
        }
        Ok((root, previous))
    }
}

#[cfg(test)]
mod tests;
