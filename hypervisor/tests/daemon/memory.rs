// SPDX-License-Identifier: Apache-2.0
//! What the daemon's memory grows with.

use crate::support::Tray;
use anyhow::{Context as _, Result};

/// KiB of the daemon's own memory for each workload: its plan, its record and what is shown of it are some kilobytes, and a log or a stack
/// that somebody keeps for each would be more.
const MOST: f64 = 64.0;

/// Counted in what the kernel gives to the process alone (proc(5), smaps_rollup), 8 workloads and then 32.
#[test]
fn a_workload_costs_the_daemon_some_kilobytes() -> Result<()> {
    let mut tray = Tray::new()?;
    let mut add = |from: u32, to: u32| -> Result<u64> {
        for n in from..to {
            tray.workload(&format!("w{n}"), "[run]", "")?;
        }
        let commit = tray.push("more workloads")?;
        if from == 0 {
            tray.start()?;
        }
        tray.converged(&commit)?;
        tray.own_memory().context("the daemon's memory")
    };
    let (few, many) = (add(0, 8)?, add(8, 32)?);
    let each = (many as f64 - few as f64) / 24.0;
    println!("8 workloads: {few} KiB, 32: {many} KiB, {each:.1} KiB each");
    assert!(each <= MOST, "{each} KiB a workload");
    Ok(())
}
