// SPDX-License-Identifier: Apache-2.0
//! Trays that were off for long: a head that is far away is come to in stretches, each of them bounded.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{path::Path, process::Command, time::Duration};

use gix_hash::ObjectId;
use racklet_fetch::{
    disk::Files,
    limits::Limits,
    progress::Silent,
    rack::{self, Kept, Outcome, RackStore, RackTree, Way},
    remote::{Remote, RemoteConfig},
    tls::Authorities,
};
use racklet_trust::{
    TrustRoot, Verified,
    digest::Hex,
    floors::Floors,
    history::Accepted,
    root::{RoleKeys, Roles},
};
use support::{
    git::{Place, Repository},
    history::{Folder, History, Signer},
    server::{NOW, Server},
};

const TIME: u64 = 1_785_000_000;

/// What following may take, in KiB: the program, what is kept of the rack, and one stretch.
const MEMORY: u64 = 32 * 1024;

/// The trust root of `version`, whose only `config` key is that of this seed.
fn trust_root(version: u64) -> TrustRoot {
    let keys = |seed: u8| RoleKeys {
        threshold: 1,
        keys: vec![Signer::new(seed).public()],
    };
    let roles = Roles {
        root: keys(100),
        config: keys(u8::try_from(version).unwrap()),
        payload: keys(100),
        firmware: keys(100),
    };
    TrustRoot::new(Hex([7; 16]), version, roles).unwrap()
}

fn baked() -> Verified<TrustRoot> {
    Verified::<TrustRoot>::baked(&trust_root(1).to_canonical()).unwrap()
}

/// The folder `trust` with the versions up to this one.
fn trust(history: &mut History, newest: u64) -> ObjectId {
    let mut names = Vec::new();
    for version in 1..=newest {
        let bytes = trust_root(version).to_canonical();
        let signature = Signer::new(100).sign("trust-root@racklet.dev", &bytes);
        let signature = history.blob(signature.as_bytes());
        let root = history.blob(&bytes);
        let signatures = history.tree(&[("1.sig", false, signature)]);
        let entries = [("root.json", false, root), ("signatures", true, signatures)];
        names.push((version.to_string(), history.tree(&entries)));
    }
    let entries: Vec<_> = names
        .iter()
        .map(|(name, id)| (&**name, true, *id))
        .collect();
    history.tree(&entries)
}

/// A served rack, its first commit accepted, and what comes behind it.
struct World {
    place: Place,
    repository: Repository,
    server: Server,
    history: History,
    base: ObjectId,
    trust: ObjectId,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let repository = place.repository("rack", "sha256");
        let server = Server::start(place.served());
        let mut history = History::from(TIME);
        let trust = trust(&mut history, 1);
        let file = history.blob(b"first");
        let tree = history.tree(&[("file", false, file), ("trust", true, trust)]);
        let base = history.commit(tree, &[], &Signer::new(1));
        history.push(&repository, base);
        let world = Self {
            place,
            repository,
            server,
            history: History::from(TIME),
            base,
            trust,
        };
        let first = world
            .look(&mut Way::default(), None, &Limits::RACK)
            .unwrap();
        world.store().keep(Kept::Accepted, &first).unwrap();
        world
    }

    fn store(&self) -> RackStore<Files> {
        RackStore::new(Files, self.place.dir.path().join("state"))
    }

    /// One more commit, with its number in a file.
    fn commit(&mut self, n: usize, parents: &[ObjectId], seed: u8) -> ObjectId {
        let file = self.history.blob(n.to_string().as_bytes());
        let entries = [("file", false, file), ("trust", true, self.trust)];
        let tree = self.history.tree(&entries);
        self.history.commit(tree, parents, &Signer::new(seed))
    }

    fn push(&mut self, head: ObjectId) {
        let history = std::mem::replace(&mut self.history, History::from(TIME));
        history.push(&self.repository, head);
    }

    /// One look at the server, as a tray does it; `None` when nothing is new.
    fn look(&self, way: &mut Way, before: Option<&RackTree>, limits: &Limits) -> Option<RackTree> {
        look(&mut self.server.remote("rack"), way, before, limits)
    }

    /// Looks until nothing is new: the trees accepted.
    fn catch_up(&self, limits: &Limits) -> Vec<RackTree> {
        let store = self.store();
        let first = store.reopen(Kept::Accepted, &baked(), &Floors::default(), &Limits::RACK);
        let mut trees = vec![first.unwrap().unwrap()];
        let mut way = Way::default();
        while let Some(tree) = self.look(&mut way, trees.last(), limits) {
            trees.push(tree);
        }
        trees
    }
}

