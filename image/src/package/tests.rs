// SPDX-License-Identifier: Apache-2.0
//! Packages are signed by the real ssh-keygen and judged as a tray judges them.

use std::process::{Command, Stdio};
use std::str::FromStr;

use racklet_trust::digest::Hex;
use racklet_trust::manifest::Kind;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{Architecture, PublicKey, namespace};

use super::*;

struct Signer {
    work: tempfile::TempDir,
}

impl Signer {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(work.path().join("key"))
            .status()
            .unwrap();
        assert!(made.success());
        Self { work }
    }

    fn public(&self) -> PublicKey {
        let line = fs::read_to_string(self.work.path().join("key.pub")).unwrap();
        PublicKey::from_str(line.rsplit_once(' ').unwrap().0).unwrap()
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.work.path().join("key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(message).unwrap();
        child.wait_with_output().unwrap().stdout
    }
}

fn root(threshold: u8, signers: &[&Signer]) -> Verified<TrustRoot> {
    let keys = RoleKeys {
        threshold,
        keys: signers.iter().map(|signer| signer.public()).collect(),
    };
    let roles = Roles {
        root: keys.clone(),
        config: keys.clone(),
        payload: keys.clone(),
        firmware: keys,
    };
    Verified::baked(
        &TrustRoot::new(Hex([7; 16]), 1, roles)
            .unwrap()
            .to_canonical(),
    )
    .unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = vec![0; length];
    for byte in &mut bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        *byte = seed.to_le_bytes()[3];
    }
    bytes
}

fn make(kind: Kind, directory: &Path) -> Package {
    let mut manifest = Manifest::new(kind, "stable", 3, Architecture::X86_64);
    manifest.created = 1_790_000_000;
    if kind != Kind::Artifact {
        manifest.boards = vec!["qemu-x86_64".into()];
    }
    let contents = noise(1_000_000);
    let mut readers: Vec<(&str, &[u8])> = kind
        .file_names()
        .iter()
        .map(|name| {
            (
                *name,
                if *name == "initramfs" {
                    &contents[..300_000]
                } else {
                    &contents
                },
            )
        })
        .collect();
    let inputs = readers
        .iter_mut()
        .map(|(name, bytes)| Input {
            name,
            contents: Contents::Read(bytes),
        })
        .collect();
    build(manifest, inputs, directory, &mut |_| {}).unwrap()
}

#[test]
fn a_package_is_the_same_wherever_it_is_built() {
    let work = tempfile::tempdir().unwrap();
    for kind in [Kind::Payload, Kind::Artifact, Kind::Bootstrap] {
        let first = make(kind, &work.path().join(format!("{kind}-1")));
        let second = make(kind, &work.path().join("deeper").join(format!("{kind}-2")));
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.tree().unwrap(), second.tree().unwrap());
        first.verify_contents(&mut |_| {}).unwrap();
        let again = make(kind, first.directory());
        assert_eq!(
            again.digest(),
            Package::open(first.directory()).unwrap().digest()
        );
    }
    let left: Vec<_> = fs::read_dir(work.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.')
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_tray_takes_what_enough_keys_signed() {
    let work = tempfile::tempdir().unwrap();
    let package = make(Kind::Payload, &work.path().join("p"));
    let (a, b) = (Signer::new(), Signer::new());
    let two = root(2, &[&a, &b]);
    let sign = |signer: &Signer| {
        package
            .add_signature(&signer.sign(namespace::MANIFEST, package.manifest_bytes()))
            .unwrap()
    };
    assert!(package.verify(&two).is_err());
    assert_eq!(sign(&a), a.public());
    sign(&a);
    assert_eq!(package.signatures().unwrap().len(), 1);
    assert!(package.verify(&two).is_err());
    sign(&b);
    assert_eq!(package.verify(&two).unwrap().version, 3);

    // Whoever signs first, the tree is the same.
    let other = make(Kind::Payload, &work.path().join("q"));
    for signer in [&b, &a] {
        other
            .add_signature(&signer.sign(namespace::MANIFEST, other.manifest_bytes()))
            .unwrap();
    }
    let bytes = |package: &Package| {
        package
            .signatures()
            .unwrap()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect::<Vec<_>>()
    };
    assert_eq!(bytes(&package), bytes(&other));
}

#[test]
fn a_signature_that_could_not_count_is_not_added() {
    let work = tempfile::tempdir().unwrap();
    let package = make(Kind::Artifact, &work.path().join("p"));
    let signer = Signer::new();
    for armored in [
        signer.sign("git", package.manifest_bytes()),
        signer.sign(namespace::MANIFEST, b"something else"),
        b"-----BEGIN SSH SIGNATURE-----\n".to_vec(),
    ] {
        assert!(matches!(
            package.add_signature(&armored),
            Err(PackageError::Signature { .. })
        ));
    }
    assert!(package.signatures().unwrap().is_empty());
}

#[test]
fn tampered_contents_are_named() {
    let work = tempfile::tempdir().unwrap();
    for kind in [Kind::Payload, Kind::Bootstrap] {
        let package = make(kind, &work.path().join(kind.to_string()));
        for path in package.tree().unwrap() {
            let path = package.directory().join(path);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            fs::write(&path, &bad).unwrap();
            let opened = Package::open(package.directory());
            assert!(
                opened
                    .and_then(|package| package.verify_contents(&mut |_| {}))
                    .is_err(),
                "{}",
                path.display()
            );
            fs::write(&path, &good[..good.len() - 1]).unwrap();
            let opened = Package::open(package.directory());
            assert!(
                opened
                    .and_then(|package| package.verify_contents(&mut |_| {}))
                    .is_err(),
                "{}",
                path.display()
            );
            fs::write(&path, &good).unwrap();
        }
        Package::open(package.directory())
            .unwrap()
            .verify_contents(&mut |_| {})
            .unwrap();
    }
}

#[test]
fn what_is_not_ours_is_not_replaced() {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("thesis.txt"), "years of work").unwrap();
    let refused = build(
        Manifest::new(Kind::Artifact, "x", 1, Architecture::X86_64),
        Vec::new(),
        work.path(),
        &mut |_| {},
    );
    assert!(matches!(refused, Err(PackageError::Occupied(_))));
    assert!(work.path().join("thesis.txt").exists());
}

