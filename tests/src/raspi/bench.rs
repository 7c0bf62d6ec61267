// SPDX-License-Identifier: Apache-2.0
//! A builder's bench: a key, a trust root, releases signed with it, and cards made of them, for boards whose own firmware starts them.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use racklet_boards::{Board, Firmware};
use racklet_image::{
    disk::{self, Spec},
    package::{self, Contents, Input, Package},
    raspberry_pi,
};
use racklet_trust::{
    Manifest, PublicKey, TrustRoot,
    digest::Hex,
    manifest::Kind,
    namespace,
    root::{RoleKeys, Roles},
};

use crate::process::output;

/// What a release is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// A kernel, in gzip or not.
    pub kernel: Vec<u8>,
    /// Its initramfs.
    pub initramfs: Vec<u8>,
    /// The device tree.
    pub tree: Vec<u8>,
    /// Firmware by the names that Debian's package has.
    pub firmware: fn(&str) -> Result<Vec<u8>>,
}

/// The bench, in a folder that goes with it.
#[derive(Debug)]
pub struct Bench {
    folder: tempfile::TempDir,
    board: Board,
}

impl Bench {
    /// With a key of its own.
    ///
    /// # Errors
    /// When there is no such board, or no ssh-keygen.
    pub fn new(board: &str) -> Result<Self> {
        Self::of(racklet_boards::find(board)?)
    }

    /// As [`Bench::new`], for a board that need not be one of ours.
    ///
    /// # Errors
    /// When there is no ssh-keygen.
    pub fn of(board: Board) -> Result<Self> {
        let bench = Self {
            folder: tempfile::tempdir()?,
            board,
        };
        let mut keys = Command::new("ssh-keygen");
        keys.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]);
        output(keys.arg(bench.path("key")))?;
        Ok(bench)
    }

    /// What it is for.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn firmware(&self) -> Result<&Firmware> {
        self.board
            .firmware
            .as_ref()
            .context("the board has no firmware of its own")
    }

    /// The trust root that its cards carry.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub fn trust_root(&self) -> Result<Vec<u8>> {
        let key: PublicKey = fs::read_to_string(self.path("key.pub"))?.trim().parse()?;
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
        Ok(TrustRoot::new(Hex([7; 16]), 1, roles)?.to_canonical())
    }

    /// A signed release, as `racklet bootstrap build` makes it of these parts.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn release(&self, name: &str, parts: &Parts) -> Result<Package> {
        self.release_of(name, 3, parts)
    }

    /// As [`Bench::release`], of this version.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn release_of(&self, name: &str, version: u64, parts: &Parts) -> Result<Package> {
        let firmware = self.firmware()?;
        let mut files = vec![
            ("kernel".to_owned(), raspberry_pi::compressed(&parts.kernel)),
            (
                "initramfs".to_owned(),
                raspberry_pi::padded(parts.initramfs.clone()),
            ),
            (
                raspberry_pi::CONFIG.to_owned(),
                raspberry_pi::config(firmware).into(),
            ),
            (
                raspberry_pi::ARGUMENTS.to_owned(),
                raspberry_pi::arguments(&self.board).into(),
            ),
            (firmware.tree_name().to_owned(), parts.tree.clone()),
        ];
        for (file, source) in &firmware.files {
            files.push((file.clone(), (parts.firmware)(source)?));
        }
        let mut manifest =
            Manifest::new(Kind::Bootstrap, "stable", version, self.board.architecture);
        manifest.boards = vec![self.board.name.clone()];
        let mut readers: Vec<&[u8]> = files.iter().map(|(_, bytes)| &**bytes).collect();
        let inputs = files
            .iter()
            .zip(&mut readers)
            .map(|((name, _), reader)| Input {
                name,
                contents: Contents::Read(reader),
            });
        let inputs = inputs.collect();
        let folder = self.path(name);
        let package = package::build(manifest, inputs, &folder, &mut |_| {})?;
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-Y", "sign", "-n", namespace::MANIFEST, "-f"]);
        output(sign.arg(self.path("key")).arg(folder.join("manifest.json")))?;
        package.add_signature(&fs::read(folder.join("manifest.json.sig"))?)?;
        Ok(package)
    }

    /// A tray's configuration, with its repository at an address that nobody answers.
    #[must_use]
    pub fn tray(&self) -> Vec<u8> {
        let json = serde_json::json!({
            "v": 1,
            "rack": Hex([7; 16]).to_string(),
            "tray": "tray-1",
            "board": self.board.name,
            "built": 1_780_000_000,
            "arguments": self.board.arguments(racklet_boards::Stage::Payload),
            "watchdog": 0,
            "repository": {"url": "https://rack.example/rack.git", "branch": "main"},
            "network": {},
        });
        json.to_string().into_bytes()
    }

    /// A card's image with these releases in its slots.
    ///
    /// # Errors
    /// When the image cannot be built.
    pub fn image(&self, slots: [Option<&Package>; 2]) -> Result<PathBuf> {
        let rom = self.firmware()?.rom.as_ref();
        let (root, tray) = (self.trust_root()?, self.tray());
        let spec = Spec {
            board: &self.board,
            bootloader: rom.map(|_| &b"second stage"[..]),
            trust_root: &root,
            tray: &tray,
            slots,
            size: disk::LEAST_SIZE,
        };
        let image = self.path("image");
        disk::build(&spec, &image)?;
        Ok(image)
    }
}
