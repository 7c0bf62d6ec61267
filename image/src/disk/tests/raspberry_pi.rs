// SPDX-License-Identifier: Apache-2.0
//! Cards for a Raspberry Pi, judged by sfdisk, fsck.vfat, mtools, e2fsck and cpio. What its firmware makes of one is judged in
//! `racklet-tests`, by rules that know nothing of what is here.

use racklet_boards::Board;
use racklet_linux::{mbr, table};

use super::*;
use crate::raspberry_pi as slot_files;

const MIB: u64 = 1 << 20;
const VOLUME: u64 = 40 * MIB;

fn board() -> Board {
    racklet_boards::find("raspberry-pi-4b").unwrap()
}

/// A signed bootstrap for it, with `change` made to its files: 5 MB, as a kernel has.
fn release(
    workshop: &Workshop,
    name: &str,
    change: impl Fn(&mut Vec<(String, Vec<u8>)>),
) -> Package {
    let board = board();
    let firmware = board.firmware.as_ref().unwrap();
    let mut files = vec![
        (
            "kernel".to_owned(),
            Vec::from_iter(0..=250_u8).repeat(20_000),
        ),
        ("initramfs".to_owned(), b"initramfs...".to_vec()),
    ];
    let others = slot_files::release_files(firmware);
    files.extend(others.map(|name| (name.clone(), format!("this is {name}").into_bytes())));
    change(&mut files);
    let mut manifest = Manifest::new(Kind::Bootstrap, "stable", 3, board.architecture);
    manifest.boards = vec![board.name];
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (&**name, &**bytes))
        .collect();
    workshop.signed(name, manifest, &files)
}

fn build_for(
    workshop: &Workshop,
    name: &str,
    board: &Board,
    slots: [Option<&Package>; 2],
    tray: &[u8],
) -> Result<Built, DiskError> {
    let root = workshop.trust_root();
    let spec = Spec {
        board,
        bootloader: None,
        trust_root: &root,
        tray,
        slots,
        size: LEAST_SIZE,
    };
    build(&spec, &workshop.path(name))
}

fn card(workshop: &Workshop, name: &str, slots: [Option<&Package>; 2]) -> PathBuf {
    build_for(workshop, name, &board(), slots, TRAY).unwrap();
    workshop.path(name)
}

/// A partition's bytes as a file of their own.
fn cut(image: &Path, number: u64, to: PathBuf) -> PathBuf {
    let start = MIB + (number - 1) * VOLUME;
    let end = match number {
        4 => fs::metadata(image).unwrap().len(),
        _ => start + VOLUME,
    };
    let arguments = [
        &format!("if={}", text(image)),
        &format!("of={}", text(&to)),
        "bs=1M",
        "conv=sparse",
        "status=none",
        &format!("skip={}", start / MIB),
        &format!("count={}", (end - start) / MIB),
    ];
    judge("dd", &arguments.map(|argument: &str| argument)).unwrap();
    to
}

/// All files of a partition, in a folder.
fn unpacked(workshop: &Workshop, image: &Path, number: u64) -> PathBuf {
    let volume = cut(image, number, workshop.path("volume"));
    let out = workshop.path(&format!("files {number}"));
    fs::create_dir(&out).unwrap();
    judge(
        "mcopy",
        &["-i", text(&volume), "-s", "-n", "::*", text(&out)],
    )
    .unwrap();
    out
}

#[test]
fn the_tools_that_others_use_find_nothing_wrong_with_a_card() {
    let workshop = Workshop::new();
    let package = release(&workshop, "slot", |_| {});
    let image = card(&workshop, "image", [Some(&package), Some(&package)]);
    let said = judge("sfdisk", &["--verify", text(&image)]).unwrap();
    assert!(said.contains("No errors detected"), "{said}");
    let said = judge("sfdisk", &["--dump", text(&image)]).unwrap();
    assert!(said.contains("label: dos"), "{said}");
    let kinds: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once("type=").map(|(_, kind)| kind))
        .collect();
    assert_eq!(kinds, ["c", "c", "c", "83"], "{said}");
    for number in 1..=3 {
        let volume = cut(&image, number, workshop.path("volume"));
        let said = judge("fsck.vfat", &["-n", "-v", text(&volume)]).unwrap();
        assert!(said.contains("FATs, 32 bit entries"), "{said}");
        assert!(
            !said.contains("differ") && !said.contains("Dirty"),
            "{said}"
        );
        assert!(!said.contains("Free cluster summary"), "{said}");
    }
    let state = cut(&image, 4, workshop.path("state"));
    judge("e2fsck", &["-f", "-n", text(&state)]).unwrap();
    let said = judge("dumpe2fs", &["-h", text(&state)]).unwrap();
    assert!(
        said.contains("racklet-state") && said.contains("verity"),
        "{said}"
    );
}

