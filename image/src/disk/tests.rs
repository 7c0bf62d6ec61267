// SPDX-License-Identifier: Apache-2.0
//! Whole images, judged by the tools that others will use on them: sgdisk, fsck.vfat, mtools, e2fsck, resize2fs, objdump,
//! ssh-keygen.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use racklet_fetch::publish;
use racklet_trust::{
    Architecture, PublicKey,
    digest::Hex,
    manifest::{Kind, Manifest},
    namespace,
    root::{MAX_KEYS, RoleKeys, Roles, TrustRoot},
    slot::{self, SlotRecord},
};

mod raspberry_pi;

use super::*;
use crate::package::{self, Contents, Input, Package};

const TRAY: &[u8] = b"{\"tray\":\"tray-1\"}\n";

/// Runs a judge; returns what it said, on both outputs, when it was content.
fn judge(program: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (`cargo xtask doctor`): {error}"));
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    match done.status.success() {
        true => Ok(said),
        false => Err(format!("{program}: {}: {said}", done.status)),
    }
}

/// A key, a trust root that names it for everything, and a signed bootstrap.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let key = workshop.path("key");
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", text(&key)];
        judge("ssh-keygen", &arguments).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn trust_root(&self) -> Vec<u8> {
        let line = fs::read_to_string(self.path("key.pub")).unwrap();
        let key: PublicKey = line.trim().parse().unwrap();
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
        TrustRoot::new(Hex([7; 16]), 1, roles)
            .unwrap()
            .to_canonical()
    }

    fn package(&self, name: &str, kernel_size: usize, change: impl Fn(&mut Manifest)) -> Package {
        let mut manifest = Manifest::new(Kind::Bootstrap, "stable", 3, Architecture::X86_64);
        manifest.boards = vec!["qemu-x86_64".into()];
        change(&mut manifest);
        let mut kernel = Vec::from_iter(0..=250_u8).repeat(kernel_size.div_ceil(251));
        kernel.truncate(kernel_size);
        let files: [(&str, &[u8]); 2] = [("kernel", &kernel), ("initramfs", b"initramfs")];
        self.signed(name, manifest, &files)
    }

    /// A package of these files, with a signature.
    fn signed(&self, name: &str, manifest: Manifest, files: &[(&str, &[u8])]) -> Package {
        let mut readers: Vec<&[u8]> = files.iter().map(|(_, contents)| *contents).collect();
        let inputs = files
            .iter()
            .zip(&mut readers)
            .map(|((name, _), reader)| Input {
                name,
                contents: Contents::Read(reader),
            });
        let inputs = inputs.collect();
        let package = package::build(manifest, inputs, &self.path(name), &mut |_| {}).unwrap();
        let manifest = self.path(name).join("manifest.json");
        let key = self.path("key");
        let arguments = [
            "-Y",
            "sign",
            "-n",
            namespace::MANIFEST,
            "-f",
            text(&key),
            text(&manifest),
        ];
        judge("ssh-keygen", &arguments).unwrap();
        let signature = self.path(name).join("manifest.json.sig");
        package
            .add_signature(&fs::read(&signature).unwrap())
            .unwrap();
        package
    }

    fn build(&self, name: &str, package: &Package, size: u64) -> Result<Built, DiskError> {
        let board = racklet_boards::find("qemu-x86_64").unwrap();
        let bootloader = small_pe();
        let spec = Spec {
            board: &board,
            bootloader: Some(&bootloader),
            trust_root: &self.trust_root(),
            tray: TRAY,
            slots: [Some(package), None],
            size,
        };
        build(&spec, &self.path(name))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A PE32+ image with one section of code, which returns at once.
fn small_pe() -> Vec<u8> {
    let mut pe = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x01\0");
    // Size of the optional header; executable, large addresses.
    put(0x94, &[0xf0, 0, 0x22, 0]);
    let optional = 0x98;
    put(optional, &[0x0b, 0x02]);
    for (at, value) in [
        (4, 0x200_u32),
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, 0x400),
        (68, 10),
        (108, 16),
    ] {
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

/// A partition's bytes as a file of their own, for tools that know no offsets.
fn cut(image: &Path, number: u64, to: &Path) -> PathBuf {
    let (start, length) = match number {
        1 => (1 << 20, uefi::ESP_SIZE),
        _ => {
            let start = (1 << 20) + uefi::ESP_SIZE;
            (
                start,
                fs::metadata(image).unwrap().len() - start - (1 << 20),
            )
        }
    };
    let arguments = [
        &format!("if={}", text(image)),
        &format!("of={}", text(to)),
        "bs=1M",
        "conv=sparse",
        "status=none",
        &format!("skip={}", start >> 20),
        &format!("count={}", length >> 20),
    ];
    judge("dd", &arguments.map(|argument: &str| argument)).unwrap();
    to.to_owned()
}

#[test]
fn the_tools_that_others_use_find_nothing_wrong_with_an_image() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 3_000_000, |_| {});
    let built = workshop.build("image", &package, DEFAULT_SIZE).unwrap();
    let image = workshop.path("image");
    assert_eq!(fs::metadata(&image).unwrap().len(), built.size);

    let said = judge("sgdisk", &["-v", text(&image)]).unwrap();
    assert!(said.contains("No problems found"), "{said}");
    let said = judge("sgdisk", &["-p", text(&image)]).unwrap();
    assert!(said.contains("EF00  racklet-esp"), "{said}");
    assert!(said.contains("8300  racklet-state"), "{said}");

    let esp = cut(&image, 1, &workshop.path("esp"));
    let said = judge("fsck.vfat", &["-n", "-v", text(&esp)]).unwrap();
    assert!(
        !said.contains("differ") && !said.contains("Dirty"),
        "{said}"
    );
    assert!(said.contains("FATs, 32 bit entries"), "{said}");
    let state = cut(&image, 2, &workshop.path("state"));
    judge("e2fsck", &["-f", "-n", text(&state)]).unwrap();
    let said = judge("dumpe2fs", &["-h", text(&state)]).unwrap();
    assert!(said.contains("racklet-state"), "{said}");
    assert!(said.contains("resize_inode"), "{said}");
    assert!(said.contains("verity"), "{said}");
}

