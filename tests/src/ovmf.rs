// SPDX-License-Identifier: Apache-2.0
//! Stage 1 on real firmware: a card made by `racklet_image`, broken in one place, in a machine with OVMF (x86_64) or AAVMF (aarch64).
//!
//! In place of Linux most cards hold `probe.efi` (bootloader/examples/probe.rs), which tells what it was given. Slot a holds
//! version 5 and slot b version 4, both signed with the same key. A card is changed with mtools, as a person would.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use racklet_boards::Stage;
use racklet_image::{
    disk::{self, Spec},
    package::{self, Contents, Input, Package},
};
use racklet_trust::{
    Digest, PublicKey,
    digest::Hex,
    manifest::{Kind, Manifest},
    namespace,
    root::{RoleKeys, Roles, TrustRoot},
    slot::{self, Slot, SlotRecord},
};

use crate::{
    artifacts::Artifacts,
    board::board,
    process::output,
    qemu::{Machine, Tray},
};

/// How long a machine may take for a line; the firmware alone takes some seconds when it is emulated and the builder is busy.
const BOUND: Duration = Duration::from_secs(120);
/// Where the boot partition begins in an image, in bytes.
const ESP: u64 = 1 << 20;
/// What stands for the initramfs.
pub const INITRAMFS: &[u8] = b"an initramfs of odd length.";
const TRAY_JSON: &[u8] = b"{\"tray\":\"tray-1\"}\n";

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The key that the trust root names for the role `firmware`.
    Firmware,
    /// The one it names for `payload` and nothing else.
    Payload,
    /// One it does not name.
    Stranger,
}

impl Key {
    fn file(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Payload => "payload",
            Self::Stranger => "stranger",
        }
    }
}

/// An image before it is put into a machine.
#[derive(Debug)]
pub struct Card {
    folder: tempfile::TempDir,
    kernel: Vec<u8>,
    initramfs: Vec<u8>,
}

impl Card {
    /// A card whose slots are as they should be; the probe hangs once it has spoken.
    ///
    /// # Errors
    /// When something that is needed has not been built or installed.
    pub fn new() -> Result<Self> {
        Self::with(|_, _| {})
    }

    /// A card whose manifests were changed before they were signed (with the right key).
    ///
    /// # Errors
    /// As for [`Card::new`].
    pub fn with(change: impl Fn(Slot, &mut Manifest)) -> Result<Self> {
        Self::of(
            built(&artifacts().path("os/probe.efi"))?,
            INITRAMFS.into(),
            change,
        )
    }

    /// A card with Linux itself: the bootstrap's kernel, and busybox as PID 1, which runs `command` (an absolute path first).
    ///
    /// # Errors
    /// As for [`Card::new`].
    pub fn with_linux(command: &str) -> Result<Self> {
        let mut archive = racklet_cpio::Archive::new();
        for folder in ["dev", "bin", "etc"] {
            archive.directory(folder, 0o755)?;
        }
        archive.character_device("dev/console", 0o600, 5, 1)?;
        // The bootstrap's kernel runs no scripts: busybox is both, by the name it is called.
        archive.file("bin/busybox", 0o755, &built(&artifacts().busybox())?)?;
        archive.symlink("init", "bin/busybox")?;
        let table = format!("::sysinit:{command}\n");
        archive.file("etc/inittab", 0o644, table.as_bytes())?;
        // What only the bootloader may say: its own archive comes later and counts.
        archive.directory("racklet", 0o755)?;
        for name in ["boot", "tray"] {
            archive.file(&format!("racklet/{name}.json"), 0o644, b"forged\n")?;
        }
        let kernel = built(&artifacts().bootstrap_kernel())?;
        Self::of(kernel, archive.finish(), |_, _| {})
    }

