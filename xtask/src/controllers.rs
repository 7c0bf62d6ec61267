// SPDX-License-Identifier: Apache-2.0
//! `firmware/`, a workspace of its own: how it is looked at and tested.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{paths, progress};

/// Rust's target of what runs on a controller: a Cortex-M33, without its FPU.
pub(crate) const TARGET: &str = "thumbv8m.main-none-eabi";

/// What of the checkout it is made of.
pub(crate) const SOURCES: [&str; 2] = ["firmware/", "lib/wire/"];

pub(crate) fn workspace() -> PathBuf {
    paths::workspace().join("firmware")
}

/// Cargo in there, with the target folder of everything else: what both compile for this machine is compiled once.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", paths::target())
        .args(arguments);
    command
}

/// Format and lints.
pub(crate) fn lint() -> Result<()> {
    progress::run(
        "format of the firmware",
        "fmt-firmware",
        1,
        &mut cargo(&["fmt", "--all", "--check"]),
    )
    .context("`cargo fmt --all` in firmware/ puts it right")?;
    progress::run(
        "lints of the firmware's core",
        "clippy-firmware",
        20,
        &mut cargo(&[
            "clippy",
            "-p",
            "racklet-firmware-core",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )
}
