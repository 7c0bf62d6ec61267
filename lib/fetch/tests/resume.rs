// SPDX-License-Identifier: Apache-2.0
//! What is here does not come again: after a cut, over a restart, and whatever package it came with first.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use racklet_fetch::{
    cache::{ArriveError, AssembleError, Cache, Report},
    publish::{self, CHUNK_LIST},
    remote::RemoteError,
};
use racklet_trust::manifest::Kind;
use support::{
    disk::MemDisk,
    package::{Package, noise},
    world::World,
};

const FOLDER: &str = "/state/cache";

fn image(name: &str, version: u64, rootfs: &[u8]) -> Package {
    Package::new(Kind::Artifact, name, version, &[("rootfs", rootfs)])
}

/// One try, after a restart.
fn fetch(world: &World, disk: &MemDisk, package: &Package) -> (Result<Report, ArriveError>, u64) {
    let cache = Cache::open(disk, FOLDER).unwrap();
    let (arrived, remote) = world.fetch(&cache, package, &[]);
    let report = arrived.map(|arrived| {
        assert!(arrived.not_cached.is_none());
        arrived.report
    });
    (report, remote.received())
}

/// The next `times` packs with chunks are cut at 40 %, and nothing comes behind them.
fn cut(world: &World, times: usize) -> Arc<AtomicUsize> {
    let left = Arc::new(AtomicUsize::new(times));
    let counter = left.clone();
    world.server.script(move |_, honest, send| {
        let take = |n: usize| n.checked_sub(1);
        let order = Ordering::Relaxed;
        if honest.len() > 500_000 && counter.fetch_update(order, order, take).is_ok() {
            send(&honest[..honest.len() * 2 / 5]);
            send(&[]);
        } else {
            send(&honest);
        }
    });
    left
}

#[test]
fn a_package_that_is_cut_five_times_at_two_fifths_costs_a_fifth_more_than_itself_at_most() {
    const SIZE: usize = 24_000_000;
    let kernel = noise(SIZE, 1);
    for package in [
        Package::payload(1, &kernel, b"initramfs"),
        image("web", 1, &kernel),
    ] {
        let world = World::empty("sha1");
        world.publish_for_good(&package);
        let disk = MemDisk::default();
        let left = cut(&world, 5);
        let mut received = 0;
        for _ in 0..5 {
            let (arrived, bytes) = fetch(&world, &disk, &package);
            let error = arrived.unwrap_err();
            assert!(matches!(error, ArriveError::Remote(_)), "{error}");
            received += bytes;
        }
        assert_eq!(left.load(Ordering::Relaxed), 0);
        let (arrived, bytes) = fetch(&world, &disk, &package);
        received += bytes;
        assert!(arrived.unwrap().reused_chunks > 50);
        assert!(received < SIZE as u64 * 6 / 5, "{received}");
    }
}

#[test]
fn a_second_image_with_the_same_base_brings_what_differs_whatever_its_name() {
    let world = World::empty("sha256");
    let disk = MemDisk::default();
    let mut rootfs = noise(12_000_000, 3);
    let first = image("web", 1, &rootfs);
    world.publish_for_good(&first);
    let (arrived, _) = fetch(&world, &disk, &first);
    assert!(arrived.unwrap().reused_chunks == 0);
    rootfs.extend(noise(200_000, 4));
    let second = image("mail", 1, &rootfs);
    world.publish_for_good(&second);
    let (arrived, received) = fetch(&world, &disk, &second);
    let report = arrived.unwrap();
    assert!(report.new_chunks <= 3, "{report:?}");
    assert!(received < 1_000_000, "{received}");
    // Nothing at all differs but the name.
    let third = image("wiki", 1, &rootfs);
    world.publish_for_good(&third);
    let (arrived, received) = fetch(&world, &disk, &third);
    assert_eq!(arrived.unwrap().new_chunks, 0);
    assert!(received < 50_000, "{received}");
}

#[test]
fn what_a_cut_left_stays_until_somebody_says_what_is_kept() {
    let world = World::empty("sha1");
    let package = image("web", 1, &noise(6_000_000, 5));
    world.publish_for_good(&package);
    let disk = MemDisk::default();
    cut(&world, 1);
    fetch(&world, &disk, &package).0.unwrap_err();
    let chunks = |disk: &MemDisk| {
        let paths = disk.paths().into_iter();
        let chunks = paths.filter(|path| path.starts_with("/state/cache/chunks"));
        chunks.count()
    };
    let left = chunks(&disk);
    assert!(left > 5, "{left}");
    let cache = Cache::open(&disk, FOLDER).unwrap();
    assert_eq!(chunks(&disk), left);
    assert_eq!(cache.claims(Kind::Artifact).unwrap(), []);
    cache.retain(&[package.digest()]).unwrap();
    assert_eq!(chunks(&disk), left);
    cache.retain(&[]).unwrap();
    assert_eq!(disk.used(), 0);
}

