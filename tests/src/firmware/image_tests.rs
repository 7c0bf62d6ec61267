// SPDX-License-Identifier: Apache-2.0
//! Cards as `racklet image build` makes them, read by the firmware's rules: which slot starts, with what, and what becomes of a card of
//! which a part is gone.

use std::process::Command;

use super::{card::Image, *};
use crate::{
    process::output,
    raspi::bench::{Bench as Builder, Parts},
};

/// A card for a board, with the release of each slot saying which it is.
struct Bench(Builder);

impl Bench {
    fn new(board: &str, slots: [bool; 2]) -> Self {
        let builder = Builder::new(board).expect("there is such a board");
        let packages = [("a", slots[0]), ("b", slots[1])].map(|(name, there)| {
            let mut kernel = vec![0; 100_000];
            kernel[56..60].copy_from_slice(b"ARM\x64");
            kernel.extend_from_slice(name.as_bytes());
            let parts = Parts {
                kernel,
                initramfs: format!("initramfs of {name}").into(),
                tree: format!("tree of {name}").into(),
                firmware: |file| Ok(file.as_bytes().to_vec()),
            };
            there.then(|| builder.release(name, &parts).expect("builds"))
        });
        let [a, b] = &packages;
        builder.image([a.as_ref(), b.as_ref()]).expect("builds");
        Self(builder)
    }

    fn boot(&self, machine: &Machine, reset: Reset) -> Result<Loaded, Refused> {
        let image = Image::open(&self.0.path("image")).expect("is an MBR");
        boot(&image, machine, reset).expect("reads")
    }

    /// Removes a file of a partition, as a fault of the card would.
    fn remove(&self, partition: u64, file: &str) {
        let start = (1 + (partition - 1) * 40) << 20;
        let mut delete = Command::new("mdel");
        delete
            .arg("-i")
            .arg(format!("{}@@{start}", self.0.path("image").display()));
        output(delete.arg(format!("::{file}"))).expect("deletes");
    }
}

const PI4: Machine = Machine {
    model: Model::FourB,
    eeprom: WALKS,
    serial: 1,
};
const TRIED: Reset = Reset {
    rsts: 0,
    tryboot: true,
};

#[test]
fn a_card_of_ours_starts_slot_a_and_after_a_one_shot_slot_b_each_with_its_own_files() {
    let bench = Bench::new("raspberry-pi-4b", [true, true]);
    for (reset, partition, name) in [(Reset::default(), 2, "a"), (TRIED, 3, "b")] {
        let loaded = bench.boot(&PI4, reset).expect("starts");
        assert_eq!(loaded.choice.partition, partition);
        assert!(loaded.choice.by_partition);
        assert_eq!(loaded.firmware, "start4cd.elf");
        assert!(loaded.kernel.contents.ends_with(name.as_bytes()));
        assert_eq!(loaded.tree.contents, format!("tree of {name}").into_bytes());
        // Nothing that nobody signed is applied to the tree.
        assert!(!loaded.reads_hat && loaded.missing.is_empty());
        let archive = loaded.archive();
        assert!(archive.starts_with(format!("initramfs of {name}").as_bytes()));
        // Both of the tray's own archives lie where Linux looks for one.
        let places = archive.windows(6).enumerate();
        let first = { places }
            .find(|(_, bytes)| *bytes == b"070701")
            .expect("an archive");
        assert_eq!(first.0 % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("racklet/trust-root.json") && text.contains("tray-1"));
        assert!(text.contains(&format!(r#"{{"slot":"{name}"}}"#)));
        let arguments = bench.0.board().arguments(racklet_boards::Stage::Bootstrap);
        assert_eq!(loaded.arguments, arguments.join(" "));
    }
}

#[test]
fn a_slot_that_lacks_its_firmware_or_a_first_partition_without_autoboot_leaves_the_other_slot() {
    let bench = Bench::new("raspberry-pi-4b", [true, true]);
    bench.remove(2, "start4.elf");
    let started = |machine: &Machine| {
        bench
            .boot(machine, Reset::default())
            .map(|it| it.choice.partition)
    };
    assert_eq!(started(&PI4), Ok(3));
    let old = Machine {
        eeprom: WALKS - 1,
        ..PI4
    };
    assert_eq!(started(&old), Err(Refused::NotBootable(2)));
    bench.remove(1, "autoboot.txt");
    assert_eq!(started(&PI4), Ok(3));
    assert_eq!(started(&old), Ok(3));
    bench.remove(3, "start4.elf");
    assert_eq!(
        started(&PI4),
        Err(Refused::NothingBootable),
        "p1 holds nothing to boot"
    );
}

#[test]
fn a_card_with_one_slot_starts_that_one_whichever_it_is() {
    let second = Bench::new("raspberry-pi-4b", [false, true]);
    let loaded = second.boot(&PI4, Reset::default()).expect("starts");
    assert_eq!(loaded.choice.partition, 3);
    // And a one-shot into the empty one walks back to it.
    assert_eq!(
        second.boot(&PI4, TRIED).map(|it| it.choice.partition),
        Ok(3)
    );
}

#[test]
fn a_card_for_a_raspberry_pi_3_brings_its_second_stage() {
    let bench = Bench::new("raspberry-pi-3b-plus", [true, true]);
    let pi3 = Machine {
        model: Model::ThreeBPlus,
        ..PI4
    };
    let loaded = bench.boot(&pi3, Reset::default()).expect("starts");
    assert_eq!(
        (loaded.choice.partition, loaded.firmware.as_str()),
        (2, "start_cd.elf")
    );
    assert_eq!(loaded.tree.name, "bcm2837-rpi-3-b-plus.dtb");
    bench.remove(1, "bootcode.bin");
    assert_eq!(bench.boot(&pi3, Reset::default()), Err(Refused::NoBootcode));
    // In the other board the firmware's own files are missing.
    assert_eq!(
        bench.boot(&PI4, Reset::default()),
        Err(Refused::NothingBootable)
    );
}
