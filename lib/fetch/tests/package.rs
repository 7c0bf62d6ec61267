// SPDX-License-Identifier: Apache-2.0
//! Payloads and artifacts, from the real Git over real HTTPS to verified bytes in the cache.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use racklet_fetch::{
    cache::{ArriveError, Arrived, AssembleError, Cache, Pin},
    disk::Files,
    limits::Limits,
    progress::Silent,
};
use racklet_trust::{
    Digest, TrustRoot, Verified,
    manifest::{FileError, Kind, ManifestError},
};
use support::{
    git::{Place, Repository},
    package::{Package, noise},
    server::Server,
};

struct World {
    place: Place,
    repository: Repository,
    server: Server,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let repository = place.repository("rack", "sha1");
        let server = Server::start(place.served());
        Self {
            place,
            repository,
            server,
        }
    }

    fn root(&self) -> Verified<TrustRoot> {
        self.place.baked(&["config"])
    }

    fn cache(&self) -> Cache<Files> {
        Cache::open(Files, self.place.dir.path().join("cache")).unwrap()
    }

    fn publish(&self, package: &Package) -> String {
        package.publish(&self.repository, &[&self.place.key("payload")])
    }

    fn fetch(&self, package: &Package) -> Result<Arrived, ArriveError> {
        self.fetch_pin(&Pin {
            kind: package.manifest.kind,
            name: package.manifest.name.clone(),
            manifest: package.digest(),
        })
    }

    fn fetch_pin(&self, pin: &Pin) -> Result<Arrived, ArriveError> {
        let limits = if pin.kind == Kind::Payload {
            Limits::PAYLOAD
        } else {
            Limits::ARTIFACT
        };
        self.cache().fetch(
            &mut self.server.remote("rack"),
            pin,
            &self.root(),
            &[],
            &limits,
            &mut Silent,
        )
    }

    fn chunk_file(&self, digest: Digest) -> std::path::PathBuf {
        self.place
            .dir
            .path()
            .join("cache")
            .join(racklet_fetch::publish::chunk_path(digest))
    }
}

fn files(arrived: &Arrived) -> Vec<(&str, &[u8])> {
    arrived
        .files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect()
}

#[test]
fn a_payload_arrives_and_is_cached() {
    let world = World::new();
    let (kernel, initramfs) = (noise(3_000_000, 1), noise(1_000_000, 2));
    let package = Package::payload(1, &kernel, &initramfs);
    world.publish(&package);
    let arrived = world.fetch(&package).unwrap();
    assert!(arrived.not_cached.is_none());
    assert!(files(&arrived) == [("kernel", &kernel[..]), ("initramfs", &initramfs[..])]);
    let cache = world.cache();
    let manifest = cache
        .manifest(Kind::Payload, package.digest(), &world.root())
        .unwrap()
        .unwrap();
    let again = cache.files(&manifest, 1 << 30, &mut Silent).unwrap();
    assert!(*again[0].1 == kernel && *again[1].1 == initramfs);
    assert_eq!(cache.claims(Kind::Payload).unwrap()[0].manifest.version, 1);
}

#[test]
fn an_update_brings_only_the_chunks_that_changed() {
    let world = World::new();
    let (mut kernel, initramfs) = (noise(8_000_000, 1), noise(1_000_000, 2));
    let first = Package::payload(1, &kernel, &initramfs);
    world.publish(&first);
    world.fetch(&first).unwrap();
    kernel[4_000_000] ^= 1;
    let second = Package::payload(2, &kernel, &initramfs);
    world.publish(&second);
    let arrived = world.fetch(&second).unwrap();
    assert!(files(&arrived) == [("kernel", &kernel[..]), ("initramfs", &initramfs[..])]);
    assert!(arrived.report.received < 1_000_000, "{:?}", arrived.report);
    assert!(
        arrived.report.new_chunks <= 2 && arrived.report.reused_chunks > 10,
        "{:?}",
        arrived.report
    );
}

#[test]
fn a_large_artifact_is_put_together_on_disk() {
    let world = World::new();
    let mut rootfs = noise(6_000_000, 5);
    rootfs.extend(vec![0; 3_000_000]);
    let first = Package::new(Kind::Artifact, "web", 1, &[("rootfs", &rootfs)]);
    world.publish(&first);
    world.fetch(&first).unwrap();
    rootfs.insert(2_000_000, 7);
    let second = Package::new(Kind::Artifact, "web", 2, &[("rootfs", &rootfs)]);
    world.publish(&second);
    let arrived = world.fetch(&second).unwrap();
    assert!(arrived.report.received < 1_000_000, "{:?}", arrived.report);
    let cache = world.cache();
    let path = cache.rootfs(second.digest());
    assert!(std::fs::read(&path).unwrap() == rootfs);
    cache
        .check_rootfs(second.digest(), &arrived.manifest)
        .unwrap();
    rootfs[0] ^= 1;
    std::fs::write(&path, &rootfs).unwrap();
    let error = cache
        .check_rootfs(second.digest(), &arrived.manifest)
        .unwrap_err();
    assert!(
        matches!(error, AssembleError::File(FileError::Digest { .. })),
        "{error}"
    );
}

