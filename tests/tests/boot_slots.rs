// SPDX-License-Identifier: Apache-2.0
//! Stage 1 on real firmware: which slot is started, with what, and what is said when one is refused.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use racklet_tests::{
    board::board,
    ovmf::{Card, Key, told},
};
use racklet_trust::slot::{Slot, SlotRecord};

/// What the probe says that it was told, in slot a and in slot b.
static FIRST: LazyLock<String> = LazyLock::new(|| probe(Slot::A));
static SECOND: LazyLock<String> = LazyLock::new(|| probe(Slot::B));

fn probe(slot: Slot) -> String {
    format!("probe: arguments: {} probe.slot={slot}", told())
}

#[test]
fn a_good_card_starts_slot_a_with_exactly_what_was_verified() -> Result<()> {
    let card = Card::new()?;
    let mut tray = card.boot()?;
    let initramfs = format!("probe: initramfs: {}", card.initramfs(Slot::A, 1, 5)?);
    tray.says(&["slot a: stable version 5 is verified", &FIRST, &initramfs])?;
    let tries = tray.record()?.slot(Slot::A).tries_left;
    ensure!(tries == 2, "{tries} tries left: not counted before use");
    Ok(())
}

#[test]
fn a_boot_changes_one_sector_of_the_card_and_no_file_system() -> Result<()> {
    let card = Card::new()?;
    let mut tray = card.boot()?;
    tray.says(&[&FIRST])?;
    let changed = tray.changed_sectors()?;
    ensure!(changed == [tray.record_sector(0)?], "{changed:?}");
    Ok(())
}

#[test]
fn linux_starts_and_finds_both_archives() -> Result<()> {
    let card = Card::with_linux("/bin/busybox cat /racklet/boot.json /racklet/tray.json")?;
    let mut tray = card.boot()?;
    tray.says(&[
        &format!("starting Linux with: {}", told()),
        "Linux version 6.12",
        "{\"slot\":\"a\",\"tries\":1,\"version\":5}",
        "{\"tray\":\"tray-1\"}",
    ])?;
    ensure!(
        !tray.said("forged"),
        "the initramfs spoke for the bootloader"
    );
    Ok(())
}

#[test]
fn a_tampered_kernel_is_never_started() -> Result<()> {
    let card = Card::new()?;
    card.damage("racklet/a/files/kernel")?;
    let mut tray = card.boot()?;
    tray.says(&["slot a is refused: kernel has SHA-256", &SECOND])?;
    ensure!(!tray.said(&FIRST));
    Ok(())
}

#[test]
fn a_tampered_initramfs_or_manifest_is_never_started() -> Result<()> {
    let card = Card::new()?;
    card.damage("racklet/a/files/initramfs")?;
    card.damage("racklet/b/manifest.json")?;
    card.boot()?.says(&[
        "slot a is refused: initramfs has SHA-256",
        "no slot can be started",
        "slot b: 1 signature by firmware keys needed",
    ])
}

#[test]
fn an_unsigned_slot_is_refused() -> Result<()> {
    let card = Card::new()?;
    card.remove("racklet/a/signatures/0.sig")?;
    card.boot()?.says(&[
        "slot a is refused: 1 signature by firmware keys needed",
        &SECOND,
    ])
}

#[test]
fn a_strangers_signature_does_not_count() -> Result<()> {
    let card = Card::new()?;
    card.replace(Slot::A, Key::Stranger, |_| {})?;
    card.boot()?.says(&[
        "slot a is refused: 1 signature by firmware keys needed",
        &SECOND,
    ])
}

#[test]
fn a_key_of_another_role_does_not_count() -> Result<()> {
    let card = Card::new()?;
    card.replace(Slot::A, Key::Payload, |_| {})?;
    card.boot()?.says(&[
        "slot a is refused: 1 signature by firmware keys needed",
        &SECOND,
    ])
}

#[test]
fn a_slot_for_another_board_is_refused() -> Result<()> {
    let card = Card::new()?;
    card.replace(Slot::A, Key::Firmware, |m| m.boards = vec!["rpi4".into()])?;
    card.boot()?.says(&[
        &format!(
            "slot a is refused: it is for rpi4; this board is {}",
            board().name
        ),
        &SECOND,
    ])
}

#[test]
fn an_old_release_copied_over_a_slot_is_refused() -> Result<()> {
    let card = Card::new()?;
    card.set_record(SlotRecord::new(Some(5), Some(4)).mark_good(Slot::A, 6))?;
    card.boot()?.says(&[
        "  slot a: version 5 is older than version 6",
        "  slot b: version 4 is older than version 6",
    ])
}

#[test]
fn after_three_starts_without_a_report_the_other_slot_is_started() -> Result<()> {
    let card = Card::with(|slot, manifest| {
        if slot == Slot::A {
            manifest.arguments = "probe.slot=a probe.end=reset".into();
        }
    })?;
    let mut tray = card.boot()?;
    tray.says(&["slot a: try 1 of 3", &FIRST, "slot a: try 2 of 3", &FIRST])?;
    tray.says(&["slot a: try 3 of 3", &FIRST, "slot b: try 1 of 3", &SECOND])
}

#[test]
fn a_kernel_that_comes_back_is_followed_by_the_other_slot() -> Result<()> {
    let card = Card::with(|slot, manifest| {
        if slot == Slot::A {
            manifest.arguments = "probe.slot=a probe.end=return".into();
        }
    })?;
    let mut tray = card.boot()?;
    tray.says(&[
        &FIRST,
        "slot a is refused: its kernel came back with",
        &SECOND,
    ])?;
    let initramfs = card.initramfs(Slot::B, 1, 4)?;
    tray.says(&[&format!("probe: initramfs: {initramfs}")])
}

#[test]
fn with_both_slots_bad_each_reason_is_said_and_nothing_is_started() -> Result<()> {
    let card = Card::new()?;
    card.damage("racklet/a/files/kernel")?;
    card.remove("racklet/b/files/initramfs")?;
    let mut tray = card.boot()?;
    tray.says(&[
        "no slot can be started:",
        "  slot a: kernel has SHA-256",
        "  slot b: racklet/b/files/initramfs is missing",
        "restarting in 60 s",
    ])?;
    ensure!(!tray.said("probe:"));
    Ok(())
}

#[test]
fn either_copy_of_the_slot_record_may_be_lost() -> Result<()> {
    for copy in 0..2 {
        let card = Card::new()?;
        card.damage_record(copy)?;
        let lost = format!("slot record {copy} is not used: its checksum is wrong");
        let mut tray = card.boot()?;
        tray.says(&[&lost, &FIRST])?;
        ensure!(tray.record()?.slot(Slot::A).tries_left == 2);
    }
    Ok(())
}

#[test]
fn with_both_copies_lost_the_tries_are_counted_anew() -> Result<()> {
    let card = Card::new()?;
    card.damage_record(0)?;
    card.damage_record(1)?;
    let mut tray = card.boot()?;
    tray.says(&["both slot records are lost: trying slot a, then b", &FIRST])?;
    ensure!(tray.record()?.slot(Slot::A).tries_left == 2);
    Ok(())
}