#[test]
fn every_file_is_read_back_from_the_boot_partition() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 1_000_001, |_| {});
    workshop.build("image", &package, LEAST_SIZE).unwrap();
    let esp = cut(&workshop.path("image"), 1, &workshop.path("esp"));
    let out = workshop.path("out");
    fs::create_dir(&out).unwrap();
    judge("mcopy", &["-i", text(&esp), "-s", "-n", "::*", text(&out)]).unwrap();
    let file =
        |slot: &str, name: &str| fs::read(out.join("racklet").join(slot).join(name)).unwrap();
    let contents = |name| package.file(name).unwrap().unwrap();
    for (name, original) in [
        ("manifest.json", package.manifest_bytes().to_vec()),
        (
            "signatures/0.sig",
            package.signatures().unwrap()[0].1.clone(),
        ),
        ("files/kernel", contents("kernel")),
        ("files/initramfs", contents("initramfs")),
    ] {
        assert_eq!(slot::written(&file("a", name)), original, "{name}");
        // As much room in the slot that nothing is in.
        assert_eq!(file("b", name).len(), file("a", name).len(), "{name}");
        assert_eq!(slot::written(&file("b", name)), b"", "{name}");
    }
    assert_eq!(file("a", "files/kernel").len(), 20 << 20);
    assert_eq!(slot::written(&file("a", "signatures/31.sig")), b"");
    let boot = out.join("EFI/BOOT/BOOTX64.EFI");
    let said = judge(
        "objdump",
        &["-s", "-j", ".tray", "-j", ".board", text(&boot)],
    )
    .unwrap();
    assert!(said.contains("file format pei-x86-64"), "{said}");
    // A dump has sixteen characters of text on each line, behind the hexadecimal columns.
    let text: String = said.lines().filter_map(|line| line.get(43..59)).collect();
    assert!(
        text.contains("{\"tray\":\"tray-1") && text.contains("qemu-x86_64"),
        "{said}"
    );
}

