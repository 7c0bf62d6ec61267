// SPDX-License-Identifier: Apache-2.0
//! The power goes at every operation on the disk, and the disk is full at every size.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use racklet_fetch::{
    cache::{ArriveError, Arrived, Cache},
    limits::Limits,
    progress::Silent,
    rack::{self, Kept, Outcome, RackStore, RackTree},
};
use racklet_trust::{Digest, floors::Floors, manifest::Kind};
use support::{
    disk::MemDisk,
    package::{Package, noise},
    world::World,
};

const FOLDER: &str = "/state/cache";

fn fetch(
    world: &World,
    disk: &MemDisk,
    package: &Package,
    keep: &[Digest],
) -> Result<Arrived, ArriveError> {
    let cache = Cache::open(disk, FOLDER).unwrap();
    world.fetch(&cache, package, keep).0
}

/// Whether the cache on `disk` gives all of `package`. A part of it is a failed test.
fn has(world: &World, disk: &MemDisk, package: &Package, what: &str) -> bool {
    let cache = Cache::open(disk, FOLDER).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (kind, digest) = (package.manifest.kind, package.digest());
    let Some(manifest) = cache
        .manifest(kind, digest, &world.root)
        .unwrap_or_else(|error| panic!("{what}: {error}"))
    else {
        return false;
    };
    match kind {
        Kind::Payload => drop(
            cache
                .files(&manifest, 1 << 30, &mut Silent)
                .unwrap_or_else(|error| panic!("{what}: {error}")),
        ),
        _ => drop(
            cache
                .check_rootfs(digest, &manifest)
                .unwrap_or_else(|error| panic!("{what}: {error}")),
        ),
    }
    true
}

/// Payloads are found by their branch, images by the ref of their manifest.
fn publish(world: &World, package: &Package) {
    match package.manifest.kind {
        Kind::Payload => world.publish(package, "payload"),
        _ => world.publish_for_good(package),
    }
}

fn two(kind: Kind) -> [Package; 2] {
    let mut bytes = noise(400_000, 9);
    let package = |version, bytes: &[u8]| match kind {
        Kind::Payload => Package::payload(version, bytes, b"initramfs"),
        _ => Package::new(kind, "web", version, &[("rootfs", bytes)]),
    };
    let first = package(1, &bytes);
    *bytes.last_mut().unwrap() ^= 1;
    [first, package(2, &bytes)]
}

/// Images also on a card that verifies what it reads.
fn kinds_and_disks() -> [(Kind, MemDisk); 3] {
    [
        (Kind::Payload, MemDisk::default()),
        (Kind::Artifact, MemDisk::default()),
        (Kind::Artifact, MemDisk::that_seals()),
    ]
}

#[test]
fn a_power_cut_at_any_operation_of_a_fetch_leaves_whole_entries() {
    for (kind, disk) in kinds_and_disks() {
        let world = World::empty("sha1");
        let [old, new] = two(kind);
        publish(&world, &old);
        fetch(&world, &disk, &old, &[]).unwrap();
        publish(&world, &new);
        let disk = disk.record_from_here();
        fetch(&world, &disk, &new, &[]).unwrap();
        assert_eq!(disk.did("seal"), kind == Kind::Artifact && disk.seals);
        let cuts = disk.cuts();
        assert!(cuts.len() > 30, "{}", cuts.len());
        let mut seen = [false, false];
        for (what, left) in cuts.iter() {
            assert!(
                has(&world, left, &old, what),
                "{what}: the old entry is gone"
            );
            seen[usize::from(has(&world, left, &new, what))] = true;
        }
        assert_eq!(seen, [true, true], "both outcomes must occur");
        // After the last operation it counts, whatever of it the power takes.
        assert!(
            cuts.iter()
                .rev()
                .take(3)
                .all(|(what, left)| has(&world, left, &new, what))
        );
    }
}

