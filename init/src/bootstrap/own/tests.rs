// SPDX-License-Identifier: Apache-2.0
//! A slot's volume, made by mkfs.vfat and mcopy and signed by ssh-keygen, with every kind of thing wrong with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use racklet_trust::digest::Hex;
use racklet_trust::manifest;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{Digest, PublicKey, namespace};

use super::*;

const FILES: [(&str, &[u8]); 4] = [
    ("kernel", b"the kernel"),
    ("initramfs", b"the initramfs"),
    ("config.txt", b"arm_64bit=1\n"),
    ("bcm2711-rpi-4-b.dtb", b"the tree"),
];

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program)
        .args(arguments)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output();
    let done =
        done.unwrap_or_else(|error| panic!("{program} is needed (`cargo xtask doctor`): {error}"));
    assert!(
        done.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A volume with a signed release on it.
struct Volume {
    folder: tempfile::TempDir,
}

impl Volume {
    fn new() -> Self {
        let volume = Self {
            folder: tempfile::tempdir().expect("temporary folder"),
        };
        run(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "",
                "-f",
                &volume.path("key"),
            ],
        );
        File::create(volume.image())
            .and_then(|file| file.set_len(70_000 * 512))
            .expect("makes the volume");
        run(
            "mkfs.vfat",
            &["-F", "32", "-s", "1", "--mbr=n", &volume.path("image")],
        );
        run(
            "mmd",
            &[
                "-i",
                &volume.path("image"),
                "::racklet",
                "::racklet/signatures",
            ],
        );
        for (name, contents) in FILES {
            volume.put(name, contents);
        }
        volume.sign(Architecture::HERE, "raspberry-pi-4b");
        volume
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn put(&self, name: &str, contents: &[u8]) {
        let copy = self.path("copy");
        fs::write(&copy, contents).expect("writes");
        run(
            "mcopy",
            &["-o", "-i", &self.path("image"), &copy, &format!("::{name}")],
        );
    }

    /// Signs a manifest that names the files, for this machine.
    fn sign(&self, architecture: Architecture, board: &str) {
        let mut manifest = Manifest::new(Kind::Bootstrap, "stable", 7, architecture);
        manifest.boards = vec![board.into()];
        let files = FILES.map(|(name, contents)| manifest::File {
            name: name.into(),
            size: contents.len() as u64,
            sha256: Digest::of(contents),
            verity: None,
            chunks: vec![manifest::Chunk {
                sha256: Digest::of(b"how it travelled"),
                size: 16,
                length: u32::try_from(contents.len()).expect("small"),
            }],
        });
        manifest.files = files.into();
        let path = self.path("manifest.json");
        fs::write(&path, manifest.to_canonical()).expect("writes");
        let _ = fs::remove_file(self.path("manifest.json.sig"));
        run(
            "ssh-keygen",
            &[
                "-Y",
                "sign",
                "-n",
                namespace::MANIFEST,
                "-f",
                &self.path("key"),
                &path,
            ],
        );
        let read = |name: &str| fs::read(self.path(name)).expect("reads");
        self.put("racklet/manifest.json", &read("manifest.json"));
        self.put("racklet/signatures/0.sig", &read("manifest.json.sig"));
    }

    fn root(&self) -> Verified<TrustRoot> {
        let line = fs::read_to_string(Path::new(&self.path("key.pub"))).expect("reads");
        let key: PublicKey = line.trim().parse().expect("is a key");
        let role = RoleKeys {
            threshold: 1,
            keys: [key].into_iter().collect(),
        };
        let roles = Roles {
            root: role.clone(),
            config: role.clone(),
            payload: role.clone(),
            firmware: role,
        };
        let root = TrustRoot::new(Hex([7; 16]), 1, roles).expect("is one");
        Verified::<TrustRoot>::baked(&root.to_canonical()).expect("parses")
    }

    fn prove(&self, root: &Verified<TrustRoot>) -> Result<u64, String> {
        let tray = br#"{"v":1,"rack":"07070707070707070707070707070707","tray":"tray-1","board":"raspberry-pi-4b","built":0,"arguments":[],"repository":{"url":"https://x.example/r","branch":"main"},"network":{}}"#;
        let tray = TrayConfig::parse(tray).expect("parses");
        let file = File::open(self.image()).expect("opens");
        prove(&file, root, &tray).map_err(|error| chain(&error))
    }
}

#[test]
fn a_slot_that_is_what_was_signed_says_its_version() {
    let volume = Volume::new();
    assert_eq!(volume.prove(&volume.root()), Ok(7));
}

#[test]
fn every_file_of_a_slot_that_differs_is_named() {
    let volume = Volume::new();
    let root = volume.root();
    for (name, contents) in FILES {
        let mut other = contents.to_vec();
        other[2] ^= 1;
        volume.put(name, &other);
        let said = volume.prove(&root).expect_err(name);
        assert!(said.starts_with(&format!("{name} has SHA-256")), "{said}");
        volume.put(name, &[contents, b"more"].concat());
        let said = volume.prove(&root).expect_err(name);
        assert!(
            said.starts_with(&format!("{name} has ")) && said.contains("bytes"),
            "{said}"
        );
        volume.put(name, contents);
    }
    run(
        "mdel",
        &["-i", &volume.path("image"), "::config.txt", "::kernel"],
    );
    let said = volume.prove(&root).expect_err("is refused");
    assert!(
        said.contains("find kernel") && said.contains("find config.txt"),
        "{said}"
    );
}

#[test]
fn a_slot_signed_by_nobody_or_for_another_board_proves_nothing() {
    let volume = Volume::new();
    let root = volume.root();
    let said = volume.prove(&Volume::new().root()).expect_err("is refused");
    assert!(
        said.contains("1 signature by firmware keys needed"),
        "{said}"
    );
    volume.sign(Architecture::HERE, "raspberry-pi-5");
    let said = volume.prove(&root).expect_err("is refused");
    assert!(said.contains("it is for raspberry-pi-5"), "{said}");
    volume.put("racklet/manifest.json", b"{}");
    assert!(volume.prove(&root).is_err());
    run(
        "mdel",
        &["-i", &volume.path("image"), "::racklet/manifest.json"],
    );
    let said = volume.prove(&root).expect_err("is refused");
    assert!(said.contains("find racklet/manifest.json"), "{said}");
}
