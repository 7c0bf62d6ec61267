// SPDX-License-Identifier: Apache-2.0
//! The way to a head that is too far away to be fetched at once.
//!
//! ```text
//!   accepted ──> … ──> c1 ──> … ──> c2 ──> … ──> head      everything at once is too much: c1 is fetched, verified and
//!                                                          accepted like a head, then c2, then the head
//! ```
//!
//! What one stretch brings is bounded by [`AT_ONCE`]; how many there are is not. Where the server leaves out what it is asked to, a stretch
//! comes without the folders of its commits, of which only `trust` decides anything ([`sparse`]): a rack of 4,096 workloads has 200 KB of names
//! in each commit. A commit on the way is fit to be accepted when all ways
//! back from the head lead through it: what was begun beside it could not be merged behind it. Where such commits are is asked of the
//! server ([`Boundary`]), by doubling the distance from the head until the accepted one is passed, then again from what was found. Where
//! several commits are equally far, as with branches that are merged, a piece of the history there is fetched and looked at ([`waist`]).
//! The server may lie: what it names is verified like any head, and the questions are counted.

use std::collections::{BTreeSet, HashMap, HashSet};

use gix_hash::{Kind as Format, ObjectId};

use super::Bases;
use crate::{
    http::HttpError,
    limits::Limits,
    pack::{Kind, Objects, PackError},
    progress::Progress,
    remote::{Remote, RemoteError, Want, boundary::Boundary},
    snapshot::Snapshot,
};

/// Commits in the first stretch that is tried when everything at once was too much.
const FIRST: u32 = 1024;
/// Bytes, unpacked, that are held of a history at once. Only a single commit may be as large as [`Limits`] say: it has no half.
const AT_ONCE: u64 = 16 << 20;
/// Folders asked for at once: a request of 75 KB.
const FOLDERS: usize = 1000;
/// Commits on the way that are remembered; each is half as far as the one before it, so that this is never reached.
const MOST_TARGETS: usize = 40;
/// No history is longer.
const MOST_COMMITS: u32 = 1 << 28;

/// How far to go at once, and to where. Whoever follows a repository keeps one, so that nothing is asked twice.
#[derive(Debug, Default)]
pub struct Way {
    /// Where the last stretch began.
    from: Option<ObjectId>,
    /// The head, then commits on the way to it, the nearest last.
    targets: Vec<ObjectId>,
    /// Commits at once; all, until that was too much.
    stretch: Option<u32>,
}

impl Way {
    /// Fetches everything up to `head`, or as much of the way to it as is not too much: what came, and up to where.
    pub(super) fn go(
        &mut self,
        remote: &mut Remote,
        accepted: &Snapshot,
        head: ObjectId,
        limits: &Limits,
        progress: &mut dyn Progress,
    ) -> Result<(ObjectId, Objects), RemoteError> {
        let from = accepted.head();
        let known = accepted.objects();
        self.begin(from, head);
        loop {
            let most = match self.stretch {
                Some(1) => u64::MAX,
                _ => AT_ONCE,
            };
            let bounds = Limits {
                inflated: limits.inflated.min(most),
                held: limits.held.min(most),
                ..limits.clone()
            };
            if let Some(stretch) = self.stretch {
                let mut look = Lookout {
                    remote: &mut *remote,
                    from,
                    stretch,
                    limits: &bounds,
                    progress: &mut *progress,
                };
                match look.out(&mut self.targets) {
                    Err(error) if is_too_much(&error) && self.narrow() => continue,
                    other => other?,
                }
            }
            let target = self.targets.last().copied().unwrap_or(head);
            let want = Want {
                ids: &[target],
                have: &[from],
                depth: None,
            };
            let mut bases = Bases(&known);
            let came = match self.stretch.is_some() && remote.filters()? {
                true => sparse(remote, &want, &known, [&bounds, limits], progress),
                false => remote.fetch(&want, &bounds, &mut bases, progress),
            };
            match came {
                Ok(new) if commits(&new) > limits.commits && self.narrow() => {}
                Err(error) if is_too_much(&error) && self.narrow() => {}
                other => return Ok((target, other?)),
            }
        }
    }

    fn begin(&mut self, from: ObjectId, head: ObjectId) {
        let arrived = self.targets.first() == Some(&from);
        if arrived {
            self.stretch = None;
        }
        // From where the last stretch began nothing came of it, so what is remembered is of no use.
        if self.targets.first() != Some(&head) || self.from == Some(from) {
            self.targets = vec![head];
        }
        self.from = Some(from);
        if self.targets.len() > 1 && self.targets.last() == Some(&from) {
            self.targets.pop();
        }
    }