#[test]
fn names_of_every_kind_and_many_of_them_are_read_back() {
    let mut names: Vec<String> = (0..120)
        .map(|n| format!("many/a-rather-long-name-number-{n}.json"))
        .collect();
    let special = [
        "UPPER.TXT",
        "lower.txt",
        "exactly-13-ch",
        "exactly-26-characters-long",
        "initramfs",
        "initramfs-2",
        "no-extension-and-long",
        "two.dots.here",
        "a/b/c/d/deep",
        "EMPTY",
    ];
    names.extend(special.map(String::from));
    let contents: Vec<Vec<u8>> = (0..names.len())
        .map(|n| names[n].repeat(n % 90).into_bytes())
        .collect();
    let entries: Vec<_> = names
        .iter()
        .zip(&contents)
        .map(|(path, contents)| fat::Entry {
            path,
            contents: if path == "EMPTY" { &[] } else { contents },
            apart: path.ends_with("7.json"),
            room: if path.ends_with("9.json") { 5000 } else { 0 },
        })
        .collect();
    let volume = fat::Volume {
        size: uefi::ESP_SIZE,
        hidden: 2048,
        id: 7,
        label: b"RACKLET-ESP",
    };
    let folder = tempfile::tempdir().unwrap();
    let (image, out) = (folder.path().join("fat"), folder.path().join("out"));
    let file = fs::File::create(&image).unwrap();
    file.set_len(uefi::ESP_SIZE).unwrap();
    for (offset, bytes) in fat::volume(&volume, &entries).unwrap() {
        file.write_all_at(&bytes, offset).unwrap();
    }
    let said = judge("fsck.vfat", &["-n", "-v", text(&image)]).unwrap();
    assert!(!said.contains("Free cluster summary"), "{said}");
    fs::create_dir(&out).unwrap();
    judge(
        "mcopy",
        &["-i", text(&image), "-s", "-n", "::*", text(&out)],
    )
    .unwrap();
    for entry in &entries {
        let mut found = fs::read(out.join(entry.path)).unwrap();
        if entry.room > 0 {
            assert_eq!(found.len() as u64, entry.room, "{}", entry.path);
            assert!(found.drain(entry.contents.len()..).all(|byte| byte == 0));
        }
        assert!(found == entry.contents, "{}", entry.path);
    }
}

#[test]
fn paths_that_cannot_be_written_are_refused() {
    let entry = |path| fat::Entry {
        path,
        contents: b"x",
        apart: false,
        room: 0,
    };
    let volume = |size, files: &[fat::Entry<'_>]| {
        let label = b"RACKLET-ESP";
        let (hidden, id) = (2048, 7);
        let volume = fat::Volume {
            size,
            hidden,
            id,
            label,
        };
        fat::volume(&volume, files).map(|_| ())
    };
    let long = "n".repeat(65);
    for path in ["", "a//b", "../x", ".", "x.", "with space", "\u{e9}", &long] {
        assert_eq!(
            volume(uefi::ESP_SIZE, &[entry(path)]),
            Err(FatError::Name(path.into()))
        );
    }
    for twice in [
        ["a", "a"],
        ["a", "a/b"],
        ["a/b", "a"],
        ["a", "A"],
        ["a/x", "A/y"],
    ] {
        assert!(matches!(
            volume(uefi::ESP_SIZE, &twice.map(entry)),
            Err(FatError::Name(_))
        ));
    }
    assert_eq!(volume(30 << 20, &[]), Err(FatError::Size(30 << 20)));
    assert_eq!(volume(u64::MAX, &[]), Err(FatError::Size(u64::MAX)));
}

#[test]
fn the_slot_records_are_where_the_bootloader_looks_and_alone_in_their_mebibyte() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 10, |_| {});
    workshop.build("image", &package, LEAST_SIZE).unwrap();
    let image = fs::File::open(workshop.path("image")).unwrap();
    let read = |offset, sector: &mut [u8; racklet_fat::SECTOR]| {
        image.read_exact_at(sector, (1 << 20) + offset)
    };
    let mut places = Vec::new();
    for (copy, generation) in [(0, 0), (1, 1)] {
        let place = racklet_fat::locate(read, &format!("racklet/slots.{copy}")).unwrap();
        assert_eq!(place.size as usize, slot::SIZE);
        let mut sector = [0; slot::SIZE];
        read(place.offset, &mut sector).unwrap();
        let expected = (generation, SlotRecord::new(Some(3), None));
        assert_eq!(SlotRecord::decode(&sector), Ok(expected));
        places.push(place.offset);
    }
    assert!(places[0].abs_diff(places[1]) >= 1 << 20, "{places:?}");
    let needle = package.file("kernel").unwrap().unwrap();
    let mut near = vec![0; 1 << 20];
    for place in places {
        image.read_exact_at(&mut near, (1 << 20) + place).unwrap();
        assert!(near[slot::SIZE..].iter().all(|byte| *byte == 0));
        assert!(!near.windows(needle.len()).any(|window| window == needle));
    }
}