#[test]
fn a_slot_holds_all_of_its_release_and_beside_it_what_is_the_trays_own() {
    let workshop = Workshop::new();
    let package = release(&workshop, "slot", |_| {});
    let image = card(&workshop, "image", [Some(&package), Some(&package)]);
    for (number, name) in [(2, "a"), (3, "b")] {
        let found = unpacked(&workshop, &image, number);
        for file in &package.manifest().files {
            let same = fs::read(found.join(&file.name)).unwrap()
                == package.file(&file.name).unwrap().unwrap();
            assert!(same, "{}", file.name);
        }
        let manifest = fs::read(found.join("racklet/manifest.json")).unwrap();
        assert_eq!(manifest, package.manifest_bytes());
        assert!(found.join("racklet/signatures/0.sig").is_file());
        // What nobody signed is what the image's builder says of this tray, and the slot's name.
        let archive = |file: &str, path: &str| {
            let to = workshop.path(&format!("{number} {file}"));
            fs::create_dir(&to).unwrap();
            let (to, file) = (text(&to), found.join(file));
            judge(
                "cpio",
                &["-i", "-d", "--quiet", "-D", to, "-F", text(&file)],
            )
            .unwrap();
            fs::read(Path::new(to).join("racklet").join(path)).unwrap()
        };
        assert_eq!(
            archive(slot_files::SLOT, "slot.json"),
            format!(r#"{{"slot":"{name}"}}"#).into_bytes()
        );
        assert_eq!(
            fs::metadata(found.join(slot_files::OWNER)).unwrap().len() % 4,
            0
        );
        assert_eq!(archive(slot_files::OWNER, "tray.json"), TRAY);
        let count = fs::read_dir(&found).unwrap().count();
        assert_eq!(count, package.manifest().files.len() + 3, "nothing else");
    }
}

#[test]
fn nothing_on_the_first_partition_could_be_booted_and_what_is_written_there_is_alone() {
    let workshop = Workshop::new();
    let package = release(&workshop, "slot", |_| {});
    let image = card(&workshop, "image", [None, Some(&package)]);
    let found = unpacked(&workshop, &image, 1);
    let mut names: Vec<_> = fs::read_dir(&found)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["autoboot.txt", "racklet"]);
    // Slot a is empty: the firmware's usual boot is slot b.
    let autoboot = fs::read_to_string(found.join("autoboot.txt")).unwrap();
    assert_eq!(
        autoboot,
        "[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n"
    );
    let image = fs::File::open(image).unwrap();
    let read =
        |offset, sector: &mut [u8; racklet_fat::SECTOR]| image.read_exact_at(sector, MIB + offset);
    let mut places = Vec::new();
    for path in ["autoboot.txt", "racklet/slots.0", "racklet/slots.1"] {
        places.push(racklet_fat::locate(read, path).unwrap().offset);
    }
    for pair in places.windows(2) {
        assert!(pair[0].abs_diff(pair[1]) >= MIB, "{places:?}");
    }
    let mut record = [0; slot::SIZE];
    read(places[1], &mut record).unwrap();
    assert_eq!(
        SlotRecord::decode(&record),
        Ok((0, SlotRecord::new(None, Some(3))))
    );
}

#[test]
fn the_same_inputs_give_the_same_card_and_each_tray_has_a_disk_of_its_own() {
    let workshop = Workshop::new();
    let package = release(&workshop, "slot", |_| {});
    let other = release(&workshop, "other", |files| files[0].1.push(7));
    let built = |name: &str, package: &Package, tray: &[u8]| {
        let built = build_for(&workshop, name, &board(), [Some(package), None], tray).unwrap();
        let head = fs::read(workshop.path(name)).unwrap();
        (built.sha256, mbr::Table::read(&head).unwrap().signature)
    };
    let first = built("first", &package, TRAY);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(built("second", &package, TRAY), first);
    // The disk stays the same tray's when its bootstrap changes.
    let updated = built("updated", &other, TRAY);
    assert!(updated.0 != first.0 && updated.1 == first.1);
    let another = built("another", &package, b"{\"tray\":\"tray-2\"}\n");
    assert_ne!(another.1, first.1);
}

#[test]
fn a_card_larger_than_its_image_is_grown_by_what_trays_use() {
    let workshop = Workshop::new();
    let package = release(&workshop, "slot", |_| {});
    let image = card(&workshop, "image", [Some(&package), None]);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&image)
        .unwrap();
    file.set_len(1 << 30).unwrap();
    let mut head = vec![0; table::head_bytes(512)];
    file.read_exact_at(&mut head, 0).unwrap();
    let growth = table::grow(&head, 512, 1 << 30, 4).unwrap().unwrap();
    for write in growth.writes {
        file.write_all_at(&write.bytes, write.offset).unwrap();
    }
    assert_eq!(growth.size, (1 << 30) - MIB - 3 * VOLUME);
    let said = judge("sfdisk", &["--verify", text(&image)]).unwrap();
    assert!(said.contains("No errors detected"), "{said}");
    let said = judge("sfdisk", &["--dump", text(&image)]).unwrap();
    assert!(
        said.contains(&format!("size= {:>11}, type=83", growth.size / 512)),
        "{said}"
    );
    // The tray finds its state by what the slot's archive says of the disk.
    let identity = mbr::identity(mbr::Table::read(&head).unwrap().signature, 1);
    assert_eq!(table::holds(&head, 512, &identity), Ok(true));
}

#[test]
fn a_bootstrap_that_lacks_what_the_firmware_loads_makes_no_card() {
    let workshop = Workshop::new();
    let why = |package: &Package, board: &Board| {
        let refused = build_for(&workshop, "image", board, [Some(package), None], TRAY);
        refused.unwrap_err().to_string()
    };
    let without = release(&workshop, "without", |files| {
        files.retain(|(name, _)| name != "start4.elf");
    });
    let said = why(&without, &board());
    assert!(
        said.contains("consists of") && said.contains("start4.elf"),
        "{said}"
    );
    let more = release(&workshop, "more", |files| {
        files.push(("recovery.bin".into(), vec![1]))
    });
    assert!(why(&more, &board()).contains("recovery.bin"));
    // A Raspberry Pi 3's ROM wants its second stage beside the slots.
    let mut other = board();
    other.firmware.as_mut().unwrap().rom = Some("bootcode.bin".into());
    let good = release(&workshop, "good", |_| {});
    assert!(why(&good, &other).contains("needs a bootloader"));
}