#[test]
fn after_a_power_cut_the_fetch_can_be_done_again() {
    for (kind, disk) in kinds_and_disks() {
        let world = World::empty("sha1");
        let [old, new] = two(kind);
        publish(&world, &old);
        fetch(&world, &disk, &old, &[]).unwrap();
        publish(&world, &new);
        let disk = disk.record_from_here();
        fetch(&world, &disk, &new, &[]).unwrap();
        let cuts = disk.cuts();
        // Each is a fetch with a real Git behind it: every fifth will do, as all were looked at above.
        for (what, left) in cuts.iter().step_by(5) {
            let arrived =
                fetch(&world, left, &new, &[]).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(arrived.not_cached.is_none());
            assert!(has(&world, left, &new, what) && has(&world, left, &old, what));
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_of_an_eviction_leaves_whole_entries() {
    let world = World::empty("sha1");
    let disk = MemDisk::default();
    let [old, new] = two(Kind::Payload);
    for package in [&old, &new] {
        publish(&world, package);
        fetch(&world, &disk, package, &[]).unwrap();
    }
    let disk = disk.record_from_here();
    Cache::open(&disk, FOLDER)
        .unwrap()
        .retain(&[new.digest()])
        .unwrap();
    for (what, left) in disk.cuts().iter() {
        assert!(has(&world, left, &new, what), "{what}");
        has(&world, left, &old, what);
    }
    assert!(!has(&world, &disk, &old, "at the end"));
}

#[test]
fn a_full_disk_costs_the_cache_entry_and_nothing_else() {
    let world = World::empty("sha1");
    let [old, new] = two(Kind::Payload);
    let disk = MemDisk::default();
    publish(&world, &old);
    fetch(&world, &disk, &old, &[]).unwrap();
    publish(&world, &new);
    let before = disk.used();
    let whole = disk.copy();
    fetch(&world, &whole, &new, &[]).unwrap();
    let after = whole.used();
    let mut outcomes = [0, 0];
    for capacity in (before..=after).step_by((after - before) / 8) {
        let disk = disk.copy();
        *disk.capacity.borrow_mut() = Some(capacity);
        let arrived = fetch(&world, &disk, &new, &[old.digest()]).unwrap();
        assert_eq!(arrived.files.len(), 2, "it can be started all the same");
        assert_eq!(
            has(&world, &disk, &new, "full"),
            arrived.not_cached.is_none()
        );
        assert!(has(&world, &disk, &old, "full"));
        outcomes[usize::from(arrived.not_cached.is_none())] += 1;
        if let Some(problem) = arrived.not_cached {
            assert_eq!(disk.used(), before, "{problem}: remains are left");
            assert!(problem.to_string().contains("not cached"));
        }
    }
    assert!(outcomes[0] > 0, "no capacity was too small");
}

#[test]
fn an_artifact_that_does_not_fit_is_refused_and_nothing_is_lost() {
    let world = World::empty("sha1");
    let [old, new] = two(Kind::Artifact);
    let disk = MemDisk::default();
    publish(&world, &old);
    fetch(&world, &disk, &old, &[]).unwrap();
    publish(&world, &new);
    let before = disk.used();
    *disk.capacity.borrow_mut() = Some(before + 200_000);
    let error = fetch(&world, &disk, &new, &[old.digest()]).unwrap_err();
    assert!(matches!(error, ArriveError::Disk(_)), "{error}");
    assert!(has(&world, &disk, &old, "full"));
    assert_eq!(disk.used(), before);
}

#[test]
fn a_full_disk_makes_room_by_evicting_what_is_not_kept() {
    let world = World::empty("sha1");
    let [old, _] = two(Kind::Artifact);
    let disk = MemDisk::default();
    publish(&world, &old);
    fetch(&world, &disk, &old, &[]).unwrap();
    let new = Package::new(
        Kind::Artifact,
        "other",
        1,
        &[("rootfs", &noise(400_000, 77))],
    );
    publish(&world, &new);
    // Not enough for the chunks and the image that is made of them, beside the old one.
    *disk.capacity.borrow_mut() = Some(disk.used() + 500_000);
    fetch(&world, &disk, &new, &[]).unwrap();
    assert!(has(&world, &disk, &new, "evicted"));
    assert!(!has(&world, &disk, &old, "evicted"));
}

#[test]
fn a_power_cut_while_a_head_is_kept_leaves_the_old_head_or_the_new_one() {
    let world = World::empty("sha1");
    let config = world.place.key("config");
    world
        .repository
        .write_root(&world.place.trust_root(1, &["config"]), &[]);
    let next = |before: Option<&RackTree>| {
        world.repository.commit(&config);
        world.repository.push();
        let limits = &Limits::RACK;
        let outcome = rack::fetch(
            &mut world.server.remote("rack"),
            "refs/heads/main",
            before.map(RackTree::snapshot),
            limits,
            &mut Silent,
        )
        .unwrap();
        let Outcome::New(fetched) = outcome else {
            panic!("unchanged")
        };
        fetched
            .verify(&before.map_or(world.place.first_boot(&["config"]), RackTree::accepted))
            .unwrap()
    };
    let first = next(None);
    let second = next(Some(&first));
    let disk = MemDisk::default();
    RackStore::new(&disk, "/state/git/rack")
        .keep(Kept::Accepted, &first)
        .unwrap();
    let disk = disk.record_from_here();
    RackStore::new(&disk, "/state/git/rack")
        .keep(Kept::Accepted, &second)
        .unwrap();
    let mut seen = [false, false];
    for (what, left) in disk.cuts().iter() {
        let tree = RackStore::new(left, "/state/git/rack")
            .reopen(
                Kept::Accepted,
                &world.root,
                &Floors::default(),
                &Limits::RACK,
            )
            .unwrap_or_else(|error| panic!("{what}: {error}"))
            .unwrap();
        let is_new = tree.head().id == second.head().id;
        assert!(is_new || tree.head().id == first.head().id, "{what}");
        assert_eq!(tree.head().generation, if is_new { 2 } else { 1 });
        seen[usize::from(is_new)] = true;
    }
    assert_eq!(seen, [true, true]);
}