    /// A shorter stretch, unless there is none.
    fn narrow(&mut self) -> bool {
        let shorter = match self.stretch {
            None => FIRST,
            Some(1) => return false,
            Some(stretch) => (stretch / 4).max(1),
        };
        self.stretch = Some(shorter);
        true
    }
}

/// A stretch without the folders on the way: first commits with the tree at the top of each, then what is in their folders `trust`, and
/// everything that the last one has. Bounds are those of the first question and of the others.
fn sparse(
    remote: &mut Remote,
    want: &Want<'_>,
    known: &Objects,
    [bounds, limits]: [&Limits; 2],
    progress: &mut dyn Progress,
) -> Result<Objects, RemoteError> {
    let mut bases = Bases(known);
    let filter = Some("tree:1");
    let mut new = remote.fetch_without(filter, want, bounds, &mut bases, progress)?;
    let mut ids: BTreeSet<ObjectId> = new
        .iter()
        .filter(|(_, (kind, _))| *kind == Kind::Commit)
        .filter_map(|(id, (_, commit))| {
            let format = id.kind();
            let top = gix_object::CommitRefIter::from_bytes(commit, format).tree_id();
            let top = top.ok()?;
            let (_, bytes) = new.get(&top).or_else(|| known.get(&top))?;
            // A tree that is no good is said to be that by whoever judges the commit.
            let mut entries = gix_object::TreeRefIter::from_bytes(bytes, format);
            let trust = entries.find_map(|entry| entry.ok().filter(|it| it.filename == "trust"));
            trust.map(|entry| entry.oid.to_owned())
        })
        .filter(|id| !known.contains_key(id) && !new.contains_key(id))
        .collect();
    ids.extend(want.ids);
    let ids: Vec<ObjectId> = ids.into_iter().collect();
    for ids in ids.chunks(FOLDERS) {
        let want = Want {
            ids,
            have: want.have,
            depth: Some(1),
        };
        new.extend(remote.fetch(&want, limits, &mut bases, progress)?);
    }
    Ok(new)
}

/// Asks for commits on the way.
struct Lookout<'a> {
    remote: &'a mut Remote,
    from: ObjectId,
    stretch: u32,
    limits: &'a Limits,
    progress: &'a mut dyn Progress,
}

