// SPDX-License-Identifier: Apache-2.0
//! What a tray does when its card fails: the most common fault of this kind of machine.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    card::{Card, Remote, StateOf},
    front::Mode,
    qemu::{Machine, Tray},
    rack::{FIRST_MESSAGE, UP},
    replay::{Unflushed, WriteLog, judge},
    scene::Scene,
};
use serde_json::Value;

const GOOD: &str = "this boot is good";

fn with(card: Card) -> Machine {
    Machine {
        card,
        ..Machine::default()
    }
}

/// Waits until the tray says that its state is so, and gives that.
fn state_is(
    scene: &Scene,
    tray: &mut Tray,
    what: &str,
    is: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let state = scene.state(tray, what, |state| is(&state["state"]))?;
    Ok(state["state"].clone())
}

fn reason(state: &Value) -> &str {
    state["reason"].as_str().unwrap_or_default()
}

#[test]
fn a_card_with_a_bad_sector_then_full_then_write_protected_goes_on_being_used() -> Result<()> {
    let scene = Scene::new("card-wears-out")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    tray.cut_power();

    // One copy of the floors cannot be read any more. Another tray's card lies in a second slot: its labels are ours.
    let state = StateOf::find(&scene.card())?;
    let bad = Card::Unreadable {
        sectors: state.sectors("floors.0")?,
        once: false,
    };
    let stranger = scene.tray().join("stranger.img");
    std::fs::copy(
        scene.rack.image_with(&scene.artifacts, "loglevel=4")?,
        &stranger,
    )?;
    let mut tray = scene.boot_again_on(&Machine {
        card: bad,
        more_disks: vec![stranger.clone()],
        ..Machine::default()
    })?;
    tray.wait_for("copy 0 of the floors cannot be read", UP)?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    state_is(&scene, &mut tray, "it is on the card", |state| {
        state["persistent"] == true && state["readOnly"] == false && state["reason"].is_null()
    })?;
    tray.cut_power();
    std::fs::remove_file(&stranger)?;

    // Full: nothing can be added, and what is there can be written over. Slow, too.
    state.fill(2)?;
    let mut tray = scene.boot_again_on(&with(Card::Slow(4 << 20)))?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    scene.rack.edit("on a full card")?;
    scene.says(&mut tray, "on a full card")?;
    let full = state_is(&scene, &mut tray, "it is told as full", |state| {
        state["total"].as_u64().is_some_and(|total| total > 1 << 30)
            && state["free"].as_u64().is_some_and(|free| free < 1 << 20)
    })?;
    ensure!(full["persistent"] == true, "{full}");
    tray.cut_power();

    // Write-protected, its first superblock lost, and the server is away: what the card holds is enough.
    state.lose_superblock()?;
    scene.server.front().set_mode(Mode::Down);
    let mut tray = scene.boot_again_on(&with(Card::WriteProtected))?;
    tray.wait_for("takes no writes", UP)?;
    // Of the two commits, the one that the full card kept.
    scene.state(&mut tray, "the workload runs", |state| {
        state["workloads"][0]["phase"] == "running"
    })?;
    let worn = state_is(&scene, &mut tray, "it is told as read-only", |state| {
        state["readOnly"] == true && state["persistent"] == false
    })?;
    ensure!(reason(&worn).contains("takes no writes"), "{worn}");
    // The server is back: commits are applied in memory.
    scene.server.front().set_mode(Mode::Good);
    scene.rack.edit("on a worn card")?;
    scene.says(&mut tray, "on a worn card")?;
    Ok(())
}

/// What the hypervisor says of an image whose blocks the card's file system verifies.
const SEALED: &str = "is here: verified whenever it is read (fs-verity)";