#[test]
fn what_a_cut_left_makes_room_for_what_is_wanted_now() {
    let world = World::empty("sha1");
    let begun = image("web", 1, &noise(3_000_000, 9));
    let wanted = image("mail", 1, &noise(3_000_000, 10));
    for package in [&begun, &wanted] {
        world.publish_for_good(package);
    }
    let disk = MemDisk::default();
    cut(&world, 1);
    fetch(&world, &disk, &begun).0.unwrap_err();
    let left = disk.used();
    assert!(left > 800_000, "{left}");
    // Chunks and image, and not what was left.
    *disk.capacity.borrow_mut() = Some(6_200_000);
    fetch(&world, &disk, &wanted).0.unwrap();
    let cache = Cache::open(&disk, FOLDER).unwrap();
    assert_eq!(cache.claims(Kind::Artifact).unwrap().len(), 1);
    assert!(disk.used() < 6_200_000);
}

#[test]
fn a_ref_or_a_list_that_somebody_spoilt_costs_a_question_where_the_branch_is_good() {
    let rootfs = noise(3_000_000, 6);
    let good = image("web", 1, &rootfs);
    let other = image("other", 1, &noise(3_000_000, 7));
    let spoilt: [(&str, Vec<u8>); 4] = [
        (CHUNK_LIST, b"nothing of ours".to_vec()),
        (CHUNK_LIST, Vec::new()),
        // As many lines as there are chunks, with objects that nobody has.
        (
            CHUNK_LIST,
            format!("{}\n", "ab".repeat(20))
                .repeat(good.chunks.len())
                .into(),
        ),
        (publish::MANIFEST_PATH, other.manifest.to_canonical()),
    ];
    for (path, bytes) in spoilt {
        let world = World::empty("sha1");
        world.publish(&good, "payload");
        let mut package = image("web", 1, &rootfs);
        package.extra.push((path.to_owned(), bytes));
        // The branch stays the good one: the spoilt package goes to another.
        let branch = world.repository.bare.join("refs/heads/artifact/web");
        let kept = std::fs::read(&branch).unwrap();
        let mut spoilt = package;
        spoilt.manifest = image("web", 1, &rootfs).manifest;
        spoilt.publish_as(
            &world.repository,
            &[&world.place.key("payload")],
            &publish::manifest_ref(good.digest()),
        );
        std::fs::write(&branch, kept).unwrap();
        let disk = MemDisk::default();
        fetch(&world, &disk, &good)
            .0
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        // Alone, it is refused, and nothing stays.
        std::fs::remove_file(&branch).unwrap();
        let disk = MemDisk::default();
        let error = fetch(&world, &disk, &good).0.unwrap_err();
        let refused = matches!(
            error,
            ArriveError::NotPinned(_)
                | ArriveError::Assemble(AssembleError::Missing(_))
                | ArriveError::Remote(RemoteError::Server(_))
        );
        assert!(refused, "{path}: {error}");
        let chunks = disk.paths().into_iter();
        let chunks = chunks.filter(|path| path.starts_with("/state/cache/chunks"));
        assert_eq!(chunks.count(), 0);
    }
}

#[test]
fn a_list_that_exchanges_two_chunks_is_noticed() {
    let world = World::empty("sha1");
    let rootfs = noise(3_000_000, 8);
    let good = image("web", 1, &rootfs);
    world.publish_for_good(&good);
    let name = publish::manifest_ref(good.digest());
    let list = format!("{name}:{CHUNK_LIST}");
    let bare = world.repository.bare.to_str().unwrap();
    let list = world
        .repository
        .git(&["--git-dir", bare, "cat-file", "blob", &list]);
    let mut lines: Vec<&str> = list.lines().collect();
    lines.swap(0, 1);
    let mut spoilt = image("web", 1, &rootfs);
    spoilt
        .extra
        .push((CHUNK_LIST.to_owned(), (lines.join("\n") + "\n").into()));
    world.publish_as(&spoilt, &name);
    // Both came, each under the other's name: what they are, their bytes say.
    fetch(&world, &MemDisk::default(), &good).0.unwrap();
    lines[0] = lines[2];
    let mut spoilt = image("web", 1, &rootfs);
    spoilt
        .extra
        .push((CHUNK_LIST.to_owned(), (lines.join("\n") + "\n").into()));
    world.publish_as(&spoilt, &name);
    let branch = world.repository.bare.join("refs/heads/artifact/web");
    std::fs::remove_file(branch).unwrap();
    let error = fetch(&world, &MemDisk::default(), &good).0.unwrap_err();
    assert!(matches!(error, ArriveError::Assemble(_)), "{error}");
}

#[test]
fn a_host_that_takes_nothing_but_branches_has_older_versions_too() {
    let world = World::empty("sha1");
    let [old, new] = [1, 2].map(|version| image("web", version, &noise(1_000_000, version)));
    for package in [&old, &new] {
        world.publish_as(package, &publish::manifest_branch(package.digest()));
    }
    fetch(&world, &MemDisk::default(), &old).0.unwrap();
    fetch(&world, &MemDisk::default(), &new).0.unwrap();
}
