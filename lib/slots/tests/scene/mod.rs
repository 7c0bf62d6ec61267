// SPDX-License-Identifier: Apache-2.0
//! A card made by `racklet-image`, the bootloader's own flow on it, and power that fails at any sector written.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use racklet_bootloader::baked::Baked;
use racklet_bootloader::flow::{self, Firmware};
use racklet_bootloader::place::PartitionId;
use racklet_bootloader::verify::{Bootable, Files, ReadError, Refusal};
use racklet_image::disk::{self, Spec};
use racklet_image::package::{self, Contents, Input, Package};
use racklet_slots::{Bootstrap, BootstrapError, Device, Esp};
use racklet_trust::digest::Hex;
use racklet_trust::manifest::Kind;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::slot::{Copies, SIZE, Slot};
use racklet_trust::{Architecture, Manifest, PublicKey, TrustRoot, Verified, namespace, sshsig};

/// Who signs bootstraps, and who does not.
pub(crate) const FIRMWARE: u8 = 1;
pub(crate) const STRANGER: u8 = 2;
pub(crate) const BOARD: &str = "qemu-x86_64";
const SECTOR: u64 = 512;
const ESP: std::ops::Range<u64> = 1 << 20..81 << 20;

fn public(seed: u8) -> PublicKey {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let mut blob = Vec::new();
    for field in [&b"ssh-ed25519"[..], key.verifying_key().as_bytes()] {
        blob.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(field);
    }
    PublicKey::from_blob(&blob).unwrap()
}

/// A signature over a manifest.
pub(crate) fn sign(seed: u8, message: &[u8]) -> Vec<u8> {
    let bytes = sshsig::to_be_signed(namespace::MANIFEST, message);
    let signature = SigningKey::from_bytes(&[seed; 32]).sign(&bytes);
    sshsig::armor(&public(seed), namespace::MANIFEST, &signature.to_bytes()).into_bytes()
}

fn root_json() -> Vec<u8> {
    let role = RoleKeys {
        threshold: 1,
        keys: [public(FIRMWARE)].into_iter().collect(),
    };
    let roles = Roles {
        root: role.clone(),
        config: role.clone(),
        payload: role.clone(),
        firmware: role,
    };
    let root = TrustRoot::new(Hex([7; 16]), 1, roles).unwrap();
    root.to_canonical()
}

/// The trust root that the bootloader of these cards carries.
pub(crate) fn root() -> Verified<TrustRoot> {
    Verified::<TrustRoot>::baked(&root_json()).unwrap()
}

/// A kernel or initramfs, of a length and with contents that are its version's.
pub(crate) fn contents(name: &str, version: u64) -> Vec<u8> {
    let length =
        if name == "kernel" { 9_000 } else { 3_000 } + usize::try_from(version).unwrap() * 700;
    format!("{name} {version} ").into_bytes().repeat(length / 8)
}

/// A signed bootstrap on the builder's disk.
pub(crate) fn package(version: u64) -> (tempfile::TempDir, Package) {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = Manifest::new(Kind::Bootstrap, "stable", version, Architecture::HERE);
    manifest.boards = vec![BOARD.into()];
    let files = ["kernel", "initramfs"].map(|name| (name, contents(name, version)));
    let mut readers = files.each_ref().map(|(_, contents)| &contents[..]);
    let inputs = files
        .iter()
        .zip(&mut readers)
        .map(|((name, _), reader)| Input {
            name,
            contents: Contents::Read(reader),
        });
    let inputs = inputs.collect();
    let path = folder.path().join("package");
    let package = package::build(manifest, inputs, &path, &mut |_| {}).unwrap();
    let signature = sign(FIRMWARE, package.manifest_bytes());
    package.add_signature(&signature).unwrap();
    (folder, package)
}

/// What a tray has after it fetched that bootstrap.
pub(crate) fn fetched(version: u64) -> Bootstrap {
    of(&package(version).1, |_| {}).unwrap()
}

/// The same, with other signatures.
pub(crate) fn of(
    package: &Package,
    change: impl FnOnce(&mut Vec<Vec<u8>>),
) -> Result<Bootstrap, BootstrapError> {
    let signatures = package.signatures().unwrap().into_iter();
    let mut signatures: Vec<Vec<u8>> = signatures.map(|(_, bytes)| bytes).collect();
    change(&mut signatures);
    let file = |name: &str| package.file(name).unwrap();
    Bootstrap::verify(&root(), BOARD, package.manifest(), &signatures, file)
}

