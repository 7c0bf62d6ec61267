// SPDX-License-Identifier: Apache-2.0
//! Racks that want more than one key for a commit, with many commits, on hosts of either sort.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use gix_hash::ObjectId;
use racklet_fetch::{
    limits::Limits,
    progress::Silent,
    rack::{self, Outcome, RackTree, approval_branch, approval_ref},
};
use racklet_trust::{
    TrustRoot, Verified,
    digest::Hex,
    floors::Floors,
    history::Accepted,
    root::{RoleKeys, Roles},
};
use support::{
    chain,
    git::{Place, Repository},
    history::{History, Signer},
    server::Server,
};

const TIME: u64 = 1_785_000_000;

/// Four keys may change the rack, of which a commit needs so many.
fn root(threshold: u8) -> TrustRoot {
    let keys = |threshold, seeds: &[u8]| RoleKeys {
        threshold,
        keys: seeds
            .iter()
            .map(|seed| Signer::new(*seed).public())
            .collect(),
    };
    let roles = Roles {
        root: keys(1, &[100]),
        config: keys(threshold, &[1, 2, 3, 4]),
        payload: keys(1, &[100]),
        firmware: keys(1, &[100]),
    };
    TrustRoot::new(Hex([7; 16]), 1, roles).unwrap()
}

/// How an approval is put on the server.
#[derive(Clone, Copy)]
enum Put {
    Ref,
    Branch,
    /// Under the name of another key.
    Misnamed,
}

/// A served rack whose first commit was accepted, and what is made behind it.
struct World {
    repository: Repository,
    server: Server,
    history: History,
    tree: ObjectId,
    head: ObjectId,
    refs: Vec<String>,
    accepted: RackTree,
    _place: Place,
}

impl World {
    fn new(threshold: u8) -> Self {
        let place = Place::new();
        let repository = place.repository("rack", "sha256");
        let server = Server::start(place.served());
        let mut history = History::from(TIME);
        let bytes = root(threshold).to_canonical();
        let signature = Signer::new(100).sign("trust-root@racklet.dev", &bytes);
        let signature = history.blob(signature.as_bytes());
        let signatures = history.tree(&[("1.sig", false, signature)]);
        let document = history.blob(&bytes);
        let version = [
            ("root.json", false, document),
            ("signatures", true, signatures),
        ];
        let version = history.tree(&version);
        let trust = history.tree(&[("1", true, version)]);
        let tree = history.tree(&[("trust", true, trust)]);
        let head = history.commit(tree, &[], &Signer::new(1));
        let baked = Verified::<TrustRoot>::baked(&bytes).unwrap();
        let mut refs = Vec::new();
        for seed in 2..=threshold {
            let signature = Signer::new(seed).sign("approval@racklet.dev", &history.signed);
            let blob = history.blob(signature.as_bytes());
            refs.push(format!(
                "{blob} {}",
                approval_ref(head, &Signer::new(seed).public())
            ));
        }
        history.push(&repository, head);
        pack_refs(&repository, &refs);
        let nothing = Accepted::nothing(baked, Floors::default());
        let accepted = look(&server, None).unwrap().verify(&nothing).unwrap();
        Self {
            repository,
            server,
            history: History::from(TIME),
            tree,
            head,
            refs,
            accepted,
            _place: place,
        }
    }

    fn commit(&mut self) {
        self.head = self
            .history
            .commit(self.tree, &[self.head], &Signer::new(1));
    }

    /// An approval of the commit made last.
    fn approve(&mut self, seed: u8, put: Put) {
        let signed = self.history.signed.clone();
        let armored = Signer::new(seed).sign("approval@racklet.dev", &signed);
        let blob = self.history.blob(armored.as_bytes());
        let name = |seed| Signer::new(seed).public();
        let (id, name) = match put {
            Put::Ref => (blob, approval_ref(self.head, &name(seed))),
            Put::Misnamed => (blob, approval_ref(self.head, &name(seed + 1))),
            Put::Branch => {
                let tree = self.history.tree(&[("approval", false, blob)]);
                let commit = self.history.commit(tree, &[], &Signer::new(200));
                self.history.signed = signed;
                (commit, approval_branch(self.head, &name(seed)))
            }
        };
        self.refs.push(format!("{id} {name}"));
    }