    fn of(
        kernel: Vec<u8>,
        initramfs: Vec<u8>,
        change: impl Fn(Slot, &mut Manifest),
    ) -> Result<Self> {
        let card = Self {
            folder: tempfile::tempdir()?,
            kernel,
            initramfs,
        };
        for key in [Key::Firmware, Key::Payload, Key::Stranger] {
            output(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                    .arg(card.path(key.file())),
            )?;
        }
        let board = board();
        let root = card.trust_root()?;
        let build = |slot: Slot| {
            let mut manifest = card.manifest(slot);
            change(slot, &mut manifest);
            card.package(slot.name(), manifest, Key::Firmware)
        };
        let (a, b) = (build(Slot::A)?, build(Slot::B)?);
        let bootloader = built(&artifacts().bootloader())?;
        let spec = Spec {
            board: &board,
            bootloader: Some(&bootloader),
            trust_root: &root,
            tray: TRAY_JSON,
            slots: [Some(&a), Some(&b)],
            size: disk::LEAST_SIZE,
        };
        disk::build(&spec, &card.image())?;
        Ok(card)
    }

    /// Replaces a slot by one with another manifest, signed by `key`.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn replace(&self, slot: Slot, key: Key, change: impl Fn(&mut Manifest)) -> Result<()> {
        let mut manifest = self.manifest(slot);
        change(&mut manifest);
        let package = self.package("replacement", manifest, key)?;
        self.write(
            &format!("racklet/{slot}/manifest.json"),
            package.manifest_bytes(),
        )?;
        let (_, signature) = package.signatures()?.pop().context("a signature")?;
        self.write(&format!("racklet/{slot}/signatures/0.sig"), &signature)
    }

    /// Flips one bit in the middle of what is in a file of the boot partition.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn damage(&self, path: &str) -> Result<()> {
        let copy = self.path("damaged");
        self.mtools("mcopy", &["-o", &format!("::{path}"), text(&copy)?])?;
        let mut contents = fs::read(&copy)?;
        let middle = slot::written(&contents).len() / 2;
        contents[middle] ^= 1;
        self.write(path, &contents)
    }

    /// Removes a file of the boot partition.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.mtools("mdel", &[&format!("::{path}")])
    }

    /// Damages a copy of the slot record where it lies.
    ///
    /// # Errors
    /// When it is not there.
    pub fn damage_record(&self, copy: usize) -> Result<()> {
        let file = self.open()?;
        let offset = place(&file, copy)?;
        file.write_all_at(&[0x55; 100], offset + 30)?;
        Ok(())
    }

    /// Both copies of the slot record become `record`.
    ///
    /// # Errors
    /// When they are not there.
    pub fn set_record(&self, record: SlotRecord) -> Result<()> {
        let file = self.open()?;
        for (copy, generation) in [(0, 1), (1, 2)] {
            file.write_all_at(&record.encode(generation), place(&file, copy)?)?;
        }
        Ok(())
    }

    /// Puts the card into a machine and switches it on.
    ///
    /// # Errors
    /// When the machine does not start.
    pub fn boot(&self) -> Result<Booted> {
        let machine = Machine {
            memory: 512,
            processors: 1,
            network: false,
            ..Machine::default()
        };
        let (folder, image) = (self.path("machine"), self.image());
        Ok(Booted {
            tray: Tray::boot("tray", &folder, &image, &machine)?,
            folder,
            image,
        })
    }

    fn manifest(&self, slot: Slot) -> Manifest {
        let version = if slot == Slot::A { 5 } else { 4 };
        let board = board();
        let mut manifest = Manifest::new(Kind::Bootstrap, "stable", version, board.architecture);
        manifest.boards = vec![board.name];
        manifest.arguments = format!("probe.slot={slot} probe.end=hang");
        manifest
    }

    fn package(&self, name: &str, manifest: Manifest, key: Key) -> Result<Package> {
        let (mut kernel, mut initramfs) = (&*self.kernel, &*self.initramfs);
        let inputs = vec![
            Input {
                name: "kernel",
                contents: Contents::Read(&mut kernel),
            },
            Input {
                name: "initramfs",
                contents: Contents::Read(&mut initramfs),
            },
        ];
        // Of another kind than its files would be: only the manifest is of interest then.
        let kind = manifest.kind;
        let folder = self.path(name);
        let package = package::build(manifest, inputs, &folder, &mut |_| {})?;
        ensure!(package.manifest().kind == kind, "the kind stays");
        let file = folder.join("manifest.json");
        output(
            Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", namespace::MANIFEST, "-f"])
                .arg(self.path(key.file()))
                .arg(&file),
        )?;
        package.add_signature(&fs::read(folder.join("manifest.json.sig"))?)?;
        Ok(package)
    }

    fn trust_root(&self) -> Result<Vec<u8>> {
        let role = |key: Key| -> Result<RoleKeys> {
            let line = fs::read_to_string(self.path(key.file()).with_extension("pub"))?;
            let key: PublicKey = line.trim().parse()?;
            Ok(RoleKeys {
                threshold: 1,
                keys: [key].into_iter().collect(),
            })
        };
        let roles = Roles {
            root: role(Key::Payload)?,
            config: role(Key::Payload)?,
            payload: role(Key::Payload)?,
            firmware: role(Key::Firmware)?,
        };
        Ok(TrustRoot::new(Hex([7; 16]), 1, roles)?.to_canonical())
    }

    fn write(&self, path: &str, contents: &[u8]) -> Result<()> {
        let source = self.path("source");
        fs::write(&source, contents)?;
        self.mtools("mcopy", &["-o", text(&source)?, &format!("::{path}")])
    }

    fn mtools(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let image = format!("{}@@{ESP}", text(&self.image())?);
        output(Command::new(program).args(["-i", &image]).args(arguments))?;
        Ok(())
    }

    fn open(&self) -> Result<fs::File> {
        Ok(fs::File::options()
            .read(true)
            .write(true)
            .open(self.image())?)
    }

    fn image(&self) -> PathBuf {
        self.path("image")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A machine with such a card.
#[derive(Debug)]
pub struct Booted {
    tray: Tray,
    folder: PathBuf,
    image: PathBuf,
}

impl Booted {
    /// The console says these, one after the other.
    ///
    /// # Errors
    /// When one of them does not come, with the end of the console.
    pub fn says(&mut self, lines: &[&str]) -> Result<()> {
        for line in lines {
            self.tray.wait_for(line, BOUND)?;
        }
        Ok(())
    }

    /// Whether the console has said it so far.
    pub fn said(&mut self, text: &str) -> bool {
        self.tray.console().said(text)
    }

    /// The sector of a copy of the slot record, from the card's start.
    ///
    /// # Errors
    /// When it is not there.
    pub fn record_sector(&self, copy: usize) -> Result<u64> {
        Ok(place(&fs::File::open(&self.image)?, copy)? / 512)
    }

    /// Where the card differs from the image it was made from, in sectors from its start.
    ///
    /// # Errors
    /// When either cannot be read.
    pub fn changed_sectors(&self) -> Result<Vec<u64>> {
        let (before, after) = (&self.image, self.folder.join("card.img"));
        let (mut before, mut after) = (fs::File::open(before)?, fs::File::open(after)?);
        let (mut old, mut new) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut changed = Vec::new();
        for start in (0..before.metadata()?.len()).step_by(1 << 20) {
            before.read_exact(&mut old)?;
            after.read_exact(&mut new)?;
            let sectors = old.chunks(512).zip(new.chunks(512)).zip(start / 512..);
            changed.extend(sectors.filter(|((old, new), _)| old != new).map(|(_, n)| n));
        }
        Ok(changed)
    }

    /// The slot record as the bootloader has left it.
    ///
    /// # Errors
    /// When neither copy can be read.
    pub fn record(&self) -> Result<SlotRecord> {
        struct File(fs::File);
        impl slot::Copies for File {
            type Error = anyhow::Error;
            fn read(&mut self, copy: usize) -> Result<[u8; slot::SIZE]> {
                let mut sector = [0; slot::SIZE];
                self.0.read_exact_at(&mut sector, place(&self.0, copy)?)?;
                Ok(sector)
            }
            fn write(&mut self, copy: usize, bytes: &[u8; slot::SIZE]) -> Result<()> {
                Ok(self.0.write_all_at(bytes, place(&self.0, copy)?)?)
            }
        }
        let loaded = slot::load(&mut File(fs::File::open(self.folder.join("card.img"))?));
        ensure!(!loaded.lost(), "both copies are lost: {:?}", loaded.damage);
        Ok(loaded.record)
    }
}

/// What the kernel must have got as its initramfs: ours, padded, then the bootloader's archive.
#[must_use]
pub fn expected_initramfs(
    root: &[u8],
    slot: Slot,
    tries: u8,
    version: u64,
    partition: &str,
) -> Digest {
    let mut whole = INITRAMFS.to_vec();
    whole.resize(whole.len().next_multiple_of(4), 0);
    let mut archive = racklet_cpio::Archive::new();
    let boot = format!("{{\"slot\":\"{slot}\",\"tries\":{tries},\"version\":{version}}}\n");
    let card = format!("{{\"v\":1,\"bootPartition\":\"{partition}\"}}\n");
    let add = |archive: &mut racklet_cpio::Archive| {
        archive.directory("racklet", 0o755)?;
        archive.file("racklet/trust-root.json", 0o444, root)?;
        archive.file("racklet/tray.json", 0o400, TRAY_JSON)?;
        archive.file("racklet/boot.json", 0o444, boot.as_bytes())?;
        archive.file("racklet/card.json", 0o444, card.as_bytes())
    };
    add(&mut archive).expect("plain paths and small files");
    whole.extend(archive.finish());
    Digest::of(&whole)
}

impl Card {
    /// The digest of what the kernel must get; see [`expected_initramfs`].
    ///
    /// # Errors
    /// When the keys are gone.
    pub fn initramfs(&self, slot: Slot, tries: u8, version: u64) -> Result<Digest> {
        Ok(expected_initramfs(
            &self.trust_root()?,
            slot,
            tries,
            version,
            &boot_partition(&fs::File::open(self.image())?)?,
        ))
    }
}

/// The unique GUID of an image's first partition, as people and the kernel write it (UEFI 2.10, 5.3.3 and appendix A: the first
/// three groups are little-endian).
fn boot_partition(file: &fs::File) -> Result<String> {
    let mut id = [0; 16];
    file.read_exact_at(&mut id, 2 * 512 + 16)?;
    let group = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let swapped = |bytes: &[u8]| group(&bytes.iter().rev().copied().collect::<Vec<_>>());
    Ok(format!(
        "{}-{}-{}-{}-{}",
        swapped(&id[..4]),
        swapped(&id[4..6]),
        swapped(&id[6..8]),
        group(&id[8..10]),
        group(&id[10..])
    ))
}

/// Where a copy of the slot record is in an image.
fn place(file: &fs::File, copy: usize) -> Result<u64> {
    let read =
        |offset, sector: &mut [u8; racklet_fat::SECTOR]| file.read_exact_at(sector, ESP + offset);
    let place = racklet_fat::locate(read, &format!("racklet/slots.{copy}"))?;
    Ok(ESP + place.offset)
}

/// Not all of them: a tray's programs are not in these machines.
fn artifacts() -> Artifacts {
    Artifacts::of(board().architecture)
}

/// What the kernel of a slot is told, before what its manifest says.
#[must_use]
pub fn told() -> String {
    board().arguments(Stage::Bootstrap).join(" ")
}

fn built(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!(
            "{} is not there: run `cargo xtask test`, which builds it first",
            path.display()
        )
    })
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