/// The smallest PE image that sections can be added to: headers, and one section that returns.
fn small_pe() -> Vec<u8> {
    let mut pe = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x01\0");
    put(0x94, &[0xf0, 0, 0x22, 0]);
    let optional = 0x98;
    put(optional, &[0x0b, 0x02]);
    let fields = [
        (4, 0x200_u32),
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 0x200),
    ];
    for (at, value) in fields
        .into_iter()
        .chain([(56, 0x2000), (60, 0x400), (68, 10), (108, 16)])
    {
        put(optional + at, &value.to_le_bytes());
    }
    let section = optional + 0xf0;
    put(section, b".text");
    for (at, value) in [
        (8, 1_u32),
        (12, 0x1000),
        (16, 0x200),
        (20, 0x400),
        (36, 0x6000_0020),
    ] {
        put(section + at, &value.to_le_bytes());
    }
    put(0x400, &[0xc3]);
    pe
}

/// The boot partition of a new card whose two slots hold version 1, of which slot a has run well.
pub(crate) fn card() -> Disk {
    let (folder, package) = package(1);
    let board = racklet_boards::find(BOARD).unwrap();
    let spec = Spec {
        board: &board,
        bootloader: Some(&small_pe()),
        trust_root: &root_json(),
        tray: b"{}",
        slots: [Some(&package), Some(&package)],
        size: disk::LEAST_SIZE,
    };
    let image = folder.path().join("image");
    disk::build(&spec, &image).unwrap();
    let mut bytes = vec![0; usize::try_from(ESP.end - ESP.start).unwrap()];
    File::open(image)
        .unwrap()
        .read_exact_at(&mut bytes, ESP.start)
        .unwrap();
    let mut disk = Disk {
        base: Arc::new(bytes),
        ..Disk::default()
    };
    assert_eq!(disk.boot().started, Some((Slot::A, 1)));
    let mut esp = Esp::open(disk).unwrap();
    racklet_slots::mark_good(&mut esp, Slot::A, 1).unwrap();
    let mut disk = esp.device().clone();
    disk.written.clear();
    disk
}

/// A boot partition with a cache: what was not flushed is lost, kept, or half kept when the power goes.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    base: Arc<Vec<u8>>,
    kept: BTreeMap<u64, [u8; 512]>,
    cached: Vec<(u64, [u8; 512])>,
    /// How many more sectors are written before the power goes.
    pub(crate) power: Option<usize>,
    /// The sectors that were written, in order.
    pub(crate) written: Vec<u64>,
}

/// What a cut does to the sectors that were written and not flushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// All of them are there.
    Kept,
    /// None is.
    Lost,
    /// Of the last one only the first bytes are.
    Torn,
    /// Some are; the number chooses which.
    Some(u64),
}

impl Disk {
    fn sector(&self, number: u64) -> [u8; 512] {
        let cached = self.cached.iter().rev().find(|(of, _)| *of == number);
        let here = cached
            .map(|(_, bytes)| bytes)
            .or_else(|| self.kept.get(&number));
        here.copied().unwrap_or_else(|| {
            let start = usize::try_from(number * SECTOR).unwrap();
            self.base[start..start + 512].try_into().unwrap()
        })
    }

    /// The card after the power went.
    pub(crate) fn after(mut self, cut: Cut) -> Self {
        let last = self.cached.len().saturating_sub(1);
        let mut random = match cut {
            Cut::Some(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 0,
        };
        for (place, (number, bytes)) in std::mem::take(&mut self.cached).into_iter().enumerate() {
            random = random.rotate_left(13).wrapping_mul(0x2545_f491_4f6c_dd1d);
            let length = match cut {
                Cut::Kept => 512,
                Cut::Lost => 0,
                Cut::Torn => {
                    if place == last {
                        100
                    } else {
                        512
                    }
                }
                Cut::Some(_) => {
                    if random >> 63 == 0 {
                        0
                    } else {
                        512
                    }
                }
            };
            let mut sector = self.sector(number);
            sector[..length].copy_from_slice(&bytes[..length]);
            self.kept.insert(number, sector);
        }
        self.power = None;
        self
    }

    /// What `fsck.vfat` says, when it is not content.
    pub(crate) fn judged(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("esp");
        let file = File::create(&path).unwrap();
        file.write_all_at(&self.base, 0).unwrap();
        for (number, bytes) in &self.kept {
            file.write_all_at(bytes, number * SECTOR).unwrap();
        }
        let mut command = Command::new("fsck.vfat");
        command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        let done = command.arg("-n").arg("-v").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        match done.status.success() && !said.contains("differ") && !said.contains("Dirty") {
            true => Ok(()),
            false => Err(said),
        }
    }

    /// Switches the machine on: what the bootloader starts, and what it said.
    pub(crate) fn boot(&mut self) -> Boot {
        let mut machine = Machine {
            disk: std::mem::take(self),
            boot: Boot::default(),
        };
        let image = baked();
        let baked = Baked::from_image(&*image).unwrap();
        flow::run(&mut machine, &baked, Architecture::HERE);
        *self = machine.disk.after(Cut::Lost);
        machine.boot
    }
}

impl Device for Disk {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + out.len() as u64;
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let sector = self.sector(number);
            let start = number * SECTOR;
            let (from, to) = (start.max(offset), (start + SECTOR).min(end));
            let at = |byte: u64, origin: u64| usize::try_from(byte - origin).unwrap();
            out[at(from, offset)..at(to, offset)]
                .copy_from_slice(&sector[at(from, start)..at(to, start)]);
        }
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let mut sector = self.sector(number);
            let start = number * SECTOR;
            let (from, to) = (start.max(offset), (start + SECTOR).min(end));
            let at = |byte: u64, origin: u64| usize::try_from(byte - origin).unwrap();
            sector[at(from, start)..at(to, start)]
                .copy_from_slice(&bytes[at(from, offset)..at(to, offset)]);
            match &mut self.power {
                Some(0) => return Err(io::Error::other("the power is gone")),
                Some(left) => *left -= 1,
                None => {}
            }
            self.cached.push((number, sector));
            self.written.push(number);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The power goes with the write after the last one, or where there would be one.
        if self.power == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        self.kept.extend(std::mem::take(&mut self.cached));
        Ok(())
    }
}