#[test]
fn a_reader_that_fails_leaves_nothing_behind() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("interrupted"))
        }
    }
    let work = tempfile::tempdir().unwrap();
    let input = Input {
        name: "rootfs",
        contents: Contents::Read(&mut Broken),
    };
    let error = build(
        Manifest::new(Kind::Artifact, "x", 1, Architecture::X86_64),
        vec![input],
        &work.path().join("p"),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(matches!(error, PackageError::Input { .. }), "{error}");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
}

#[test]
fn a_package_built_over_another_is_the_one_built_alone_and_damage_is_left_behind() {
    let work = tempfile::tempdir().unwrap();
    let package = |name: &str, contents: &[u8]| {
        let manifest = Manifest::new(Kind::Artifact, "web", 1, Architecture::X86_64);
        let mut contents = contents;
        let input = Input {
            name: "rootfs",
            contents: Contents::Read(&mut contents),
        };
        build(manifest, vec![input], &work.path().join(name), &mut |_| {}).unwrap()
    };
    let mut contents = noise(4 << 20);
    let before = package("a", &contents);
    contents[1_000_000] ^= 1;
    let alone = package("b", &contents);
    let chunk = |index: usize| {
        let chunk = &alone.manifest().files[0].chunks[index];
        before.directory().join(publish::chunk_path(chunk.sha256))
    };
    // One with another byte, one gone: as a disk or a person would leave them.
    let last = alone.manifest().files[0].chunks.len() - 1;
    let mut spoilt = fs::read(chunk(last)).unwrap();
    spoilt[100] ^= 1;
    fs::write(chunk(last), spoilt).unwrap();
    fs::remove_file(chunk(last - 1)).unwrap();
    let over = package("a", &contents);
    assert_eq!(over.digest(), alone.digest());
    over.verify_contents(&mut |_| {}).unwrap();
    let pieces = |package: &Package| fs::read(package.directory().join(PIECES)).unwrap();
    assert_eq!(pieces(&over), pieces(&alone));
    // What was there before and is not in it any more is gone.
    let count = |package: &Package| {
        let chunks = fs::read_dir(package.directory().join("chunks")).unwrap();
        chunks
            .map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count())
            .sum::<usize>()
    };
    assert_eq!(count(&over), count(&alone));
    assert!(!over.tree().unwrap().contains(&PIECES.to_owned()));
}

#[test]
fn one_byte_of_a_hundred_mebibytes_moves_little() {
    use crate::erofs::{Content, Metadata, Tree};
    // Files of 1 MiB with contents that do not compress, as in a real image's worst case; a fifth of the size keeps the test quick
    // and changes nothing about what moves.
    let image = |change: bool| {
        let mut tree = Tree::new(false);
        let contents = noise(21 << 20);
        for (i, part) in contents.chunks(1 << 20).enumerate() {
            let mut part = part.to_vec();
            if change && i == 9 {
                part[500_000] ^= 1;
            }
            tree.add(
                format!("f{i}").as_bytes(),
                Metadata::root(0o644),
                crate::erofs::Kind::File(Content::Bytes(part)),
            )
            .unwrap();
        }
        let mut out = Vec::new();
        tree.write(
            if change { 1_790_000_001 } else { 1_790_000_000 },
            &mut out,
            &mut |_| {},
        )
        .unwrap();
        out
    };
    let work = tempfile::tempdir().unwrap();
    let package = |name: &str, image: Vec<u8>| {
        let manifest = Manifest::new(Kind::Artifact, "web", 1, Architecture::X86_64);
        let input = Input {
            name: "rootfs",
            contents: Contents::Read(&mut &*image),
        };
        build(manifest, vec![input], &work.path().join(name), &mut |_| {}).unwrap()
    };
    let (before, after) = (package("a", image(false)), package("b", image(true)));
    let old: BTreeSet<_> = before.manifest().files[0]
        .chunks
        .iter()
        .map(|c| c.sha256)
        .collect();
    let new = after.manifest().files[0]
        .chunks
        .iter()
        .filter(|c| !old.contains(&c.sha256));
    let fetched = new.map(|c| u64::from(c.size)).sum::<u64>() + after.manifest_bytes().len() as u64;
    assert!(fetched <= 1 << 20, "{fetched} bytes");
}
