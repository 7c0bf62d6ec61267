// SPDX-License-Identifier: Apache-2.0
//! A tray without a card: everything that it starts comes over the network, and it runs from memory.
#![forbid(unsafe_code)]

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    netboot::{Diskless, Lan},
    rack::UP,
    scene::Scene,
};

#[test]
fn a_tray_without_a_card_starts_what_its_firmware_gets_over_http_and_nothing_that_was_changed_on_the_way()
-> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to make a network namespace; nothing was tested");
        return Ok(());
    }
    // A thread of its own: the namespace is one of a thread, and goes with it.
    thread::spawn(starts)
        .join()
        .ok()
        .context("the test panicked")?
}

fn starts() -> Result<()> {
    Lan::enter()?;
    let scene = Scene::new("network")?;
    let file = scene.rack.netboot(&scene.artifacts)?;
    let good = fs::read(&file)?;
    let lan = Lan::serve(&scene.tray(), &file, scene.server.front().port())?;

    // Somewhere in the kernel, which is most of the file.
    let mut bent = good.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    lan.exchange(&bent)?;
    let mut tray = Diskless::boot(&lan)?;
    let refused = [
        "this came without a card: verifying what it carries",
        "it is refused: ",
        "nothing can be started",
    ];
    tray.says(&refused, UP)?;
    drop(tray);

    lan.exchange(&good)?;
    let mut tray = Diskless::boot(&lan)?;
    let started = [
        "this came without a card: verifying what it carries",
        "is verified; starting Linux with: ",
        "run from memory; nothing is remembered over a reboot",
        "Starting new kernel",
        "converged at generation",
    ];
    tray.says(&started, UP)?;
    ensure!(!tray.console().said("is refused"), "something was refused");
    Ok(())
}