fn look(
    remote: &mut Remote,
    way: &mut Way,
    before: Option<&RackTree>,
    limits: &Limits,
) -> Option<RackTree> {
    let snapshot = before.map(RackTree::snapshot);
    let branch = "refs/heads/main";
    let listed = rack::look(remote, branch, limits).unwrap();
    let outcome = rack::fetch_along(way, remote, listed, snapshot, limits, &mut Silent).unwrap();
    let Outcome::New(fetched) = outcome else {
        return None;
    };
    let nothing = || Accepted::nothing(baked(), Floors::default());
    Some(
        fetched
            .verify(&before.map_or_else(nothing, RackTree::accepted))
            .unwrap(),
    )
}

/// A rack of so many files, of which each commit changes one, followed by a tray in a process of its own: stretches, KiB of memory, bytes.
fn large_rack(commits: usize, files: usize, filters: bool) -> [u64; 3] {
    let mut world = World::new();
    if filters {
        let bare = world.repository.bare.to_str().unwrap();
        let allow = [
            "--git-dir",
            bare,
            "config",
            "uploadpack.allowFilter",
            "true",
        ];
        world.repository.git(&allow);
    }
    let one = world.history.blob(b"one of many");
    let mut folder = Folder::new(files, one);
    let (mut head, mut version) = (world.base, 1);
    for n in 0..commits {
        let signer = version;
        if n == commits / 2 {
            version += 1;
            world.trust = trust(&mut world.history, version.into());
        }
        let file = world.history.blob(n.to_string().as_bytes());
        let workloads = world.history.edit(&mut folder, n % files, file);
        let top = [("trust", true, world.trust), ("workloads", true, workloads)];
        let tree = world.history.tree(&top);
        head = world.history.commit(tree, &[head], &Signer::new(signer));
    }
    world.push(head);
    catch_up_elsewhere(&world, head, commits as u64 + 1, version.into())
}

