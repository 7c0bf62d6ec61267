// SPDX-License-Identifier: Apache-2.0
//! Histories in memory, one sentence each.

use alloc::{format, string::String, vec::Vec};
use core::convert::Infallible;
use std::collections::BTreeMap;

use super::*;
use crate::{
    Digest, namespace,
    root::Roles,
    testing::{Keypair, roles, signed_commit, trust_root},
};

/// Trees are named by what is in `trust/`; everything else in them is of no interest here.
#[derive(Default)]
struct Memory {
    commits: BTreeMap<ObjectId, Vec<u8>>,
    trust: BTreeMap<ObjectId, Vec<RootDocument>>,
}

impl Repository for Memory {
    type Error = Infallible;

    fn commit(&self, id: &ObjectId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.commits.get(id).cloned())
    }

    fn approvals(&self, _: &ObjectId) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(Vec::new())
    }

    fn trust_tree(&self, tree: &ObjectId) -> Result<Option<ObjectId>, Infallible> {
        Ok(self.trust.contains_key(tree).then_some(*tree))
    }

    fn root_document(
        &self,
        tree: &ObjectId,
        version: u64,
    ) -> Result<Option<RootDocument>, Infallible> {
        let index = usize::try_from(version - 1).unwrap();
        Ok(self.trust[tree].get(index).cloned())
    }
}

fn name(bytes: &[u8]) -> ObjectId {
    ObjectId::Sha256(Digest::of(bytes))
}

/// A trust root document of `version`, signed by `signers`.
fn document(version: u64, roles: Roles, signers: &[u8]) -> RootDocument {
    let bytes = trust_root(version, roles).to_canonical();
    let sign = |seed: &u8| Keypair::new(*seed).sign(namespace::TRUST_ROOT, &bytes);
    RootDocument {
        signatures: signers.iter().map(sign).collect(),
        bytes,
    }
}

fn first() -> RootDocument {
    document(1, roles(1, &[1]), &[1])
}

impl Memory {
    fn tree(&mut self, trust: &[RootDocument]) -> ObjectId {
        let id = name(format!("{trust:?}").as_bytes());
        self.trust.insert(id, trust.to_vec());
        id
    }

    fn make_with(
        &mut self,
        parents: &[ObjectId],
        signer: u8,
        message: &str,
        trust: &[RootDocument],
    ) -> ObjectId {
        let tree = self.tree(trust);
        let parents: String = parents.iter().map(|p| format!("parent {p}\n")).collect();
        let unsigned = format!(
            "tree {tree}\n{parents}author A <a@b> 5 +0000\ncommitter A <a@b> {} +0000\n\n{message}\n",
            1_790_000_000 + self.commits.len()
        );
        let raw = signed_commit(&unsigned, &Keypair::new(signer), "gpgsig-sha256");
        let id = name(&raw);
        self.commits.insert(id, raw);
        id
    }

    fn make(&mut self, parents: &[ObjectId], signer: u8, message: &str) -> ObjectId {
        self.make_with(parents, signer, message, &[first()])
    }
}

fn accepted(head: Option<ObjectId>) -> Accepted {
    Accepted {
        head,
        generation: 10,
        root: trust_root(1, roles(1, &[1])),
        floors: Floors::default(),
    }
}

fn outcome(memory: &Memory, base: ObjectId, head: ObjectId) -> Result<u64, String> {
    follow(memory, &accepted(Some(base)), head)
        .map(|head| head.generation)
        .map_err(|error| format!("{error}"))
}

#[test]
fn signed_commits_behind_the_accepted_head_are_followed() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let a = memory.make(&[base], 1, "a");
    let b = memory.make(&[a], 1, "b");
    assert_eq!(outcome(&memory, base, b), Ok(12));
    assert_eq!(outcome(&memory, base, base), Ok(10));
    let head = follow(&memory, &accepted(Some(base)), b).unwrap();
    assert_eq!(head.time, 1_790_000_002);
}

