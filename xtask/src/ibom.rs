// SPDX-License-Identifier: Apache-2.0
//! InteractiveHtmlBom, pinned and verified by hash, in a Python environment of its own that sees KiCad's modules.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use racklet_tests::process::output;

use crate::{hash, paths, progress};

const REQUIREMENTS: &str = include_str!("../ibom-requirements.txt");

/// Sets it up if it is not, and gives its program.
pub(crate) fn require() -> Result<PathBuf> {
    let name = format!("ibom-{}", &hash::of_parts([REQUIREMENTS])[..16]);
    let folder = paths::cache()?.join(name);
    let program = folder.join("bin/generate_interactive_bom");
    if folder.join("complete").is_file() {
        return Ok(program);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    // The system's own Python: it is the one that KiCad's module is built for.
    output(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--system-site-packages"])
            .arg(&folder),
    )
    .context("a Python environment for InteractiveHtmlBom")?;
    let list = folder.join("requirements.txt");
    fs::write(&list, REQUIREMENTS)?;
    progress::run(
        "download InteractiveHtmlBom from PyPI",
        "ibom",
        5,
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
    .context("InteractiveHtmlBom could not be had from PyPI (it must be reachable, or PIP_INDEX_URL name a mirror)")?;
    fs::write(folder.join("complete"), "")?;
    Ok(program)
}