/// Nanoseconds that this thread had a processor, and bytes that it wrote to files and connections.
fn spent() -> [u64; 2] {
    let read = |name| std::fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let (times, bytes) = (read("schedstat"), read("io"));
    let written = bytes.lines().find_map(|line| line.strip_prefix("wchar: "));
    [times.split(' ').next(), written].map(|number| number.unwrap().parse().unwrap())
}

/// Bytes of all files in a folder.
fn sizes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => sizes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

/// The figures that are promised; a minute, so only when asked for.
#[test]
#[ignore = "takes a minute: run with --ignored --nocapture"]
fn one_byte_of_100_mib_costs_less_than_1_mib() {
    let world = World::new();
    let mut rootfs = noise(100 << 20, 11);
    for version in [1, 2] {
        let package = Package::new(Kind::Artifact, "web", version, &[("rootfs", &rootfs)]);
        let name = racklet_fetch::publish::manifest_ref(package.digest());
        package.publish_as(&world.repository, &[&world.place.key("payload")], &name);
        let before = spent();
        let arrived = world.fetch(&package).unwrap();
        let after = spent();
        println!("{:?}", arrived.report);
        let [nanoseconds, written] = [0, 1].map(|n| after[n] - before[n]);
        let kept: u64 = sizes(&world.place.dir.path().join("cache"));
        println!(
            "version {version}: {} ms of processor time, {} MiB written, {} MiB kept",
            nanoseconds / 1_000_000,
            written >> 20,
            kept >> 20
        );
        // The image, once for each version that is here.
        assert!(kept <= version * (110 << 20), "{kept}");
        assert!(version == 1 || arrived.report.received <= 1 << 20);
        rootfs[50 << 20] ^= 1;
    }
}

#[test]
fn a_branch_that_moved_on_is_explained() {
    let world = World::new();
    let (old, new) = (
        Package::payload(1, b"kernel 1", b"initramfs"),
        Package::payload(2, b"kernel 2", b"initramfs"),
    );
    world.publish(&old);
    world.publish(&new);
    let error = world.fetch(&old).unwrap_err();
    assert!(
        matches!(&error, ArriveError::NotPinned(explained) if explained.found_version == Some(2)),
        "{error}"
    );
}

#[test]
fn a_pinned_version_is_found_by_its_own_ref_after_the_branch_moved_on() {
    let world = World::new();
    let (old, new) = (
        Package::payload(1, b"kernel 1", b"initramfs"),
        Package::payload(2, b"kernel 2", b"initramfs"),
    );
    let commit = world.publish(&old);
    world.publish(&new);
    let pinned = racklet_fetch::publish::manifest_ref(old.digest());
    support::git::run(
        std::process::Command::new("git")
            .arg("-C")
            .arg(&world.repository.bare)
            .args(["update-ref", &pinned, &commit]),
    );
    assert!(files(&world.fetch(&old).unwrap())[0] == ("kernel", b"kernel 1"));
}

#[test]
fn a_payload_without_good_signatures_is_never_used() {
    let world = World::new();
    let package = Package::payload(1, b"kernel", b"initramfs");
    let manifest = package.manifest.to_canonical();
    let (payload, config) = (world.place.key("payload"), world.place.key("config"));
    let good = payload.sign("manifest@racklet.dev", &manifest);
    for (name, signature) in [
        ("wrong key", config.sign("manifest@racklet.dev", &manifest)),
        ("wrong namespace", payload.sign("git", &manifest)),
        (
            "of another manifest",
            payload.sign("manifest@racklet.dev", b"{}"),
        ),
        ("stripped", Vec::new()),
        ("cut", good[..good.len() / 2].to_vec()),
    ] {
        let mut package = Package::payload(1, b"kernel", b"initramfs");
        package.extra.push(("signatures/0.sig".into(), signature));
        package.publish(&world.repository, &[]);
        let error = world.fetch(&package).unwrap_err();
        assert!(
            matches!(
                error,
                ArriveError::Manifest {
                    error: ManifestError::Unauthorised(_),
                    ..
                }
            ),
            "{name}: {error}"
        );
        assert!(world.cache().claims(Kind::Payload).unwrap().is_empty());
    }
}