#[test]
fn a_byte_of_an_image_that_was_changed_on_the_card_is_an_error_and_a_start_reads_no_image()
-> Result<()> {
    let scene = Scene::new("card-altered")?;
    let mut tray = scene.boot()?;
    tray.wait_for("received, verified whenever it is read (fs-verity)", UP)?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    tray.cut_power();

    // As it was left: no byte of it is hashed. It lies there once.
    let state = StateOf::find(&scene.card())?;
    let images = state.debugfs(&[], "ls -p cache/artifacts")?;
    let digest = images
        .split('/')
        .find(|name| name.len() == 64)
        .with_context(|| format!("no image is on the card: {images}"))?;
    scene.server.front().set_mode(Mode::Down);
    let mut tray = scene.boot_again()?;
    tray.wait_for(SEALED, UP)?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    tray.cut_power();

    // Three bytes of its first block, which every guest reads.
    state.rot(&format!("cache/artifacts/{digest}/rootfs.erofs"))?;
    let mut tray = scene.boot_again()?;
    tray.wait_for(SEALED, UP)?;
    tray.wait_for("FILE CORRUPTED", UP)?;
    tray.wait_for("its image is read through before it starts again", UP)?;
    tray.wait_for("damaged or cannot be read; fetching it again", UP)?;
    let found = scene.state(&mut tray, "the workload waits for its image", |state| {
        state["workloads"][0]["phase"] != "running"
    })?;
    println!("{}", found["workloads"][0]);

    // With the server, the chunk of that block comes again and nothing else.
    scene.server.front().set_mode(Mode::Good);
    let said = tray.wait_for("received, verified whenever it is read (fs-verity)", UP)?;
    ensure!(said.contains("KiB received"), "{said}");
    scene.says(&mut tray, FIRST_MESSAGE)?;
    Ok(())
}

#[test]
fn a_card_that_is_pulled_while_the_tray_runs_stops_neither_workloads_nor_commits() -> Result<()> {
    let scene = Scene::new("card-pulled")?;
    // A fresh card, write-protected: the boot cannot be marked good, and nothing comes of that. The machine's watchdog has 30 s.
    let mut tray = scene.boot_on(&with(Card::WriteProtected))?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for("this boot is good, which cannot be kept", UP)?;
    let start = scene.state(&mut tray, "it is up", |_| true)?["uptime"].as_u64();
    scene.state(
        &mut tray,
        "it stays up for longer than its watchdog waits",
        |state| state["uptime"].as_u64() > start.map(|start| start + 40),
    )?;
    let lines = tray
        .console()
        .text()
        .matches("which cannot be kept")
        .count();
    ensure!(lines <= 2, "said {lines} times");
    tray.cut_power();

    let remote = Remote::serve(&scene.card())?;
    let mut tray = scene.boot_again_on(&with(Card::Remote(remote.socket())))?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    remote.pull();
    scene.rack.edit("without a card")?;
    scene.says(&mut tray, "without a card")?;
    let gone = state_is(
        &scene,
        &mut tray,
        "it says that the card is gone",
        |state| state["readOnly"] == true && state["persistent"] == false,
    )?;
    ensure!(reason(&gone).contains("card"), "{gone}");
    // Memory is in the card's place now, so that a commit is kept there like any other.
    scene.rack.edit("again without a card")?;
    scene.says(&mut tray, "again without a card")?;
    tray.wait_for("the card failed", Duration::from_secs(1))
        .or_else(|_| tray.wait_for("takes no writes", Duration::from_secs(1)))?;
    Ok(())
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_promised() -> Result<()> {
    const MOMENTS: usize = 12;
    let scene = Scene::new("card-power")?;
    let log = scene.tray().join("writes.log");
    // The card as it is before its first start, at its full size.
    let (base, cut) = (scene.tray().join("base.img"), scene.tray().join("cut.img"));
    std::fs::create_dir_all(scene.tray())?;
    let mut tray = scene.boot_on(&with(Card::Logged(log.clone())))?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for(GOOD, UP)?;
    scene.rack.edit("one more commit")?;
    scene.says(&mut tray, "one more commit")?;
    tray.cut_power();
    std::fs::copy(scene.image(), &base)?;
    let size = std::fs::metadata(scene.card())?.len();
    std::fs::File::options()
        .write(true)
        .open(&base)?
        .set_len(size)?;

    let log = WriteLog::read(&log)?;
    let moments = log.moments(MOMENTS);
    ensure!(moments.len() >= MOMENTS / 2, "{moments:?} of {}", log.len());
    let (mut at, mut before) = (0, None);
    for moment in moments {
        let mut promised = at;
        for unflushed in [Unflushed::Dropped, Unflushed::Mixed, Unflushed::Kept] {
            promised = log.cut(&base, &cut, (promised, moment), unflushed)?;
            let held = judge(&cut).with_context(|| {
                format!("power cut at {moment} of {}, {unflushed:?}", log.len())
            })?;
            // What is there without any write that was not flushed is there at every later moment.
            if let Some(least) = before {
                ensure!(
                    held.covers(&least),
                    "at {moment}, {unflushed:?}: {held:?} after {least:?}"
                );
            }
            if unflushed == Unflushed::Dropped {
                before = Some(held);
            }
        }
        at = promised;
    }
    ensure!(
        before.is_some_and(|held| held.floors > 0 && held.boots > 0),
        "{before:?}"
    );
    Ok(())
}
