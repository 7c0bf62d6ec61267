// SPDX-License-Identifier: Apache-2.0
//! The documentation's own examples, and what was seen where it is silent.

use std::{collections::BTreeMap, process::Command};

use super::{
    settings::{Reader, Settings},
    *,
};

const NOW: u64 = 1_780_000_000;
const PI4: Machine = Machine {
    model: Model::FourB,
    eeprom: NOW,
    serial: 0x1234_5678,
};
/// As the documentation has it.
const A_B: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
const CONFIG: &str = "arm_64bit=1\nkernel=kernel\n";

/// A card in memory.
#[derive(Default, Clone)]
struct Card(BTreeMap<(u32, String), Vec<u8>>);

impl Card {
    fn with(mut self, number: u32, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.0
            .insert((number, path.to_lowercase()), contents.as_ref().to_vec());
        self
    }

    fn without(mut self, number: u32, path: &str) -> Self {
        self.0.remove(&(number, path.into())).expect("was there");
        self
    }

    /// A partition from which something starts.
    fn slot(self, number: u32) -> Self {
        self.with(number, "start4.elf", "vpu")
            .with(number, "fixup4.dat", "vpu")
            .with(number, "config.txt", CONFIG)
            .with(number, "kernel", image())
            .with(number, "bcm2711-rpi-4-b.dtb", format!("tree {number}"))
            .with(
                number,
                "cmdline.txt",
                format!("slot={number}\nsecond line\n"),
            )
    }
}

impl Volumes for Card {
    fn file(&self, number: u32, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(number, path.to_lowercase())).cloned())
    }
}

