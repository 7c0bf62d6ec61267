// SPDX-License-Identifier: Apache-2.0
//! What reaches the card on the way, and what is fetched when a part of what was there is gone, rotten or unreadable.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use racklet_fetch::{
    cache::{ArriveError, Cache},
    disk::Disk,
    http::HttpError,
    limits::Limits,
    progress::Silent,
    publish,
    rack::{self, Kept, Outcome, RackStore, TreeError},
    remote::RemoteError,
};
use racklet_trust::{Digest, floors::Floors, manifest::Kind};
use support::{
    disk::MemDisk,
    package::{Package, noise},
    world::World,
};

const FOLDER: &str = "/state/cache";

/// Small enough to come at once, and larger than what is held before anybody vouches for it.
fn small_and_large() -> [Package; 2] {
    [
        Package::payload(1, &noise(2_000_000, 1), b"initramfs"),
        Package::new(
            Kind::Artifact,
            "web",
            1,
            &[("rootfs", &noise(9_000_000, 2))],
        ),
    ]
}

fn chunk_file(digest: Digest) -> PathBuf {
    Path::new(FOLDER).join(publish::chunk_path(digest))
}

fn named(package: &Package) -> BTreeSet<PathBuf> {
    package
        .chunks
        .keys()
        .map(|digest| chunk_file(*digest))
        .collect()
}

/// Chunk files that were on the disk at any moment since it records.
fn ever_written(disk: &MemDisk) -> BTreeSet<PathBuf> {
    let cuts = disk.cuts();
    let paths = cuts.iter().flat_map(|(_, left)| left.paths());
    let chunks = Path::new(FOLDER).join("chunks");
    paths.filter(|path| path.starts_with(&chunks)).collect()
}

#[test]
fn nothing_is_written_before_somebody_has_vouched_for_it() {
    for package in small_and_large() {
        let world = World::empty("sha1");
        world.publish(&package, "config");
        let disk = MemDisk::recording();
        let cache = Cache::open(&disk, FOLDER).unwrap();
        let (arrived, _) = world.fetch(&cache, &package, &[]);
        let error = arrived.unwrap_err();
        assert!(matches!(error, ArriveError::Manifest { .. }), "{error}");
        assert_eq!(ever_written(&disk), BTreeSet::new());
        assert_eq!(disk.used(), 0);
    }
}

#[test]
fn only_chunks_that_the_manifest_names_are_ever_written() {
    for mut package in small_and_large() {
        let world = World::empty("sha1");
        for n in 0..40 {
            let packed = zstd_like(&noise(100_000, 100 + n));
            let path = publish::chunk_path(racklet_fetch::chunk::sha256(&packed));
            package.extra.push((path, packed));
        }
        world.publish(&package, "payload");
        let disk = MemDisk::recording();
        let cache = Cache::open(&disk, FOLDER).unwrap();
        let (arrived, _) = world.fetch(&cache, &package, &[]);
        assert!(arrived.unwrap().not_cached.is_none());
        assert_eq!(ever_written(&disk), named(&package));
    }
}

/// Begins like a chunk.
fn zstd_like(bytes: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd][..], bytes].concat()
}

/// A pack of nothing but blobs that begin like chunks, in the side band.
fn pack_of_chunks(count: u32) -> Vec<u8> {
    let mut pack = [b"PACK\0\0\0\x02", &count.to_be_bytes()[..]].concat();
    for n in 0..count {
        let blob = zstd_like(&noise(1_000_000, n.into()));
        let size = blob.len();
        // Type 3, the low four bits of the size, then seven at a time (gitformat-pack.txt).
        let digits = [
            0xb0 | size & 15,
            0x80 | size >> 4 & 127,
            0x80 | size >> 11 & 127,
            size >> 18,
        ];
        pack.extend(digits.map(|digit| u8::try_from(digit).unwrap()));
        let mut zlib = flate2::write::ZlibEncoder::new(pack, flate2::Compression::none());
        std::io::Write::write_all(&mut zlib, &blob).unwrap();
        pack = zlib.finish().unwrap();
    }
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &pack);
    pack.extend_from_slice(digest.as_ref());
    let mut body = b"000dpackfile\n".to_vec();
    for piece in pack.chunks(60_000) {
        body.extend_from_slice(format!("{:04x}\x01", piece.len() + 5).as_bytes());
        body.extend_from_slice(piece);
    }
    body.extend_from_slice(b"0000");
    body
}

