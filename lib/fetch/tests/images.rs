// SPDX-License-Identifier: Apache-2.0
//! Images on the card: kept once, the source of what the next version has in common with them, and verified by the file system where it
//! can.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::path::{Path, PathBuf};

use racklet_fetch::{
    cache::{Arrived, Cache, Rootfs},
    disk::Disk,
};
use racklet_trust::{Manifest, Verified, manifest::Kind};
use support::{
    disk::MemDisk,
    package::{Package, noise},
    world::World,
};

const FOLDER: &str = "/state/cache";
const SIZE: usize = 6_000_000;

fn image(name: &str, version: u64, rootfs: &[u8]) -> Package {
    Package::new(Kind::Artifact, name, version, &[("rootfs", rootfs)])
}

/// Fetches an image that its manifest's ref leads to, after a restart.
fn bring(world: &World, disk: &MemDisk, package: &Package) -> Arrived {
    let cache = Cache::open(disk, FOLDER).unwrap();
    fetch(world, &cache, package)
}

fn fetch(world: &World, cache: &Cache<&MemDisk>, package: &Package) -> Arrived {
    world.publish_for_good(package);
    let (arrived, _) = world.fetch(cache, package, &[]);
    let arrived = arrived.unwrap();
    assert!(arrived.not_cached.is_none());
    arrived
}

fn rootfs(package: &Package) -> PathBuf {
    Path::new(FOLDER).join(format!("artifacts/{}/rootfs.erofs", package.digest()))
}

fn bytes(disk: &MemDisk, package: &Package) -> Vec<u8> {
    disk.read(&rootfs(package), 1 << 30).unwrap()
}

/// The manifest of an image that is in the cache.
fn kept(world: &World, cache: &Cache<&MemDisk>, package: &Package) -> Verified<Manifest> {
    let (kind, digest) = (package.manifest.kind, package.digest());
    cache.manifest(kind, digest, &world.root).unwrap().unwrap()
}

/// What a start of the hypervisor finds.
fn start(world: &World, disk: &MemDisk, package: &Package) -> Result<Verified<Rootfs>, String> {
    let cache = Cache::open(disk, FOLDER).unwrap();
    let checked = cache.check_rootfs(package.digest(), &kept(world, &cache, package));
    checked.map_err(|error| error.to_string())
}

fn disks() -> [MemDisk; 2] {
    [MemDisk::default(), MemDisk::that_seals()]
}

#[test]
fn an_image_lies_on_the_card_once() {
    for disk in disks() {
        let world = World::empty("sha1");
        let package = image("web", 1, &noise(SIZE, 1));
        bring(&world, &disk, &package);
        assert!(disk.used() < SIZE * 11 / 10, "{}", disk.used());
        let chunks = Path::new(FOLDER).join("chunks");
        assert!(!disk.paths().iter().any(|path| path.starts_with(&chunks)));
    }
}

#[test]
fn the_next_version_and_other_images_take_what_they_have_in_common_from_images_that_are_here() {
    for disk in disks() {
        let world = World::empty("sha256");
        let mut contents = noise(SIZE, 2);
        bring(&world, &disk, &image("web", 1, &contents));
        contents.insert(SIZE / 2, 7);
        for package in [image("web", 2, &contents), image("mail", 1, &contents)] {
            let report = bring(&world, &disk, &package).report;
            let new = usize::from(package.manifest.name == "web");
            assert!(report.new_chunks <= 2 * new, "{report:?}");
            assert!(report.received < 1_000_000, "{report:?}");
            assert!(bytes(&disk, &package) == contents);
        }
    }
}

#[test]
fn of_a_sealed_image_nothing_is_read_at_a_start_and_of_any_other_everything() {
    for disk in disks() {
        let world = World::empty("sha1");
        let package = image("web", 1, &noise(SIZE, 3));
        let arrived = bring(&world, &disk, &package);
        let sealed = disk.seals;
        let verity = package.manifest.files[0].verity.filter(|_| sealed);
        for found in [
            arrived.rootfs.unwrap(),
            start(&world, &disk, &package).unwrap(),
        ] {
            assert_eq!(found.read(), if sealed { 0 } else { SIZE as u64 });
            assert_eq!(found.sealed(), verity);
            assert_eq!(found.path(), rootfs(&package));
        }
        // Whoever reads it would see an error.
        disk.unreadable.borrow_mut().insert(rootfs(&package));
        assert_eq!(start(&world, &disk, &package).is_ok(), sealed);
    }
}

#[test]
fn an_image_that_is_sealed_as_another_is_refused_without_a_look_into_it() {
    let world = World::empty("sha1");
    let disk = MemDisk::that_seals();
    let package = image("web", 1, &noise(SIZE, 4));
    bring(&world, &disk, &package);
    let mut other = noise(SIZE, 4);
    other[SIZE / 3] ^= 1;
    disk.create(&rootfs(&package))
        .unwrap()
        .write_all(&other)
        .unwrap();
    let unsealed = start(&world, &disk, &package).unwrap_err();
    assert!(unsealed.contains("has SHA-256"), "{unsealed}");
    disk.seal(&rootfs(&package)).unwrap();
    let sealed = start(&world, &disk, &package).unwrap_err();
    assert!(sealed.contains("is under fs-verity digest"), "{sealed}");
}

#[test]
fn a_rotten_block_of_a_sealed_image_costs_one_chunk() {
    let world = World::empty("sha1");
    let disk = MemDisk::that_seals();
    let contents = noise(SIZE, 5);
    let package = image("web", 1, &contents);
    bring(&world, &disk, &package);
    disk.rot(&rootfs(&package));
    let cache = Cache::open(&disk, FOLDER).unwrap();
    let manifest = kept(&world, &cache, &package);
    // It starts, since nothing of it is read; whoever reads that block gets an error.
    cache.check_rootfs(package.digest(), &manifest).unwrap();
    cache.probe_rootfs(package.digest()).unwrap_err();
    let refused = cache.check_rootfs(package.digest(), &manifest).unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    let report = fetch(&world, &cache, &package).report;
    assert_eq!(report.new_chunks, 1, "{report:?}");
    assert!(bytes(&disk, &package) == contents);
    cache.probe_rootfs(package.digest()).unwrap();
    assert_eq!(start(&world, &disk, &package).unwrap().read(), 0);
}

#[test]
fn an_image_that_was_altered_spoils_no_other_image() {
    // What is read from it is not verified: the whole that is made of it is.
    let world = World::empty("sha1");
    let disk = MemDisk::default();
    let mut contents = noise(SIZE, 6);
    let first = image("web", 1, &contents);
    bring(&world, &disk, &first);
    disk.rot(&rootfs(&first));
    contents[100] ^= 1;
    let second = image("web", 2, &contents);
    let report = bring(&world, &disk, &second).report;
    assert!(report.new_chunks > 10, "{report:?}");
    assert!(bytes(&disk, &second) == contents);
    // One that is damaged itself is made anew.
    disk.rot(&rootfs(&second));
    let cache = Cache::open(&disk, FOLDER).unwrap();
    let manifest = kept(&world, &cache, &second);
    cache.check_rootfs(second.digest(), &manifest).unwrap_err();
    fetch(&world, &cache, &second);
    assert!(bytes(&disk, &second) == contents);
    assert!(start(&world, &disk, &second).is_ok());
}