#[test]
fn what_is_written_into_a_slot_shares_its_mebibyte_with_nothing_else() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 10, |_| {});
    workshop.build("image", &package, LEAST_SIZE).unwrap();
    let image = fs::File::open(workshop.path("image")).unwrap();
    let read = |offset, sector: &mut [u8; racklet_fat::SECTOR]| {
        image.read_exact_at(sector, (1 << 20) + offset)
    };
    let place = |path: &str| racklet_fat::locate(read, path).unwrap();
    let span = |slot| {
        let rooms = uefi::ROOMS.iter().map(|(name, _)| (*name).to_owned());
        let signatures = (0..MAX_KEYS).map(publish::signature_path);
        let files = rooms.chain(signatures);
        let places = files.map(|name| place(&format!("racklet/{slot}/{name}")));
        let places: Vec<_> = places.collect();
        let end = places.iter().map(|it| it.offset + u64::from(it.size)).max();
        let start = places.iter().map(|place| place.offset).min().unwrap();
        // One after the other: nothing else is between them.
        let sizes: u64 = places.iter().map(|place| u64::from(place.size)).sum();
        assert_eq!(end.unwrap() - start, sizes);
        (start, end.unwrap())
    };
    let (a, b) = (span("a"), span("b"));
    assert!(a.1 + (1 << 20) <= b.0, "{a:?} {b:?}");
    for other in ["EFI/BOOT/BOOTX64.EFI", "racklet/slots.0", "racklet/slots.1"] {
        let other = place(other);
        assert!(other.offset + u64::from(other.size) + (1 << 20) <= a.0);
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_others_do_not() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 100_000, |_| {});
    let first = workshop.build("first", &package, LEAST_SIZE).unwrap();
    // Identifiers and times that were taken from a clock would differ now.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = workshop.build("second", &package, LEAST_SIZE).unwrap();
    assert_eq!(first, second);
    judge(
        "cmp",
        &[
            text(&workshop.path("first")),
            text(&workshop.path("second")),
        ],
    )
    .unwrap();
    let other = workshop.package("other", 100_001, |_| {});
    let third = workshop.build("third", &other, LEAST_SIZE).unwrap();
    assert_ne!(first.sha256, third.sha256);
    let said = judge("sha256sum", &[text(&workshop.path("third"))]).unwrap();
    assert!(said.starts_with(&third.sha256.to_string()), "{said}");
}

#[test]
fn the_state_partition_can_grow_a_thousandfold() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 10, |_| {});
    workshop.build("image", &package, LEAST_SIZE).unwrap();
    let state = cut(&workshop.path("image"), 2, &workshop.path("state"));
    let file = fs::OpenOptions::new().write(true).open(&state).unwrap();
    file.set_len(64 << 30).unwrap();
    judge("resize2fs", &[text(&state)]).unwrap();
    judge("e2fsck", &["-f", "-n", text(&state)]).unwrap();
    let said = judge("dumpe2fs", &["-h", text(&state)]).unwrap();
    // 64 GiB in blocks of 4 KiB.
    assert!(
        said.contains("Block count:              16777216"),
        "{said}"
    );
}

#[test]
fn an_image_on_a_larger_card_is_grown_by_what_trays_use() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 10, |_| {});
    workshop.build("image", &package, LEAST_SIZE).unwrap();
    let image = workshop.path("image");
    let card = fs::File::options()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    card.set_len(1 << 30).unwrap();
    let mut head = vec![0; racklet_linux::table::head_bytes(512)];
    card.read_exact_at(&mut head, 0).unwrap();
    let growth = racklet_linux::table::grow(&head, 512, 1 << 30, 2)
        .unwrap()
        .unwrap();
    for write in growth.writes {
        card.write_all_at(&write.bytes, write.offset).unwrap();
    }
    let said = judge("sgdisk", &["-v", text(&image)]).unwrap();
    assert!(said.contains("No problems found"), "{said}");
    assert!(growth.size > (1 << 30) - (100 << 20), "{}", growth.size);
    let said = judge("sgdisk", &["-i", "2", text(&image)]).unwrap();
    assert!(
        said.contains(&format!("({:.1} MiB)", growth.size as f64 / 1048576.0)),
        "{said}"
    );
}

#[test]
fn an_image_takes_little_room_and_only_its_owner_may_read_its_secrets() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 10, |_| {});
    workshop.build("image", &package, DEFAULT_SIZE).unwrap();
    let metadata = fs::metadata(workshop.path("image")).unwrap();
    assert!(
        metadata.blocks() * 512 < 16 << 20,
        "{} sectors",
        metadata.blocks()
    );
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[track_caller]
fn refused(workshop: &Workshop, package: &Package, size: u64, text: &str) {
    fs::write(workshop.path("image"), "the image before").unwrap();
    let error = workshop.build("image", package, size).unwrap_err();
    let mut said = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        said = format!("{said}: {error}");
        source = error.source();
    }
    assert!(said.contains(text), "{said}");
    let kept = fs::read(workshop.path("image")).unwrap();
    assert_eq!(kept, b"the image before");
}