    /// Names that begin like those of approvals, and are none.
    fn junk(&mut self, count: usize) {
        for n in 0..count {
            let name = approval_ref(self.head, &Signer::new(2).public());
            let id = self.head;
            self.refs.push(format!("{id} {name}-{n}"));
        }
    }

    /// What a tray makes of it all, and the bytes that it sent.
    fn judge(&mut self) -> Result<RackTree, String> {
        let history = std::mem::replace(&mut self.history, History::from(TIME));
        self.history.signed.clone_from(&history.signed);
        history.push(&self.repository, self.head);
        pack_refs(&self.repository, &self.refs);
        let fetched = look(&self.server, Some(&self.accepted))?;
        let tree = fetched.verify(&self.accepted.accepted());
        tree.map_err(|error| chain(&error))
    }

    fn follows(&mut self) {
        let tree = self.judge().unwrap();
        assert_eq!(tree.head().id.to_string(), self.head.to_string());
    }
}

fn look(server: &Server, before: Option<&RackTree>) -> Result<Box<rack::Fetched>, String> {
    let mut remote = server.remote("rack");
    let known = before.map(RackTree::snapshot);
    let limits = &Limits::RACK;
    match rack::fetch(&mut remote, "refs/heads/main", known, limits, &mut Silent) {
        Ok(Outcome::New(fetched)) => Ok(fetched),
        Ok(Outcome::Unchanged) => panic!("unchanged"),
        Err(error) => Err(chain(&error)),
    }
}

fn pack_refs(repository: &Repository, refs: &[String]) {
    let mut refs = refs.to_vec();
    refs.sort_by(|a, b| {
        a.split_once(' ')
            .unwrap()
            .1
            .cmp(b.split_once(' ').unwrap().1)
    });
    let lines: String = refs.iter().map(|line| format!("{line}\n")).collect();
    let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{lines}");
    std::fs::write(repository.bare.join("packed-refs"), packed).unwrap();
}

#[test]
fn three_thousand_commits_with_two_approvals_each_are_followed() {
    let mut world = World::new(3);
    for n in 0..3000 {
        world.commit();
        // Whoever has time approves.
        world.approve(if n % 2 == 0 { 2 } else { 3 }, Put::Ref);
        world.approve(4, Put::Ref);
    }
    world.follows();
}

#[test]
fn approvals_in_branches_count_like_those_in_refs_of_their_own() {
    let mut world = World::new(3);
    for n in 0..30 {
        world.commit();
        let put = |yes| if yes { Put::Branch } else { Put::Ref };
        world.approve(2, put(n % 2 == 0));
        world.approve(3, put(n % 3 == 0));
    }
    world.follows();
    world.accepted = world.judge().unwrap();
    world.commit();
    world.approve(2, Put::Branch);
    let refused = world.judge().unwrap_err();
    assert!(refused.contains(&world.head.to_string()), "{refused}");
}

#[test]
fn an_approval_under_the_name_of_another_key_does_not_count() {
    let mut world = World::new(2);
    world.commit();
    world.approve(2, Put::Misnamed);
    let refused = world.judge().unwrap_err();
    assert!(refused.contains(&world.head.to_string()), "{refused}");
    world.approve(2, Put::Ref);
    world.follows();
}

#[test]
fn names_without_number_that_begin_like_an_approvals_cost_their_own_commit_and_no_other() {
    let mut world = World::new(2);
    for _ in 0..20 {
        world.commit();
        world.approve(2, Put::Ref);
        world.junk(1200);
    }
    world.follows();
}

#[test]
fn more_than_a_thousand_approvals_of_commits_that_nobody_has_seen_stop_no_tray_that_needs_one_key()
{
    let mut world = World::new(1);
    for _ in 0..501 {
        world.commit();
        world.approve(2, Put::Ref);
        world.approve(3, Put::Branch);
    }
    world.follows();
}