fn image() -> Vec<u8> {
    let mut image = vec![0; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

fn two_slots() -> Card {
    Card::default().with(1, "autoboot.txt", A_B).slot(2).slot(3)
}

fn tried() -> Reset {
    Reset {
        tryboot: true,
        ..Reset::default()
    }
}

#[track_caller]
fn started(card: &Card, machine: &Machine, reset: Reset) -> Loaded {
    boot(card, machine, reset).expect("reads").expect("starts")
}

#[track_caller]
fn refused(card: &Card, machine: &Machine, reset: Reset) -> Refused {
    boot(card, machine, reset)
        .expect("reads")
        .expect_err("starts nothing")
}

#[test]
fn the_documented_a_b_flow_boots_the_other_partition_once_and_the_first_again() {
    let card = two_slots();
    assert_eq!(started(&card, &PI4, Reset::default()).choice.partition, 2);
    let trial = started(&card, &PI4, tried());
    assert_eq!(
        (trial.choice.partition, trial.arguments.as_str()),
        (3, "slot=3")
    );
    // The flag is gone by itself: that is the caller's Reset. Bought, the other way round.
    let bought = A_B.replace('3', "x").replace('2', "3").replace('x', "2");
    let card = card.with(1, "autoboot.txt", bought);
    assert_eq!(started(&card, &PI4, Reset::default()).choice.partition, 3);
    assert_eq!(started(&card, &PI4, tried()).choice.partition, 2);
}

#[test]
fn a_number_of_the_last_reset_beats_autoboot_and_63_halts() {
    let card = two_slots();
    let with = |rsts| Reset {
        rsts,
        tryboot: false,
    };
    // As syscon-reboot-mode writes it: partition 2 is 0x4, partition 3 is 0x5; the rest of the register says why it was reset.
    for (rsts, partition) in [(0x0, 2), (0x4, 2), (0x5, 3), (0x1005, 3), (0x1000, 2)] {
        assert_eq!(
            started(&card, &PI4, with(rsts)).choice.partition,
            partition,
            "{rsts:x}"
        );
    }
    assert_eq!(refused(&card, &PI4, with(0x555)), Refused::Halted);
    // 62 is no partition's number.
    assert_eq!(partition::number_in(0x554), 62);
    assert_eq!(started(&card, &PI4, with(0x554)).choice.partition, 2);
}

#[test]
fn an_eeprom_from_before_a_b_never_boots_the_other_partition() {
    let old = Machine {
        eeprom: KNOWS_A_B - 1,
        ..PI4
    };
    let card = two_slots();
    assert_eq!(started(&card, &old, Reset::default()).choice.partition, 2);
    // It looks for another file on the same partition instead.
    assert_eq!(
        refused(&card, &old, tried()),
        Refused::Missing("kernel7l.img".into())
    );
    let card = card.with(2, "tryboot.txt", CONFIG);
    let choice = started(&card, &old, tried()).choice;
    assert_eq!((choice.partition, choice.by_partition), (2, false));
}

#[test]
fn a_partition_that_cannot_be_booted_starts_a_walk_that_wraps() {
    let broken = two_slots().without(2, "start4.elf");
    assert_eq!(started(&broken, &PI4, Reset::default()).choice.partition, 3);
    let broken = two_slots().without(3, "start4.elf");
    assert_eq!(started(&broken, &PI4, tried()).choice.partition, 2, "wraps");
    let old = Machine {
        eeprom: WALKS - 1,
        ..PI4
    };
    assert_eq!(refused(&broken, &old, tried()), Refused::NotBootable(3));
    let empty = Card::default().with(1, "autoboot.txt", A_B);
    assert_eq!(
        refused(&empty, &PI4, Reset::default()),
        Refused::NothingBootable
    );
    // Firmware on the partition of autoboot.txt would be found by a walk, and started without it.
    let trap = two_slots()
        .without(2, "start4.elf")
        .without(3, "start4.elf")
        .slot(1);
    assert_eq!(started(&trap, &PI4, Reset::default()).choice.partition, 1);
}

#[test]
fn without_autoboot_the_first_bootable_partition_is_taken() {
    let card = two_slots().without(1, "autoboot.txt");
    assert_eq!(started(&card, &PI4, Reset::default()).choice.partition, 2);
    let card = card.without(2, "start4.elf");
    assert_eq!(started(&card, &PI4, Reset::default()).choice.partition, 3);
    let long = two_slots().with(1, "autoboot.txt", A_B.to_owned() + &"#".repeat(512));
    assert_eq!(
        refused(&long, &PI4, Reset::default()),
        Refused::LongAutoboot(A_B.len() + 512)
    );
}

#[test]
fn autoboot_knows_three_filters_and_no_board() {
    let text =
        "[pi4]\nboot_partition=3\n[all]\n[none]\nboot_partition=3\n[all]\nboot_partition=2\n";
    let card = two_slots().with(1, "autoboot.txt", text);
    assert_eq!(started(&card, &PI4, Reset::default()).choice.partition, 2);
}

#[test]
fn a_raspberry_pi_3_wants_its_second_stage_on_the_first_partition() {
    let pi3 = Machine {
        model: Model::ThreeBPlus,
        ..PI4
    };
    let card = two_slots()
        .with(2, "start.elf", "vpu")
        .with(2, "fixup.dat", "vpu")
        .with(2, "bcm2710-rpi-3-b-plus.dtb", "the vendor's");
    assert_eq!(refused(&card, &pi3, Reset::default()), Refused::NoBootcode);
    let card = card.with(1, "bootcode.bin", "second stage");
    assert_eq!(
        started(&card, &pi3, Reset::default()).tree.contents,
        b"the vendor's"
    );
}

/// What applies of a config.txt on a Pi 4.
fn applied(text: &str, name: &str) -> Option<String> {
    let reader = Reader {
        machine: Some(&PI4),
        tryboot: Some(false),
    };
    let settings = Settings::read(text.as_bytes(), reader);
    settings.get(name).map(str::to_owned)
}

#[test]
fn filters_of_one_kind_replace_each_other_and_those_of_several_kinds_add_up() {
    for (text, expected) in [
        ("x=1", Some("1")),
        ("x=1\nx=2", Some("2")),
        ("# x=1", None),
        ("[pi4]\nx=1", Some("1")),
        ("[pi3]\nx=1", None),
        ("[pi3]\n[pi4]\nx=1", Some("1")),
        ("[pi4]\n[pi3]\nx=1\n[all]\ny=1", None),
        ("[none]\n[pi4]\nx=1", None),
        ("[none]\n[all]\nx=1", Some("1")),
        ("[0x12345678]\nx=1", Some("1")),
        ("[0x12345679]\n[pi4]\nx=1", None),
        ("[board-type=0x11]\nx=1", Some("1")),
        ("[board-type=0x14]\nx=1", None),
        ("[pi4]\n[board-type=0x14]\nx=1", None),
        ("[tryboot]\nx=1", None),
        ("[pi400]\nx=1", None),
        ("[EDID=DEL-DELL_U2422H]\nx=1", None),
        ("[gpio4=1]\nx=1\n[pi4]\nx=2", None),
        ("[pi4]\nx=1\n[pi3]\nx=2\n[all]\nx=3\n", Some("3")),
        ("  x = 1  ", Some("1")),
        ("x=1\r\n", Some("1")),
    ] {
        assert_eq!(applied(text, "x").as_deref(), expected, "{text:?}");
    }
    // The Pi 3B+ sees the settings of both of its filters.
    let pi3 = Machine {
        model: Model::ThreeBPlus,
        ..PI4
    };
    let reader = Reader {
        machine: Some(&pi3),
        tryboot: None,
    };
    for text in ["[pi3]\nx=1", "[pi3+]\nx=1"] {
        assert_eq!(Settings::read(text.as_bytes(), reader).get("x"), Some("1"));
    }
}

#[test]
fn what_a_line_has_beyond_98_characters_is_not_read() {
    let line = format!(
        "initramfs {},{} followkernel",
        "a".repeat(60),
        "b".repeat(60)
    );
    let read = applied(&line, "initramfs").expect("is there");
    assert_eq!(read.len(), 98 - "initramfs ".len());
    assert!(!read.contains("followkernel"));
}

#[test]
fn initramfs_files_follow_each_other_and_one_that_is_missing_costs_all() {
    let card = two_slots()
        .with(
            2,
            "config.txt",
            format!("{CONFIG}initramfs one,two followkernel\n"),
        )
        .with(2, "one", "1111")
        .with(2, "two", "22");
    assert_eq!(started(&card, &PI4, Reset::default()).archive(), b"111122");
    let loaded = started(&card.without(2, "two"), &PI4, Reset::default());
    assert_eq!(
        (loaded.archive(), loaded.missing),
        (Vec::new(), vec!["two".to_owned()])
    );
}

#[test]
fn little_memory_for_the_gpu_takes_the_cut_down_firmware_beside_the_plain_one() {
    let card = two_slots().with(2, "config.txt", format!("{CONFIG}gpu_mem=16\n"));
    assert_eq!(
        refused(&card, &PI4, Reset::default()),
        Refused::Missing("start4cd.elf".into())
    );
    let card = card.with(2, "start4cd.elf", "vpu");
    assert_eq!(
        refused(&card, &PI4, Reset::default()),
        Refused::Missing("fixup4cd.dat".into())
    );
    let card = card.with(2, "fixup4cd.dat", "vpu");
    assert_eq!(
        started(&card, &PI4, Reset::default()).firmware,
        "start4cd.elf"
    );
    // Issue 1809 of the firmware: not even then without the plain one's fixup.
    let card = card.without(2, "fixup4.dat");
    assert_eq!(
        refused(&card, &PI4, Reset::default()),
        Refused::Missing("fixup4.dat".into())
    );
}

#[test]
fn a_prefix_counts_where_a_kernel_and_a_tree_lie_behind_it() {
    let config = format!("{CONFIG}os_prefix=new/\nupstream_kernel=1\n");
    let card = two_slots()
        .with(2, "config.txt", config)
        .with(2, "new/kernel", image());
    let name = |card: &Card| started(card, &PI4, Reset::default()).kernel.name;
    assert_eq!(name(&card), "kernel", "there is no tree behind it");
    let card = card.with(2, "new/bcm2711-rpi-4-b.dtb", "new tree");
    assert_eq!(name(&card), "new/kernel");
    let absolute = card.clone().with(
        2,
        "config.txt",
        "arm_64bit=1\nos_prefix=new/\nkernel=/kernel\n",
    );
    assert_eq!(name(&absolute), "kernel");
    let upstream = two_slots().with(2, "config.txt", format!("{CONFIG}upstream_kernel=1\n"));
    assert_eq!(
        name(&upstream),
        "kernel",
        "upstream/ is a prefix like any other"
    );
}

#[test]
fn a_kernel_that_the_firmware_would_not_start_is_told() {
    let with = |contents: &[u8]| two_slots().with(2, "kernel", contents);
    let mut gzip = Command::new("gzip")
        .arg("-nc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip is everywhere");
    std::io::Write::write_all(&mut gzip.stdin.take().expect("a pipe"), &image()).expect("writes");
    let packed = gzip.wait_with_output().expect("ends").stdout;
    let loaded = started(&with(&packed), &PI4, Reset::default());
    assert_eq!(loaded.kernel.contents, image());
    for other in [&b"\x28\xb5\x2f\xfdzstd"[..], b"MZ", b""] {
        assert!(matches!(
            refused(&with(other), &PI4, Reset::default()),
            Refused::Kernel(_)
        ));
    }
    let narrow = two_slots().with(2, "config.txt", "kernel=kernel\n");
    assert!(matches!(
        refused(&narrow, &PI4, Reset::default()),
        Refused::Kernel(_)
    ));
    let none = two_slots().without(2, "bcm2711-rpi-4-b.dtb");
    let missing = Refused::Missing("bcm2711-rpi-4-b.dtb".into());
    assert_eq!(refused(&none, &PI4, Reset::default()), missing);
}

#[test]
fn what_is_applied_to_a_tree_at_boot_is_not_played_and_said_so() {
    assert!(started(&two_slots(), &PI4, Reset::default()).reads_hat);
    let off = two_slots().with(2, "config.txt", format!("{CONFIG}force_eeprom_read=0\n"));
    assert!(!started(&off, &PI4, Reset::default()).reads_hat);
    let overlay = two_slots().with(2, "config.txt", format!("{CONFIG}dtoverlay=disable-bt\n"));
    assert_eq!(
        refused(&overlay, &PI4, Reset::default()),
        Refused::NotPlayed("dtoverlay".into())
    );
}
