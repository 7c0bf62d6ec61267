// SPDX-License-Identifier: Apache-2.0
//! A Raspberry Pi 4 in QEMU, from the very image that a user writes to a card: what its firmware would load is read from the card's
//! bytes, by the firmware's documented rules, at every start.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use racklet_tests::{
    rack::FIRST_MESSAGE,
    raspi::{Running, scene::Scene},
};
use serde_json::Value;

/// One whole start: four emulated processors of another kind, beside everything else that runs.
const START: Duration = Duration::from_secs(900);

/// Waits for these lines, in this order.
fn wait_for_all(on: &mut Running, lines: &[&str]) -> Result<()> {
    for line in lines {
        on.wait_for(line, START)?;
    }
    Ok(())
}

/// The payload is started by kexec, on all processors and with KVM.
fn handed_over(on: &mut Running) -> Result<()> {
    wait_for_all(
        on,
        &[
            "handing over after",
            // The one processor of the bootstrap's kernel gave the other three away untouched.
            "smp: Brought up 1 node, 4 CPUs",
            "Hyp nVHE mode initialized successfully",
            "netd started",
        ],
    )
}

/// A start from the card alone; the hypervisor OS gets its network.
fn start_from_card(scene: &mut Scene, partition: u32) -> Result<Running> {
    let mut on = scene.pi.switch_on(false)?;
    let choice = on.loaded().choice;
    ensure!(choice.partition == partition, "{choice:?}");
    handed_over(&mut on)?;
    on.plug_in()?;
    Ok(on)
}

/// Slot a is started for the first time, finds its card, and fetches, verifies and starts what the rack pins. The same again from the card, as
/// after a power cut: a microVM runs, and the start is found good.
fn first_starts(scene: &mut Scene) -> Result<Running> {
    let mut on = scene.pi.switch_on(true)?;
    ensure!(on.loaded().choice.partition == 2);
    wait_for_all(
        &mut on,
        &[
            // Trust root and configuration came in the slot's second archive.
            "bootstrap, tray tray-1 of rack",
            "slot a, start 1 since it was last healthy",
            "/dev/mmcblk0p4, ext4, grown to",
            "network     eth0 up",
        ],
    )?;
    handed_over(&mut on)?;
    drop(on);
    let mut on = start_from_card(scene, 2)?;
    on.wait_for("slot a, version 1, marked good", START)?;
    scene.says(&mut on, FIRST_MESSAGE)?;
    Ok(on)
}

#[test]
fn the_very_image_starts_what_the_rack_pins_and_a_microvm_from_the_network_and_from_the_card()
-> Result<()> {
    let mut scene = Scene::new("raspberry-pi")?;
    let mut on = first_starts(&mut scene)?;
    scene.rack.edit("second edition")?;
    scene.says(&mut on, "second edition")?;
    Ok(())
}

fn bootstrap(state: &Value) -> (&str, u64) {
    let bootstrap = &state["bootstrap"];
    let slot = bootstrap["slot"].as_str().unwrap_or_default();
    (slot, bootstrap["version"].as_u64().unwrap_or_default())
}

#[test]
fn a_pinned_bootstrap_is_started_by_the_one_shot_and_bought_and_one_that_panics_is_tried_once()
-> Result<()> {
    let mut scene = Scene::new("raspberry-pi-slots")?;
    let mut on = first_starts(&mut scene)?;
    let rack = fs::read_to_string(scene.rack.repository().join("rack.yaml"))?;
    let hurried = format!("{rack}  policies:\n    rebootWaitSeconds: 0\n");
    scene.rack.write("rack.yaml", &hurried)?;
    scene.rack.publish("bootstrap", "bootstrap-1")?;
    // The tray's own initramfs with bytes behind the archive: another one, which does the same.
    let mut two = fs::read(scene.artifacts.bootstrap_initramfs())?;
    two.extend([0; 64]);
    let two = scene.rack.pin_bootstrap(2, &two, &scene.artifacts)?;
    on.wait_for("bootstrap version 2 is in slot b, which is tried", START)?;
    on.wait_for("slot b is tried once: the firmware is asked for it", START)?;
    let left = on.reset(START)?;
    // No partition number: it beats autoboot.txt, and firmware may keep it.
    ensure!(left.tryboot && left.rsts & 0x555 == 0, "{left:?}");
    scene.pi.leave(left);
    let mut on = start_from_card(&mut scene, 3)?;
    ensure!(on.loaded().choice.tryboot);
    on.wait_for("slot b, version 2, marked good (it was on trial)", START)?;
    let state = scene.state(&mut on, "version 2 runs and was bought", |state| {
        bootstrap(state) == ("b", 2) && state["bootstrap"]["floor"] == 2
    })?;
    ensure!(state["bootstrap"]["manifest"] == two.as_str(), "{state}");

    // Bought: a start without a one-shot is one of slot b. Then one whose Linux finds no program in it and panics.
    drop(on);
    let mut on = start_from_card(&mut scene, 3)?;
    ensure!(!on.loaded().choice.tryboot);
    on.wait_for("slot b was good already", START)?;
    scene
        .rack
        .pin_bootstrap(3, &vec![b'3'; 70_000], &scene.artifacts)?;
    on.wait_for("slot a is tried once: the firmware is asked for it", START)?;
    let left = on.reset(START)?;
    ensure!(left.tryboot, "{left:?}");
    scene.pi.leave(left);
    let mut on = scene.pi.switch_on(false)?;
    ensure!(on.loaded().choice.partition == 2);
    on.wait_for("Kernel panic", START)?;
    let left = on.reset(START)?;
    ensure!(!left.tryboot, "{left:?}");
    scene.pi.leave(left);
    let mut on = start_from_card(&mut scene, 3)?;
    scene.state(&mut on, "it says what became of it", |state| {
        let message = state["bootstrap"]["message"].as_str();
        bootstrap(state) == ("b", 2) && message.is_some_and(|it| it.contains("did not come up"))
    })?;
    Ok(())
}
