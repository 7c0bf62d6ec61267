// SPDX-License-Identifier: Apache-2.0
//! zig as C compiler and linker of a tray's static programs: pinned versions from PyPI, verified by hash, in a folder of their own.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use racklet_tests::process::output;

use crate::{hash, paths, progress};

const REQUIREMENTS: &str = include_str!("../zig-requirements.txt");

/// The folder with `cargo-zigbuild`, if it has been set up.
pub(crate) fn present() -> Result<Option<PathBuf>> {
    let folder = folder()?;
    Ok(folder
        .join("complete")
        .is_file()
        .then(|| folder.join("bin")))
}

fn folder() -> Result<PathBuf> {
    let name = format!("zig-{}", &hash::of_parts([REQUIREMENTS])[..16]);
    Ok(paths::cache()?.join(name))
}

/// Sets it up, and gives the folder to put in front of PATH.
pub(crate) fn require() -> Result<PathBuf> {
    if let Some(bin) = present()? {
        return Ok(bin);
    }
    let folder = folder()?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    output(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .context("a Python environment for zig")?;
    let list = folder.join("requirements.txt");
    fs::write(&list, REQUIREMENTS)?;
    progress::run(
        "download zig, the linker of a tray's programs, from PyPI",
        "zig",
        40,
        Command::new(folder.join("bin/pip"))
            .args([
                "install",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
                "-r",
            ])
            .arg(&list),
    )
    .context(
        "zig could not be had from PyPI (it must be reachable, or PIP_INDEX_URL name a mirror)",
    )?;
    fs::write(folder.join("complete"), "")?;
    Ok(folder.join("bin"))
}