#[test]
fn chunks_before_all_else_are_held_up_to_a_bound_and_then_refused() {
    let world = World::empty("sha1");
    let [_, package] = small_and_large();
    world.publish(&package, "payload");
    // Made before anybody waits for it: a busy machine takes longer over it than a server may.
    let kind = "application/x-git-upload-pack-result";
    let chunks = support::server::answer("200 OK", kind, &pack_of_chunks(60));
    world.server.script(move |request, honest, send| {
        let fetches = String::from_utf8_lossy(&request.body).contains("command=fetch");
        if fetches {
            send(&chunks);
        } else {
            send(&honest);
        }
    });
    let disk = MemDisk::recording();
    let cache = Cache::open(&disk, FOLDER).unwrap();
    let (arrived, remote) = world.fetch(&cache, &package, &[]);
    let error = arrived.unwrap_err();
    assert!(
        matches!(
            error,
            ArriveError::Tree {
                error: TreeError::Missing(_),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(ever_written(&disk), BTreeSet::new());
    assert!(remote.received() < 8 << 20, "{}", remote.received());
}

#[test]
fn chunks_that_no_entry_names_are_removed_when_the_cache_opens() {
    let world = World::empty("sha1");
    let package = Package::payload(1, &noise(600_000, 1), b"initramfs");
    world.publish(&package, "payload");
    let disk = MemDisk::default();
    let cache = Cache::open(&disk, FOLDER).unwrap();
    world.fetch(&cache, &package, &[]).0.unwrap();
    let whole = disk.used();
    let stray = chunk_file(Digest::of(b"stray"));
    let leave = || {
        disk.create_folder(stray.parent().unwrap()).unwrap();
        disk.create(&stray).unwrap().write_all(b"stray").unwrap();
    };
    leave();
    Cache::open(&disk, FOLDER).unwrap();
    assert_eq!(disk.used(), whole);
    // As long as nobody knows what an entry needs, nothing of it is lost.
    leave();
    let entry = Path::new(FOLDER).join(format!("payloads/{}", package.digest()));
    disk.unreadable
        .borrow_mut()
        .insert(entry.join("manifest.json"));
    Cache::open(&disk, FOLDER).unwrap();
    disk.unreadable.borrow_mut().clear();
    let cache = Cache::open(&disk, FOLDER).unwrap();
    assert!(cache.is_whole(&package.manifest));
}

#[test]
fn a_fetch_that_was_cut_goes_on_where_it_ended() {
    let world = World::empty("sha1");
    let package = Package::new(
        Kind::Artifact,
        "web",
        1,
        &[("rootfs", &noise(16_000_000, 2))],
    );
    world.publish(&package, "payload");
    let disk = MemDisk::default();
    let cache = Cache::open(&disk, FOLDER).unwrap();
    // The sixth request, the second for chunks, is cut in its middle, and nothing comes after it.
    let count = std::sync::atomic::AtomicUsize::new(0);
    world.server.script(move |_, honest, send| {
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..5 => send(&honest),
            5 => send(&honest[..honest.len() / 2]) && send(&[]),
            _ => send(&[]),
        };
    });
    let (arrived, remote) = world.fetch(&cache, &package, &[]);
    let error = arrived.unwrap_err();
    assert!(
        matches!(
            error,
            ArriveError::Remote(RemoteError::Http(HttpError::Cut(_)))
        ),
        "{error}"
    );
    let first = remote.received();
    assert!(disk.used() > 5_000_000, "{}", disk.used());
    world.server.set(support::server::Mode::Honest);
    let (arrived, _) = world.fetch(&cache, &package, &[]);
    let report = arrived.unwrap().report;
    // What is held before the manifest is known comes again; nothing else of what was here does, but for single folders.
    assert!(
        report.received + first < 16_000_000 + (8 << 20),
        "{first}, then {report:?}"
    );
    assert!(report.reused_chunks >= 8, "{report:?}");
}

/// Something happens to some of a cached payload's chunks.
type Damage = fn(&MemDisk, &Path);

const DAMAGES: [(&str, Damage); 4] = [
    ("gone", |disk, path| disk.remove(path).unwrap()),
    ("rotten", |disk, path| disk.rot(path)),
    ("cut", |disk, path| drop(disk.create(path).unwrap())),
    ("unreadable", |disk, path| {
        disk.unreadable.borrow_mut().insert(path.to_owned());
    }),
];

#[test]
fn a_chunk_that_is_gone_rotten_or_unreadable_is_fetched_alone() {
    let world = World::empty("sha1");
    let small = Package::payload(1, &noise(2_000_000, 1), b"initramfs");
    let large = Package::payload(2, &noise(9_000_000, 2), b"initramfs");
    for package in [&small, &large] {
        world.publish(package, "payload");
        let disk = MemDisk::default();
        world
            .fetch(&Cache::open(&disk, FOLDER).unwrap(), package, &[])
            .0
            .unwrap();
        let chunks: Vec<&Digest> = package.chunks.keys().collect();
        for (what, damage) in DAMAGES {
            for damaged in [&chunks[..1], &chunks[1..4]] {
                let disk = disk.copy();
                for chunk in damaged {
                    damage(&disk, &chunk_file(**chunk));
                }
                let cache = Cache::open(&disk, FOLDER).unwrap();
                let (arrived, _) = world.fetch(&cache, package, &[]);
                let arrived = arrived.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(arrived.not_cached.is_none(), "{what}");
                assert_eq!(arrived.report.new_chunks, damaged.len(), "{what}");
                let sizes: usize = damaged
                    .iter()
                    .map(|chunk| package.chunks[chunk].len())
                    .sum();
                let most = sizes as u64 + 50_000;
                assert!(arrived.report.received < most, "{what}: {arrived:?}");
                // And it is on the disk again, for the next start.
                let cache = Cache::open(&disk, FOLDER).unwrap();
                for chunk in damaged {
                    let bytes = disk.read(&chunk_file(**chunk), 1 << 21).unwrap();
                    assert!(bytes == package.chunks[chunk], "{what}");
                }
                assert!(cache.is_whole(&package.manifest), "{what}");
            }
        }
    }
}

#[test]
fn what_was_found_damaged_does_not_count_as_here() {
    let world = World::empty("sha1");
    let package = Package::payload(1, &noise(2_000_000, 1), b"initramfs");
    world.publish(&package, "payload");
    let disk = MemDisk::default();
    world
        .fetch(&Cache::open(&disk, FOLDER).unwrap(), &package, &[])
        .0
        .unwrap();
    let chunk = chunk_file(package.manifest.files[0].chunks[1].sha256);
    for (what, damage) in DAMAGES {
        let disk = disk.copy();
        damage(&disk, &chunk);
        let cache = Cache::open(&disk, FOLDER).unwrap();
        let manifest = cache
            .manifest(Kind::Payload, package.digest(), &world.root)
            .unwrap()
            .unwrap();
        cache.files(&manifest, 1 << 30, &mut Silent).unwrap_err();
        assert!(!cache.is_whole(&manifest), "{what}");
        // It is not thrown away: what cannot be read now may be readable later, and what is rotten harms nobody.
        assert_eq!(disk.paths().contains(&chunk), what != "gone", "{what}");
    }
}

#[test]
fn a_damaged_payload_on_a_disk_that_nobody_can_write_starts_all_the_same() {
    let world = World::empty("sha1");
    let package = Package::payload(1, &noise(2_000_000, 1), b"initramfs");
    world.publish(&package, "payload");
    let disk = MemDisk::default();
    world
        .fetch(&Cache::open(&disk, FOLDER).unwrap(), &package, &[])
        .0
        .unwrap();
    let chunk = chunk_file(package.manifest.files[0].chunks[1].sha256);
    disk.unreadable.borrow_mut().insert(chunk);
    *disk.capacity.borrow_mut() = Some(0);
    let (arrived, _) = world.fetch(&Cache::open(&disk, FOLDER).unwrap(), &package, &[]);
    let arrived = arrived.unwrap();
    assert_eq!(arrived.files.len(), 2);
    assert!(arrived.not_cached.is_some());
}

#[test]
fn a_kept_head_that_is_gone_rotten_or_unreadable_is_fetched_anew() {
    let world = World::empty("sha1");
    let config = world.place.key("config");
    let root = world.place.trust_root(1, &["config"]);
    world.repository.write_root(&root, &[]);
    world.repository.commit(&config);
    world.repository.push();
    let bring = || {
        let mut remote = world.server.remote("rack");
        let limits = &Limits::RACK;
        let Outcome::New(fetched) =
            rack::fetch(&mut remote, "refs/heads/main", None, limits, &mut Silent).unwrap()
        else {
            panic!("unchanged")
        };
        fetched
            .verify(&world.place.first_boot(&["config"]))
            .unwrap()
    };
    let (folder, floors) = (Path::new("/state/git/rack"), Floors::default());
    for (what, damage) in DAMAGES {
        let disk = MemDisk::default();
        let store = RackStore::new(&disk, folder);
        store.keep(Kept::Accepted, &bring()).unwrap();
        damage(&disk, &folder.join("head"));
        let reopened = store.reopen(Kept::Accepted, &world.root, &floors, &Limits::RACK);
        assert_eq!(reopened.is_ok(), what == "gone", "{what}");
        assert!(reopened.unwrap_or_default().is_none(), "{what}");
        store.keep(Kept::Accepted, &bring()).unwrap();
        let head = store
            .reopen(Kept::Accepted, &world.root, &floors, &Limits::RACK)
            .unwrap()
            .unwrap();
        assert_eq!(
            head.head().id.to_string(),
            world.repository.head(),
            "{what}"
        );
    }
}
