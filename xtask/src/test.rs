// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: the one command that says whether this checkout is good.

use std::{env, process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    arguments::Given, build, hardware, harness, lint, paths, process::describe, progress::say,
};

pub(crate) const TAKES: &[(&str, &str)] = &[
    ("FILTER", "only tests whose name contains this"),
    (
        "--no-lint",
        "leaves out format, lints and dependency checks",
    ),
    (
        "--no-hardware",
        "leaves out boards and case, which are checked only where KiCad is installed",
    ),
    ("--no-boot", "leaves out the tests that boot a tray"),
];

pub(crate) struct Arguments {
    filter: Option<String>,
    no_lint: bool,
    no_hardware: bool,
    no_boot: bool,
}

impl From<&Given> for Arguments {
    fn from(given: &Given) -> Self {
        Self {
            filter: given.words.first().cloned(),
            no_lint: given.has("--no-lint"),
            no_hardware: given.has("--no-hardware"),
            no_boot: given.has("--no-boot"),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    say("Setting up and building");
    build::everything(build::For::Tests)?;
    if !arguments.no_lint {
        say("Checking");
        lint::run()?;
    }
    say("Unit and property tests");
    let filter: Vec<&str> = arguments.filter.as_deref().into_iter().collect();
    let mut unit = Command::new("cargo");
    unit.args([
        "test",
        "--workspace",
        "--exclude",
        "racklet-tests",
        "--no-fail-fast",
    ])
    .arg("--")
    .args(&filter);
    let mut failed = Vec::new();
    if !passes(&mut unit)? {
        failed.push("unit and property tests");
    }
    let mut harness = Command::new("cargo");
    harness
        .args(["test", "-p", "racklet-tests", "--lib"])
        .arg("--")
        .args(&filter);
    if !passes(&mut harness)? {
        failed.push("the harness's own tests");
    }
    if !arguments.no_hardware && arguments.filter.is_none() {
        say("Hardware");
        if let Err(error) = hardware::check_if_installed() {
            say(&format!("{error:#}"));
            failed.push("hardware");
        }
    }
    if !arguments.no_boot {
        say("End-to-end tests, on trays in QEMU; what they said stays in target/e2e/");
        let accelerator = harness::accelerator()?;
        let mut trays = Command::new("cargo");
        trays
            .args([
                "test",
                "-p",
                "racklet-tests",
                "--test",
                "*",
                "--no-fail-fast",
            ])
            .arg("--")
            // Each is a whole machine (or several): more at a time than this only makes all of them late.
            .arg("--test-threads=2")
            .args(&filter)
            .env("RACKLET_ACCEL", accelerator);
        if !passes(&mut trays)? {
            failed.push("end-to-end tests");
        }
    }
    let seconds = start.elapsed().as_secs();
    say(&format!("\n{} min {} s in all", seconds / 60, seconds % 60));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs with its output for all to see.
fn passes(command: &mut Command) -> Result<bool> {
    command.current_dir(paths::workspace());
    if env::var_os("RUST_BACKTRACE").is_none() {
        command.env("RUST_BACKTRACE", "0");
    }
    say(&format!("$ {}", describe(command)));
    Ok(command.status()?.success())
}
