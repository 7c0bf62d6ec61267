// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: the one command that says whether this checkout is good.

use std::{env, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use racklet_tests::process::{describe, output};
use serde_json::Value;

use crate::{accel, build, hardware, lint, paths, progress::say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs only tests whose name contains this
    filter: Option<String>,
    /// Leaves out format, lints and dependency checks
    #[arg(long)]
    no_lint: bool,
    /// Leaves out boards and case, which are checked only where KiCad is installed
    #[arg(long)]
    no_hardware: bool,
    /// Leaves out the tests that boot a tray
    #[arg(long)]
    no_boot: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    say("Setting up and building");
    let artifacts = build::everything()?;
    if !arguments.no_lint {
        say("Checking");
        lint::run()?;
    }
    say("Unit and property tests");
    let filter: Vec<&str> = arguments.filter.as_deref().into_iter().collect();
    let targets = test_targets()?;
    let mut failed = Vec::new();
    let mut unit = Command::new("cargo");
    unit.args(["test", "--workspace", "--exclude", "racklet-tests"]);
    unit.arg("--no-fail-fast");
    if !passes(unit.arg("--").args(&filter))? {
        failed.push("unit and property tests");
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
        let accelerator = accel::choose(&artifacts)?;
        let mut trays = cargo_test();
        trays
            .args(targets.end_to_end.iter().flat_map(|name| ["--test", name]))
            // Each is a whole machine (or several): more at a time than this only makes all of them late.
            .args(["--", "--test-threads=2"])
            .args(&filter)
            .env("RACKLET_ACCEL", accelerator.name());
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

/// Always of the whole workspace: what is selected decides the features of dependencies, and other features are another build.
fn cargo_test() -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command
}

/// The names of test programs.
struct Targets {
    /// Those that boot trays.
    end_to_end: Vec<String>,
    /// Those beside a crate.
    #[allow(dead_code, reason = "only compared, for equal names")]
    others: Vec<String>,
}

fn test_targets() -> Result<Targets> {
    let text = output(
        Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version=1"])
            .current_dir(paths::workspace()),
    )?;
    let metadata = serde_json::from_str(&text).context("what `cargo metadata` says")?;
    let targets = targets_in(&metadata);
    ensure!(
        !targets.end_to_end.is_empty(),
        "`cargo metadata` names no end-to-end tests"
    );
    if let Some(name) = targets
        .others
        .iter()
        .find(|name| targets.end_to_end.contains(name))
    {
        bail!("two test programs are called {name}: cargo could not tell them apart");
    }
    Ok(targets)
}

fn targets_in(metadata: &Value) -> Targets {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut targets = Targets {
        end_to_end: Vec::new(),
        others: Vec::new(),
    };
    for package in list(&metadata["packages"]) {
        let names = match package["name"] == "racklet-tests" {
            true => &mut targets.end_to_end,
            false => &mut targets.others,
        };
        let tests = list(&package["targets"])
            .into_iter()
            .filter(|target| list(&target["kind"]).contains(&"test".into()));
        names.extend(tests.filter_map(|target| target["name"].as_str().map(str::to_owned)));
    }
    targets
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_to_end_tests_are_those_of_the_tests_folder() {
        let target = |kind: &str, name: &str| serde_json::json!({"kind": [kind], "name": name});
        let metadata = serde_json::json!({"packages": [
            {"name": "racklet-tests", "targets": [target("lib", "racklet_tests"), target("test", "happy")]},
            {"name": "racklet-fetch", "targets": [target("lib", "racklet_fetch"), target("test", "server")]},
        ]});
        let targets = targets_in(&metadata);
        assert_eq!(targets.end_to_end, ["happy"]);
        assert_eq!(targets.others, ["server"]);
    }
}