#[test]
fn four_hundred_commits_of_a_rack_of_four_thousand_files_are_accepted_in_little_memory() {
    let [stretches, peak, received] = large_rack(400, 4096, false);
    println!("{stretches} stretches, at most {peak} KiB, {received} bytes");
    // Fetched at once it is more than anybody may make a tray hold.
    assert!(stretches > 2, "{stretches}");
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
fn from_a_server_that_leaves_folders_out_thousands_of_commits_of_a_large_rack_come_in_little_memory()
 {
    let [stretches, peak, received] = large_rack(2500, 4096, true);
    println!("{stretches} stretches, at most {peak} KiB, {received} bytes");
    // With their folders, these are 580 MB.
    assert!(stretches <= 4, "{stretches}");
    assert!(peak < MEMORY, "{peak} KiB");
}

fn twenty_thousand_commits_of_four_thousand_files(filters: bool) {
    let [stretches, peak, received] = large_rack(20_000, 4096, filters);
    println!("{stretches} stretches, at most {peak} KiB, {received} bytes");
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
#[ignore = "takes minutes: run with --ignored --nocapture"]
fn twenty_thousand_commits_of_four_thousand_files_come_without_folders_in_little_memory() {
    twenty_thousand_commits_of_four_thousand_files(true);
}

#[test]
#[ignore = "takes minutes: run with --ignored --nocapture"]
fn twenty_thousand_commits_of_four_thousand_files_come_with_folders_in_little_memory() {
    twenty_thousand_commits_of_four_thousand_files(false);
}

/// Follows a history in which every commit behind `trunk` more merges branches of so many commits.
fn merged(sections: usize, trunk: usize, branches: [usize; 2]) {
    let mut world = World::new();
    let (mut head, mut n) = (world.base, 0);
    for _ in 0..sections {
        let mut next = |parents: &[ObjectId]| {
            n += 1;
            world.commit(n, parents, 1)
        };
        for _ in 0..trunk {
            head = next(&[head]);
        }
        let ends = branches.map(|commits| (0..commits).fold(head, |end, _| next(&[end])));
        head = next(&ends);
    }
    world.push(head);
    // Everything at once is several times this; a piece of history as deep as the longest branch is within it.
    let limits = Limits {
        objects: 1200,
        ..Limits::RACK
    };
    let trees = world.catch_up(&limits);
    let last = trees.last().unwrap();
    assert_eq!(last.head().id.to_string(), head.to_string());
    assert_eq!(last.head().generation, n as u64 + 1);
    assert!(trees.len() > 4, "{}", trees.len());
}

#[test]
fn what_was_begun_beside_a_commit_on_the_way_can_be_merged_behind_it() {
    // Two branches that come together; and a branch merged into a trunk that did not move, each time, as hosts do it.
    merged(40, 7, [3, 40]);
    merged(300, 0, [0, 5]);
}

#[test]
fn a_commit_that_nobody_may_make_is_refused_on_the_way_too() {
    let mut world = World::new();
    let mut head = world.base;
    let mut bad = head;
    for n in 0..200 {
        let seed = if n == 90 { 66 } else { 1 };
        head = world.commit(n, &[head], seed);
        if n == 90 {
            bad = head;
        }
    }
    world.push(head);
    let limits = Limits {
        objects: 100,
        ..Limits::RACK
    };
    let store = world.store();
    let mut tree = store
        .reopen(Kept::Accepted, &baked(), &Floors::default(), &Limits::RACK)
        .unwrap()
        .unwrap();
    let mut way = Way::default();
    let error = loop {
        let mut remote = world.server.remote("rack");
        let known = Some(tree.snapshot());
        let listed = rack::look(&mut remote, "refs/heads/main", &limits).unwrap();
        let looked =
            rack::fetch_along(&mut way, &mut remote, listed, known, &limits, &mut Silent).unwrap();
        let Outcome::New(fetched) = looked else {
            panic!("unchanged")
        };
        match fetched.verify(&tree.accepted()) {
            Ok(next) => tree = next,
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains(&bad.to_string()), "{error}");
    assert!(tree.head().generation <= 91, "{}", tree.head().generation);
}

/// How much memory this process has had at most, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// The tray of the test below, in a process of its own, so that its memory can be told from the server's.
#[test]
fn a_tray_in_its_own_process() {
    let Ok(folder) = std::env::var("RACKLET_TEST_TRAY") else {
        return;
    };
    let read = |name: &str| std::fs::read_to_string(Path::new(&folder).join(name)).unwrap();
    let mut config = RemoteConfig::new(read("url").parse().unwrap(), std::sync::Arc::new(NOW));
    config.authorities = Authorities::Pem(read("ca").into_bytes());
    // The server of these tests sends nothing before it has everything.
    config.timeouts.window = Duration::from_secs(600);
    let mut remote = Remote::new(&config).unwrap();
    let store = RackStore::new(Files, Path::new(&folder).join("state"));
    let (mut way, mut floors, mut stretches) = (Way::default(), Floors::default(), 0);
    loop {
        let kept = store
            .reopen(Kept::Accepted, &baked(), &floors, &Limits::RACK)
            .unwrap();
        let Some(tree) = look(&mut remote, &mut way, kept.as_ref(), &Limits::RACK) else {
            let head = kept.unwrap().head().clone();
            let said = format!(
                "{} {} {} {stretches} {} {}",
                head.id,
                head.generation,
                head.root.version(),
                peak(),
                remote.received()
            );
            std::fs::write(Path::new(&folder).join("said"), said).unwrap();
            return;
        };
        store.keep(Kept::Accepted, &tree).unwrap();
        floors.raise(&tree.head().floors());
        stretches += 1;
    }
}

/// Catches up in a process of its own; how many stretches, KiB of memory at most, bytes received.
fn catch_up_elsewhere(world: &World, head: ObjectId, generation: u64, root: u64) -> [u64; 3] {
    let folder = world.place.dir.path();
    let url = format!("https://127.0.0.1:{}/rack", world.server.port);
    std::fs::write(folder.join("url"), url).unwrap();
    std::fs::write(folder.join("ca"), &world.server.ca).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_tray_in_its_own_process"])
        .env("RACKLET_TEST_TRAY", folder)
        .status();
    assert!(status.unwrap().success());
    let said = std::fs::read_to_string(folder.join("said")).unwrap();
    let words: Vec<&str> = said.split(' ').collect();
    let expected = [head.to_string(), generation.to_string(), root.to_string()];
    assert_eq!(words[..3], expected);
    let number = |n: usize| words[n].parse().unwrap();
    [number(3), number(4), number(5)]
}

/// A tray that was off while its rack made this many commits, with two root rotations in between.
fn off_for(commits: usize) -> [u64; 3] {
    let mut world = World::new();
    let mut head = world.base;
    let mut version = 1;
    for n in 0..commits {
        let signer = version;
        if n == commits / 3 || n == commits / 2 {
            version += 1;
            world.trust = trust(&mut world.history, version.into());
        }
        head = world.commit(n, &[head], signer);
    }
    world.push(head);
    catch_up_elsewhere(&world, head, commits as u64 + 1, version.into())
}

#[test]
fn a_tray_that_was_off_for_more_commits_than_one_look_may_bring_follows_over_rotated_roots() {
    let [stretches, peak, _] = off_for(12_000);
    assert!(stretches > 10, "{stretches}");
    assert!(peak < MEMORY, "{peak} KiB");
}

#[test]
#[ignore = "takes eight minutes: run with --ignored --nocapture"]
fn a_tray_that_was_off_for_a_hundred_thousand_commits_follows_in_bounded_memory() {
    let [stretches, peak, received] = off_for(100_000);
    println!("{stretches} stretches, at most {peak} KiB, {received} bytes");
    assert!(stretches >= 10, "{stretches}");
    // All of it would be 250 MiB.
    assert!(peak < MEMORY, "{peak} KiB");
}