/// What became of a start.
#[derive(Default)]
pub(crate) struct Boot {
    /// From which slot which version was started; nothing where none could be.
    pub(crate) started: Option<(Slot, u64)>,
    /// The console.
    pub(crate) said: String,
}

struct Machine {
    disk: Disk,
    boot: Boot,
}

impl Machine {
    fn record(&self, copy: usize) -> u64 {
        let read = |at: u64, sector: &mut [u8; 512]| self.disk.read_at(sector, at);
        let place = racklet_fat::locate(read, &format!("racklet/slots.{copy}"));
        place.unwrap().offset
    }
}

impl Files for Machine {
    fn read(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let read = |at: u64, sector: &mut [u8; 512]| self.disk.read_at(sector, at);
        let Ok(place) = racklet_fat::locate(read, path) else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(u64::from(place.size).min(most)).unwrap()];
        self.disk.read_at(&mut bytes, place.offset).unwrap();
        Ok(Some(bytes))
    }
}

impl Copies for Machine {
    type Error = &'static str;

    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Self::Error> {
        let mut bytes = [0; SIZE];
        let at = self.record(copy);
        self.disk
            .read_at(&mut bytes, at)
            .map_err(|_| "unreadable")?;
        Ok(bytes)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), Self::Error> {
        // Once Linux runs, the bootloader does nothing more.
        if self.boot.started.is_some() {
            return Err("gone");
        }
        let at = self.record(copy);
        let written = self
            .disk
            .write_at(bytes, at)
            .and_then(|()| self.disk.flush());
        written.map_err(|_| "unwritable")
    }
}

impl Firmware for Machine {
    fn say(&mut self, text: fmt::Arguments<'_>) {
        if self.boot.started.is_none() {
            self.boot.said.push_str(&format!("{text}\n"));
        }
    }

    fn came_from(&self) -> Option<PartitionId> {
        None
    }

    fn pause(&mut self, _: Duration) {}

    fn start(&mut self, bootable: Bootable, _: &[u8], _: &str) -> Refusal {
        if self.boot.started.is_none() {
            let version = bootable.manifest.version;
            assert_eq!(*bootable.kernel, contents("kernel", version));
            assert_eq!(*bootable.initramfs, contents("initramfs", version));
            self.boot.started = bootable.slot.map(|slot| (slot, version));
        }
        Refusal::Start("it runs".into())
    }
}

/// The bootloader's own image as firmware loads it, with its three sections.
fn baked() -> Vec<u8> {
    let board = format!("{{\"board\":\"{BOARD}\",\"arguments\":\"\"}}");
    let root = root_json();
    let sections = [
        (".trust", &*root),
        (".tray", b"{}"),
        (".board", board.as_bytes()),
    ];
    let mut image = vec![0; 0x1000];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    image[0x80..0x84].copy_from_slice(b"PE\0\0");
    image[0x86] = 3;
    for (number, (name, contents)) in sections.iter().enumerate() {
        let header = 0x98 + number * 40;
        let address = u32::try_from(image.len()).unwrap();
        image[header..header + name.len()].copy_from_slice(name.as_bytes());
        let length = u32::try_from(contents.len()).unwrap();
        image[header + 8..header + 12].copy_from_slice(&length.to_le_bytes());
        image[header + 12..header + 16].copy_from_slice(&address.to_le_bytes());
        image.extend_from_slice(contents);
    }
    image
}