#[test]
fn one_unauthorised_commit_on_the_way_spoils_the_head() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let stranger = memory.make(&[base], 9, "stranger");
    let head = memory.make(&[stranger], 1, "head");
    let error = outcome(&memory, base, head).unwrap_err();
    assert!(error.contains(&format!("{stranger}")), "{error}");
    assert!(error.contains("is not a config key"), "{error}");
}

#[test]
fn force_pushes_and_old_heads_are_refused() {
    let mut memory = Memory::default();
    let root = memory.make(&[], 1, "root");
    let base = memory.make(&[root], 1, "base");
    let other = memory.make(&[root], 1, "rewritten");
    for head in [other, root] {
        let error = outcome(&memory, base, head).unwrap_err();
        assert!(error.contains("does not descend"), "{error}");
    }
}

#[test]
fn a_merge_needs_every_commit_it_brings_in_to_be_authorised() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let ours = memory.make(&[base], 1, "ours");
    let theirs = memory.make(&[base], 1, "theirs");
    let stranger = memory.make(&[base], 9, "stranger");
    let good = memory.make(&[ours, theirs], 1, "merge");
    assert_eq!(outcome(&memory, base, good), Ok(13));
    let bad = memory.make(&[ours, stranger], 1, "merge");
    assert!(
        outcome(&memory, base, bad)
            .unwrap_err()
            .contains("not a config key")
    );
}

#[test]
fn a_merge_of_another_history_is_refused() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let ours = memory.make(&[base], 1, "ours");
    let unrelated = memory.make(&[], 1, "unrelated");
    let merge = memory.make(&[ours, unrelated], 1, "merge");
    assert!(
        outcome(&memory, base, merge)
            .unwrap_err()
            .contains("rebase it")
    );
}

#[test]
fn a_cut_history_is_refused() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let a = memory.make(&[base], 1, "a");
    let head = memory.make(&[a], 1, "head");
    memory.commits.remove(&a);
    assert!(
        outcome(&memory, base, head)
            .unwrap_err()
            .contains("is missing")
    );
}

#[test]
fn a_removed_key_counts_no_more_and_an_added_one_only_afterwards() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let both = [first(), document(2, roles(1, &[2]), &[1, 2])];
    // The rotation itself is judged by the old root: the new key cannot let itself in.
    let by_new = memory.make_with(&[base], 2, "rotate", &both);
    assert!(
        outcome(&memory, base, by_new)
            .unwrap_err()
            .contains("not a config key")
    );
    let rotated = memory.make_with(&[base], 1, "rotate", &both);
    let by_added = memory.make_with(&[rotated], 2, "new key", &both);
    let by_removed = memory.make_with(&[rotated], 1, "old key", &both);
    let head = follow(&memory, &accepted(Some(base)), by_added).unwrap();
    assert_eq!(head.root.version(), 2);
    assert!(
        outcome(&memory, base, by_removed)
            .unwrap_err()
            .contains("not a config key")
    );
}

#[test]
fn a_root_that_its_predecessor_did_not_sign_is_refused() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let forged = memory.make_with(
        &[base],
        1,
        "forged",
        &[first(), document(2, roles(1, &[9]), &[9])],
    );
    let error = outcome(&memory, base, forged).unwrap_err();
    assert!(error.contains("trust root version 2 is refused"), "{error}");
    assert!(error.contains("1 signature by root keys needed"), "{error}");
}

#[test]
fn a_root_in_force_cannot_be_changed_or_dropped() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    for trust in [&[][..], &[document(1, roles(1, &[1, 2]), &[1])]] {
        let head = memory.make_with(&[base], 1, "change", trust);
        assert!(
            outcome(&memory, base, head)
                .unwrap_err()
                .contains("is not the trust root that is in force")
        );
    }
}