impl Lookout<'_> {
    /// Puts commits in front of the head until the nearest is within a stretch.
    fn out(&mut self, targets: &mut Vec<ObjectId>) -> Result<(), RemoteError> {
        while let Some(&target) = targets.last()
            && targets.len() < MOST_TARGETS
            && let Some(nearer) = self.nearer(target)?
        {
            targets.push(nearer);
        }
        Ok(())
    }

    /// A commit between `from` and `target` that all ways lead through, if possible about half the way back; `None` when they are within
    /// a stretch, or when there is none.
    fn nearer(&mut self, target: ObjectId) -> Result<Option<ObjectId>, RemoteError> {
        let mut depths = Vec::new();
        let mut depth = self.stretch + 1;
        while depth < MOST_COMMITS
            && self.remote.boundary(target, Some(self.from), depth)? != Boundary::Passed
        {
            depths.push(depth);
            depth *= 2;
        }
        while let Some(depth) = depths.pop() {
            // What was asked with `from` does not list it where it is one of several.
            let found = match self.at(target, depth)? {
                single if single.len() == 1 => single.first().copied(),
                several => self.around(target, depth, several)?,
            };
            if let Some(found) = found.filter(|id| *id != self.from && *id != target) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn at(&mut self, target: ObjectId, depth: u32) -> Result<Vec<ObjectId>, RemoteError> {
        Ok(match self.remote.boundary(target, None, depth)? {
            Boundary::At(commits) => commits,
            Boundary::Passed => Vec::new(),
        })
    }

    /// Looks at the commits of a stretch in front of `depth`.
    fn around(
        &mut self,
        target: ObjectId,
        depth: u32,
        bottom: Vec<ObjectId>,
    ) -> Result<Option<ObjectId>, RemoteError> {
        let above = depth - self.stretch.min(depth - 1);
        let cut = self.at(target, above)?;
        let top = self.at(target, above + 1)?;
        let objects = self
            .remote
            .region(target, &cut, depth, self.limits, self.progress)?;
        let parents = objects
            .iter()
            .filter(|(_, (kind, _))| *kind == Kind::Commit)
            .map(|(id, (_, bytes))| (*id, parents(bytes, id.kind())));
        Ok(waist(&parents.collect(), &top, &bottom))
    }
}

fn parents(commit: &[u8], format: Format) -> Vec<ObjectId> {
    let names = gix_object::CommitRefIter::from_bytes(commit, format);
    // An improper one has none here: whoever accepts it or what is behind it says so.
    names.parent_ids().collect()
}

/// The farthest commit that all ways through a piece of history lead through, from the commits on one depth (`top`) to those on another
/// (`bottom`). A parent that is not in the piece is in front of it, but for those of `bottom`: the way comes by `top` again.
fn waist(
    piece: &HashMap<ObjectId, Vec<ObjectId>>,
    top: &[ObjectId],
    bottom: &[ObjectId],
) -> Option<ObjectId> {
    let inside = |id: &ObjectId| piece.get(id).into_iter().flatten();
    // How many of the commits reached from the top have this one as a parent.
    let mut children: HashMap<ObjectId, usize> = HashMap::new();
    let mut reached: HashSet<ObjectId> = top.iter().copied().collect();
    let mut open: Vec<ObjectId> = reached.iter().copied().collect();
    while let Some(id) = open.pop() {
        for parent in inside(&id).filter(|parent| piece.contains_key(*parent)) {
            *children.entry(*parent).or_default() += 1;
            if reached.insert(*parent) {
                open.push(*parent);
            }
        }
    }
    // Children first. `begun` are those that a way has come to and that were not passed yet.
    let mut begun: HashSet<ObjectId> = top.iter().copied().collect();
    let is_ready = |id: &ObjectId, children: &HashMap<ObjectId, usize>| {
        children.get(id).copied().unwrap_or(0) == 0
    };
    let mut ready: Vec<ObjectId> = begun
        .iter()
        .copied()
        .filter(|id| is_ready(id, &children))
        .collect();
    let mut found = None;
    while let Some(id) = ready.pop() {
        if begun.len() == 1 {
            found = Some(id);
        }
        if bottom.contains(&id) {
            break;
        }
        begun.remove(&id);
        for parent in inside(&id).filter(|parent| piece.contains_key(*parent)) {
            begun.insert(*parent);
            if let Some(left) = children.get_mut(parent) {
                *left -= 1;
                if *left == 0 {
                    ready.push(*parent);
                }
            }
        }
    }
    found
}

fn commits(objects: &Objects) -> usize {
    let is_commit = |(kind, _): &&(Kind, Vec<u8>)| *kind == Kind::Commit;
    objects.values().filter(is_commit).count()
}

/// Whether a shorter stretch would bring less of what was too much.
fn is_too_much(error: &RemoteError) -> bool {
    matches!(
        error,
        RemoteError::Pack(PackError::Objects { .. } | PackError::Inflated(_))
            | RemoteError::Http(HttpError::TooLarge(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId::try_from(&[n; 20][..]).expect("20 bytes")
    }

    fn of(piece: &[(u8, &[u8])], top: &[u8], bottom: &[u8]) -> Option<u8> {
        let ids = |numbers: &[u8]| numbers.iter().map(|n| id(*n)).collect::<Vec<_>>();
        let piece = piece.iter().map(|(n, parents)| (id(*n), ids(parents)));
        waist(&piece.collect(), &ids(top), &ids(bottom)).map(|id| id.as_slice()[0])
    }

    #[test]
    fn the_farthest_commit_that_all_ways_lead_through_is_found() {
        // 9 and 8 come together in 7; 5 and 4 are beside each other again.
        let piece: &[(u8, &[u8])] = &[
            (9, &[7]),
            (8, &[7]),
            (7, &[6]),
            (6, &[5, 4]),
            (5, &[3]),
            (4, &[2]),
        ];
        assert_eq!(of(piece, &[9, 8], &[5, 4]), Some(6));
        assert_eq!(of(piece, &[9, 8], &[7]), Some(7));
        // Each of the two goes its own way.
        assert_eq!(of(&[(9, &[7]), (8, &[6])], &[9, 8], &[9, 8]), None);
        // A branch of two commits merged by each commit of the trunk, 9 -> 6 -> 3: the parents in front of the piece lead back to 6.
        let piece: &[(u8, &[u8])] = &[(7, &[6]), (6, &[3, 5]), (5, &[4]), (4, &[3]), (3, &[1])];
        assert_eq!(of(piece, &[6, 7], &[3]), Some(3));
        assert_eq!(of(&[], &[], &[]), None);
    }
}
