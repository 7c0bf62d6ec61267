// SPDX-License-Identifier: Apache-2.0
//! What boards' own firmware loads from a card: from Debian's `raspi-firmware` and the device trees of the tray's kernel. What each board
//! wants of these, and what we change of its tree, is `image/src/bin/firmware.rs`'s to know.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{architecture::Architecture, debian, kernel, paths, progress};

const PACKAGE: &str = "raspi-firmware";
/// Debian 13's. Debian 12 has one of 2022-08, which knows nothing of two slots.
const VERSION: &str = "1.2024";
/// Seconds.
const GUESS: u64 = 3;

/// Gathers it for the boards of an architecture whose kernel brings device trees.
pub(crate) fn gather(architecture: &Architecture) -> Result<()> {
    let trees = kernel::folder(architecture, "tray")?;
    let listed = fs::read_dir(&trees).with_context(|| format!("list {}", trees.display()))?;
    let is_tree = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".dtb");
    if !listed.flatten().any(|entry| is_tree(entry.file_name())) {
        return Ok(());
    }
    let package = debian::unpack(&debian::download_for(
        architecture.debian,
        PACKAGE,
        VERSION,
    )?)?;
    progress::run(
        &format!("gather boards' firmware for {}", architecture.name),
        "firmware",
        GUESS,
        Command::new(paths::program("firmware"))
            .arg(paths::made(architecture.products()?.join("firmware"))?)
            .arg(package)
            .arg(trees)
            .arg(paths::workspace().join("boards/trays")),
    )
}

/// What is installed of it, and where in the data folder: `boards/<board>/firmware/`.
pub(crate) fn layout(architecture: &Architecture) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let Ok(boards) = fs::read_dir(architecture.products()?.join("firmware")) else {
        return Ok(found);
    };
    for board in boards {
        let board = board?;
        let to = Path::new("boards").join(board.file_name()).join("firmware");
        for file in fs::read_dir(board.path())? {
            let file = file?;
            found.push((file.path(), to.join(file.file_name())));
        }
    }
    Ok(found)
}