#[test]
fn what_would_not_boot_is_refused_and_the_old_image_stays() {
    let workshop = Workshop::new();
    let good = workshop.package("good", 10, |_| {});
    refused(&workshop, &good, 100 << 20, "at least 160 MiB");
    refused(&workshop, &good, LEAST_SIZE + 512, "whole MiB");

    let elsewhere = workshop.package("elsewhere", 10, |m| m.boards = vec!["rpi4".into()]);
    refused(
        &workshop,
        &elsewhere,
        LEAST_SIZE,
        "it is for rpi4; this board is qemu-x86_64",
    );
    let large = workshop.package("large", 80 << 20, |_| {});
    refused(
        &workshop,
        &large,
        LEAST_SIZE,
        "make the kernel or the initramfs smaller",
    );

    let stranger = Workshop::new();
    refused(
        &stranger,
        &good,
        LEAST_SIZE,
        "1 signature by firmware keys needed",
    );
    let tampered = workshop.package("tampered", 10, |_| {});
    let chunk = (tampered.tree().unwrap().into_iter()).find(|path| path.starts_with("chunks/"));
    fs::write(tampered.directory().join(chunk.unwrap()), [0; 10]).unwrap();
    refused(&workshop, &tampered, LEAST_SIZE, " of ");
}

#[test]
fn what_a_tray_without_a_card_starts_is_one_file_with_a_whole_slot_in_it() {
    let workshop = Workshop::new();
    let package = workshop.package("slot", 3 << 20, |_| {});
    let board = racklet_boards::find("qemu-x86_64").unwrap();
    let root = workshop.trust_root();
    let spec = Netboot {
        board: &board,
        bootloader: Some(&small_pe()),
        trust_root: &root,
        tray: TRAY,
        bootstrap: &package,
    };
    let file = workshop.path("tray.efi");
    let built = netboot(&spec, &file).unwrap();
    assert_eq!(built.size, fs::metadata(&file).unwrap().len());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let signature = package.signatures().unwrap().remove(0).1;
    for (section, contents) in [
        (".trust", root.clone()),
        (".tray", TRAY.to_vec()),
        (".slot", package.manifest_bytes().to_vec()),
        (".sigs", signature),
        (".linux", package.file("kernel").unwrap().unwrap()),
        (".initrd", package.file("initramfs").unwrap().unwrap()),
    ] {
        let (out, copy) = (workshop.path("section"), workshop.path("copy"));
        let dump = format!("{section}={}", text(&out));
        judge(
            "objcopy",
            &["--dump-section", &dump, text(&file), text(&copy)],
        )
        .unwrap();
        // In the file each has whole blocks of 512 bytes.
        let found = fs::read(&out).unwrap();
        assert!(found.starts_with(&contents), "{section}");
        assert!(
            found[contents.len()..].iter().all(|byte| *byte == 0),
            "{section}"
        );
    }
    // The same again, and another one for another bootstrap.
    assert_eq!(netboot(&spec, &workshop.path("again")).unwrap(), built);
    let stranger = Workshop::new();
    let refused = netboot(
        &Netboot {
            trust_root: &stranger.trust_root(),
            ..spec
        },
        &workshop.path("refused"),
    );
    assert!(
        matches!(refused, Err(DiskError::Package { .. })),
        "{refused:?}"
    );
    assert!(!workshop.path("refused").exists());
}

#[test]
fn a_bootloader_that_cannot_carry_more_is_refused() {
    let add = |pe: &[u8]| {
        pe::add_sections(
            pe,
            Architecture::X86_64,
            &[(".trust", b"x"), (".tray", b"y")],
        )
    };
    let good = small_pe();
    let added = add(&good).unwrap();
    assert_eq!(add(&added), Err(PeError::Taken(".trust".into())));
    assert_eq!(
        pe::add_sections(&good, Architecture::Aarch64, &[]),
        Err(PeError::NotPe)
    );
    let mut signed = good.clone();
    signed[0x98 + 112 + 36] = 8;
    assert_eq!(add(&signed), Err(PeError::Signed));
    let many = [(".a", &b""[..]); 16];
    assert_eq!(
        pe::add_sections(&good, Architecture::X86_64, &many),
        Err(PeError::NoRoom(16))
    );
    for length in 0..0x400 {
        assert_eq!(add(&good[..length]), Err(PeError::NotPe), "{length}");
    }
}