#[test]
fn tampered_payloads_are_never_used() {
    let world = World::new();
    let kernel = noise(500_000, 3);
    let good = Package::payload(1, &kernel, b"initramfs");
    let chunk = good.manifest.files[0].chunks[0].sha256;
    let path = racklet_fetch::publish::chunk_path(chunk);

    // The first byte, too: what does not begin like a chunk takes another way.
    for at in [0, 100] {
        let mut other_bytes = Package::payload(1, &kernel, b"initramfs");
        let mut bytes = good.chunks[&chunk].clone();
        bytes[at] ^= 1;
        let came = racklet_fetch::chunk::sha256(&bytes);
        other_bytes.extra.push((path.clone(), bytes));
        world.publish(&other_bytes);
        let error = world.fetch(&good).unwrap_err();
        assert!(
            matches!(
                error,
                ArriveError::Assemble(AssembleError::Altered { chunk: named, found })
                    if (named, found) == (chunk, came)
            ),
            "{error}"
        );
    }

    let mut other_manifest = Package::payload(1, &kernel, b"initramfs");
    other_manifest.manifest.arguments = "init=/bin/sh".into();
    world.publish(&other_manifest);
    assert!(matches!(
        world.fetch(&good).unwrap_err(),
        ArriveError::NotPinned(_)
    ));

    // Signed by mistake or malice, and still no bomb: the length in the manifest is what is decompressed.
    let mut bomb = Package::payload(1, &vec![0; 900_000], b"initramfs");
    bomb.manifest.files[0].chunks[0].length = 10;
    bomb.manifest.files[0].chunks.truncate(1);
    bomb.manifest.files[0].size = 10;
    world.publish(&bomb);
    let error = world.fetch(&bomb).unwrap_err();
    assert!(
        matches!(error, ArriveError::Assemble(AssembleError::Chunk(_))),
        "{error}"
    );

    let mut reordered = Package::payload(1, &noise(2_000_000, 4), b"initramfs");
    reordered.manifest.files[0].chunks.reverse();
    world.publish(&reordered);
    let error = world.fetch(&reordered).unwrap_err();
    assert!(
        matches!(
            error,
            ArriveError::Assemble(AssembleError::File(FileError::Digest { .. }))
        ),
        "{error}"
    );
    assert!(world.cache().claims(Kind::Payload).unwrap().is_empty());
}

#[test]
fn a_manifest_of_another_name_is_refused() {
    let world = World::new();
    let mut package = Package::payload(1, b"kernel", b"initramfs");
    world.publish(&package);
    let digest = package.digest();
    package.manifest.name = "other".into();
    package.publish(&world.repository, &[]);
    let pin = Pin {
        kind: Kind::Payload,
        name: "edge".into(),
        manifest: digest,
    };
    support::git::run(
        std::process::Command::new("git")
            .arg("-C")
            .arg(&world.repository.bare)
            .args(["branch", "payload/edge", "payload/stable"]),
    );
    assert!(matches!(
        world.fetch_pin(&pin).unwrap_err(),
        ArriveError::Name { .. }
    ));
}

#[test]
fn a_rotten_chunk_is_noticed_and_fetched_again() {
    let world = World::new();
    let kernel = noise(3_000_000, 1);
    let package = Package::payload(1, &kernel, b"initramfs");
    world.publish(&package);
    world.fetch(&package).unwrap();
    let chunk = package.manifest.files[0].chunks[1].sha256;
    let mut bytes = std::fs::read(world.chunk_file(chunk)).unwrap();
    bytes[1000] ^= 0x40;
    std::fs::write(world.chunk_file(chunk), &bytes).unwrap();
    let cache = world.cache();
    let manifest = cache
        .manifest(Kind::Payload, package.digest(), &world.root())
        .unwrap()
        .unwrap();
    let error = cache.files(&manifest, 1 << 30, &mut Silent).unwrap_err();
    assert!(
        matches!(error, AssembleError::File(FileError::Chunk { .. })),
        "{error}"
    );
    let arrived = world.fetch(&package).unwrap();
    assert!(files(&arrived)[0].1 == kernel);
    assert!(*cache.files(&manifest, 1 << 30, &mut Silent).unwrap()[0].1 == kernel);
}

#[test]
fn eviction_spares_what_is_kept_and_the_newest_payload() {
    let world = World::new();
    let packages: Vec<Package> = (1..=4)
        .map(|version| Package::payload(version, &noise(400_000, version), b"initramfs"))
        .collect();
    for package in &packages {
        world.publish(package);
        world.fetch(package).unwrap();
    }
    let cache = world.cache();
    cache.retain(&[packages[1].digest()]).unwrap();
    for gone in [&packages[0], &packages[2]] {
        assert!(
            !world
                .chunk_file(gone.manifest.files[0].chunks[0].sha256)
                .exists()
        );
    }
    let versions: Vec<u64> = cache
        .claims(Kind::Payload)
        .unwrap()
        .iter()
        .map(|claim| claim.manifest.version)
        .collect();
    assert_eq!(versions, [4, 2]);
    for kept in [&packages[1], &packages[3]] {
        let manifest = cache
            .manifest(Kind::Payload, kept.digest(), &world.root())
            .unwrap()
            .unwrap();
        cache.files(&manifest, 1 << 30, &mut Silent).unwrap();
    }
}
