// SPDX-License-Identifier: Apache-2.0
//! The tray's power button: an orderly end, not a power cut.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{process::output, rack::FIRST_MESSAGE, scene::Scene};
use serde_json::json;

/// How long the whole way down may take, emulated on a busy machine: workloads have 20 s of it.
const DOWN: Duration = Duration::from_secs(180);

#[test]
fn the_power_button_stops_workloads_in_order_and_switches_off() -> Result<()> {
    let scene = Scene::new("power-button")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.command("system_powerdown", json!({}))?;
    for line in [
        "the power button was pressed",
        "going down: Poweroff",
        "1 workload stopped",
        "everything stopped; switching off",
    ] {
        tray.wait_for(line, DOWN)?;
    }
    tray.wait_until_off(DOWN)?;
    let state = ext4(&tray.folder().join("card.img"), "racklet-state")?;
    ensure!(
        state.contains("Filesystem state:         clean") && !state.contains("needs_recovery"),
        "the state partition was not unmounted:\n{state}"
    );
    Ok(())
}

/// What e2fsprogs say of the ext4 file system in the partition of this name.
fn ext4(card: &Path, name: &str) -> Result<String> {
    let mut list = Command::new("partx");
    list.args(["--raw", "--noheadings", "--output", "START,NAME"]);
    let partitions = output(list.arg(card))?;
    let start: u64 = partitions
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, label)| *label == name))
        .with_context(|| format!("no partition {name} in:\n{partitions}"))?
        .0
        .parse()?;
    let place = format!("{}?offset={}", card.display(), start * 512);
    // dumpe2fs is an administrator's program, and not on everybody's path.
    output(
        Command::new("env")
            .arg("PATH=/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["dumpe2fs", "-h", &place]),
    )
}
