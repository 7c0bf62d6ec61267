// SPDX-License-Identifier: Apache-2.0
//! A running tray replaces its bootstrap: by a commit, on a real card, with OVMF and the bootloader to say which slot is started.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use racklet_tests::{
    card::Card,
    qemu::{Machine, Tray},
    rack::FIRST_MESSAGE,
    scene::Scene,
};
use serde_json::Value;

/// One whole start, emulated on a busy machine, with the time until it is found good.
const START: Duration = Duration::from_secs(600);
/// So many bytes a second take seconds to write a slot, so that the power can be cut meanwhile.
const SLOW: u64 = 2 << 20;

/// The tray's own initramfs with bytes behind the archive: another one, which does the same.
fn initramfs(scene: &Scene, zeros: usize) -> Result<Vec<u8>> {
    let mut initramfs = fs::read(scene.artifacts.bootstrap_initramfs())?;
    initramfs.extend(vec![0; zeros]);
    Ok(initramfs)
}

/// Version 1 runs in slot a and was found good. Trays of this rack restart at once.
fn up(scene: &Scene, tray: &mut Tray) -> Result<()> {
    let rack = fs::read_to_string(scene.rack.repository().join("rack.yaml"))?;
    let hurried = format!("{rack}  policies:\n    rebootWaitSeconds: 0\n");
    scene.rack.write("rack.yaml", &hurried)?;
    scene.says(tray, FIRST_MESSAGE)?;
    tray.wait_for("slot a, version 1, marked good", START)?;
    Ok(())
}

fn bootstrap(state: &Value) -> (&str, u64) {
    let bootstrap = &state["bootstrap"];
    let slot = bootstrap["slot"].as_str().unwrap_or_default();
    (slot, bootstrap["version"].as_u64().unwrap_or_default())
}

fn message(state: &Value) -> &str {
    state["bootstrap"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_pinned_bootstrap_is_tried_and_bought_and_one_that_never_starts_falls_back() -> Result<()> {
    let scene = Scene::new("slots")?;
    let mut tray = scene.boot()?;
    up(&scene, &mut tray)?;
    scene.rack.publish("bootstrap", "bootstrap-1")?;

    let two = scene
        .rack
        .pin_bootstrap(2, &initramfs(&scene, 64)?, &scene.artifacts)?;
    for line in [
        "bootstrap version 2 is in slot b, which is tried at the next start",
        "slot b: try 1 of 3",
        "slot b: bootstrap version 2 is verified",
        "slot b, version 2, marked good (it was on trial)",
    ] {
        tray.wait_for(line, START)?;
    }
    // The hypervisor hears of the mark up to ten seconds later: it asks `init` so often.
    let state = scene.state(&mut tray, "version 2 runs and was bought", |state| {
        bootstrap(state) == ("b", 2)
            && state["converged"] == true
            && state["bootstrap"]["floor"] == 2
    })?;
    ensure!(state["bootstrap"]["manifest"] == two.as_str(), "{state}");
    ensure!(state["bootstrap"]["wanted"].is_null(), "{state}");

    // Linux finds no program in it and panics.
    let three = scene
        .rack
        .pin_bootstrap(3, &vec![b'3'; 70_000], &scene.artifacts)?;
    for line in [
        "bootstrap version 3 is in slot a",
        "slot a: try 1 of 3",
        "slot a: try 2 of 3",
        "slot a: try 3 of 3",
        "slot b: try 1 of 3",
    ] {
        tray.wait_for(line, START)?;
    }
    let state = scene.state(&mut tray, "it says what became of it", |state| {
        message(state).contains("never ran well")
    })?;
    ensure!(bootstrap(&state) == ("b", 2), "{state}");
    ensure!(state["bootstrap"]["wanted"] == three.as_str(), "{state}");
    scene.says(&mut tray, FIRST_MESSAGE)?;

    // Not tried again, and what is older than what has run well is not tried at all.
    scene.rack.repin_bootstrap("bootstrap-1")?;
    scene.state(&mut tray, "it says why not", |state| {
        message(state).contains("version 1 is older than version 2")
    })?;
    scene.rack.repin_bootstrap("bootstrap-2")?;
    let state = scene.state(&mut tray, "it has what is pinned", |state| {
        state["bootstrap"]["wanted"].is_null() && state["converged"] == true
    })?;
    ensure!(bootstrap(&state) == ("b", 2), "{state}");
    let again = tray.seen("slot a: try")?;
    ensure!(again.is_none(), "it was tried again: {again:?}");
    Ok(())
}

#[test]
fn power_that_is_cut_while_a_slot_is_written_costs_the_time_and_nothing_else() -> Result<()> {
    let scene = Scene::new("slots-cut")?;
    let slow = Machine {
        card: Card::Slow(SLOW),
        ..Machine::default()
    };
    let mut tray = scene.boot_on(&slow)?;
    up(&scene, &mut tray)?;
    scene
        .rack
        .pin_bootstrap(2, &initramfs(&scene, 64)?, &scene.artifacts)?;
    tray.wait_for("writing bootstrap bootstrap version 2 into slot b", START)?;
    std::thread::sleep(Duration::from_millis(700));
    ensure!(!tray.console().said("is in slot b"), "the card is too fast");
    tray.cut_power();

    let mut tray = scene.boot_again()?;
    for line in [
        "slot b: empty, 0 tries left",
        "slot a: try 1 of 3",
        "slot b was being written when the power went",
        "bootstrap version 2 is in slot b",
        "slot b: try 1 of 3",
        "slot b, version 2, marked good (it was on trial)",
    ] {
        tray.wait_for(line, START)?;
    }
    scene.state(&mut tray, "version 2 runs", |state| {
        bootstrap(state) == ("b", 2) && state["converged"] == true
    })?;
    scene.says(&mut tray, FIRST_MESSAGE)
}