#[test]
fn a_root_rotated_several_times_while_the_tray_was_off_is_followed() {
    let mut memory = Memory::default();
    let mut trust = Vec::from([first()]);
    let base = memory.make_with(&[], 1, "base", &trust);
    let mut head = base;
    for version in 2..=4u8 {
        let (old, new) = (version - 1, version);
        trust.push(document(version.into(), roles(1, &[new]), &[old, new]));
        head = memory.make_with(&[head], old, "rotate", &trust);
    }
    assert_eq!(
        follow(&memory, &accepted(Some(base)), head)
            .unwrap()
            .root
            .version(),
        4
    );
    // The same on a first boot, from the tree alone.
    let last = memory.make_with(&[head], 4, "after", &trust);
    assert_eq!(alone(&memory, last), Ok(4));
    // The commit that brought version 4 was signed by a key of version 3, as it had to be.
    assert_eq!(alone(&memory, head), Ok(4));
    let by_older = memory.make_with(&[head], 2, "older", &trust);
    assert!(
        alone(&memory, by_older)
            .unwrap_err()
            .contains("not a config key")
    );
}

fn alone(memory: &Memory, head: ObjectId) -> Result<u64, String> {
    follow(memory, &accepted(None), head)
        .map(|head| head.root.version())
        .map_err(|error| format!("{error}"))
}

#[test]
fn on_a_first_boot_the_head_must_be_signed_and_lead_from_the_baked_root() {
    let mut memory = Memory::default();
    let good = memory.make(&[], 1, "good");
    assert!(follow(&memory, &accepted(None), good).is_ok());
    let stranger = memory.make(&[], 9, "stranger");
    assert!(follow(&memory, &accepted(None), stranger).is_err());
    let other_rack = memory.make_with(&[], 1, "other", &[document(1, roles(1, &[1, 3]), &[1])]);
    assert!(follow(&memory, &accepted(None), other_rack).is_err());
}

/// A line of so many commits behind `base`. Unsigned on purpose: the bound has to bite before any signature is checked.
fn line(memory: &mut Memory, base: ObjectId, commits: usize) -> ObjectId {
    let tree = memory.tree(&[first()]);
    (0..commits).fold(base, |head, _| {
        let raw = format!(
            "tree {tree}\nparent {head}\nauthor A <a> 5 +0000\ncommitter A <a> 5 +0000\n\n.\n"
        );
        let head = name(raw.as_bytes());
        memory.commits.insert(head, raw.into_bytes());
        head
    })
}

#[test]
fn a_line_of_one_commit_more_than_a_step_may_have_is_refused_before_any_signature_is_looked_at() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let last = line(&mut memory, base, MAX_COMMITS);
    let refused = outcome(&memory, base, last).unwrap_err();
    assert!(!refused.contains("commits since"), "{refused}");
    let beyond = line(&mut memory, last, 1);
    let refused = outcome(&memory, base, beyond).unwrap_err();
    assert!(refused.contains("more than 10000 commits"), "{refused}");
}

#[test]
fn the_bound_counts_each_commit_of_merged_branches_once() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let mut head = base;
    for n in 0..10 {
        let sides = ["a", "b"].map(|side| memory.make(&[head], 1, &format!("{side} {n}")));
        head = memory.make(&sides, 1, &format!("merge {n}"));
    }
    let within = |most| follow_within(&memory, &accepted(Some(base)), head, most);
    assert_eq!(
        within(30).unwrap().generation,
        accepted(Some(base)).generation + 30
    );
    assert!(matches!(within(29), Err(Rejected::TooLong(29))));
}

/// A base of generation 10 is long forgotten; the floors know what came up to generation 20.
fn remembered(trust_root: u64, newest: ObjectId, time: u64) -> Floors {
    Floors {
        trust_root,
        head: Some((newest, 20)),
        time,
        ..Floors::default()
    }
}

/// The time of the commit that was made as number `n`.
fn moment(n: u64) -> u64 {
    1_790_000_000 + n
}

fn under(
    memory: &Memory,
    base: Option<ObjectId>,
    floors: &Floors,
    head: ObjectId,
) -> Result<u64, String> {
    let mut before = accepted(base);
    before.floors = floors.clone();
    if base.is_none() {
        before = Accepted::nothing(before.root, before.floors);
    }
    follow(memory, &before, head)
        .map(|head| head.generation)
        .map_err(|error| format!("{error}"))
}

#[test]
fn without_a_kept_head_nothing_older_than_the_floors_is_followed() {
    let mut memory = Memory::default();
    let old = memory.make(&[], 1, "old");
    let newest = memory.make(&[old], 1, "newest");
    let next = memory.make(&[newest], 1, "next");
    let floors = remembered(1, newest, moment(1));
    let refused = under(&memory, None, &floors, old).unwrap_err();
    assert!(refused.contains("an old state of the rack"), "{refused}");
    assert_eq!(
        under(&memory, None, &floors, newest),
        Ok(20),
        "it is the floor"
    );
    assert_eq!(under(&memory, None, &floors, next), Ok(21));
    let beyond = Floors {
        trust_root: 2,
        ..floors
    };
    let refused = under(&memory, None, &beyond, next).unwrap_err();
    assert!(refused.contains("below this tray's floor 2"), "{refused}");
}

#[test]
fn an_older_kept_head_leads_over_the_floors_head_or_to_a_later_date() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let mut way = Vec::from([base]);
    for n in 1..=12 {
        way.push(memory.make(&[way[n - 1]], 1, "on the way"));
    }
    // Counted from the base of generation 10, the floor's head would be of 15.
    let floors = remembered(1, way[5], moment(5));
    assert_eq!(under(&memory, Some(base), &floors, way[12]), Ok(22));
    assert_eq!(under(&memory, Some(base), &floors, way[6]), Ok(21));
    assert_eq!(under(&memory, Some(base), &floors, way[5]), Ok(20));
    for old in [base, way[4]] {
        let refused = under(&memory, Some(base), &floors, old).unwrap_err();
        assert!(refused.contains("an old state of the rack"), "{refused}");
    }
    // The floor's head is unknown to everybody else: a spelling of commit 10 that only this tray was shown.
    let floors = remembered(1, name(b"respelled"), moment(10));
    assert_eq!(under(&memory, Some(base), &floors, way[10]), Ok(21));
    assert_eq!(under(&memory, Some(base), &floors, way[11]), Ok(21));
    let refused = under(&memory, Some(base), &floors, way[9]).unwrap_err();
    assert!(refused.contains("generation 19"), "{refused}");
    assert_eq!(under(&memory, None, &floors, way[10]), Ok(21), "alone");
    let refused = under(&memory, None, &floors, way[9]).unwrap_err();
    assert!(refused.contains("signed before the newest"), "{refused}");
}

#[test]
fn a_clock_that_went_back_between_two_commits_does_no_harm_where_descent_is_proved() {
    let mut memory = Memory::default();
    let base = memory.make(&[], 1, "base");
    let next = memory.make(&[base], 1, "next");
    let floors = Floors {
        head: Some((base, 10)),
        time: moment(1000),
        ..Floors::default()
    };
    assert_eq!(under(&memory, Some(base), &floors, next), Ok(11));
    assert!(under(&memory, None, &floors, next).is_err(), "alone");
}

#[test]
fn a_removed_key_counts_no_more_where_only_the_floors_are_left() {
    let mut memory = Memory::default();
    let both = [first(), document(2, roles(1, &[2]), &[1, 2])];
    let base = memory.make(&[], 1, "base");
    let rotated = memory.make_with(&[base], 1, "rotate", &both);
    let honest = memory.make_with(&[rotated], 2, "honest", &both);
    let stolen = memory.make_with(&[rotated], 1, "by the removed key", &both);
    let beside = memory.make_with(&[base], 1, "brings the root again", &both);
    let knows = remembered(2, honest, moment(2));
    for (base, head) in [(None, stolen), (None, beside), (Some(base), beside)] {
        let refused = under(&memory, base, &knows, head).unwrap_err();
        assert!(refused.contains("not a config key"), "{refused}");
    }
    // The commit that brought the root was signed by the old key, as it had to be; it is the very head accepted before.
    let floors = remembered(2, rotated, moment(1));
    assert_eq!(under(&memory, None, &floors, rotated), Ok(20));
    assert_eq!(under(&memory, None, &floors, honest), Ok(21));
    // Floors that do not know the newest root: the head may be the one that brings it.
    let floors = remembered(1, base, moment(0));
    assert_eq!(under(&memory, None, &floors, rotated), Ok(21));
}
