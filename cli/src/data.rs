// SPDX-License-Identifier: Apache-2.0
//! Where things are that users need not name: what `cargo xtask install`, a distribution or the user put into a data folder.
//!
//! | file in a data folder | |
//! | --- | --- |
//! | `boards/<board>/…` | for this board alone; looked at first |
//! | `<architecture>/bootloader.efi` | the bootloader |
//! | `<architecture>/{bootstrap,payload}.{kernel,initramfs}` | what bootstraps and payloads are built from |

use std::path::{Path, PathBuf};

use anyhow::Context;
use racklet_boards::Board;

use crate::output::Output;

/// `~/.local/share/racklet`, or `racklet` in the folder that `XDG_DATA_HOME` names.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_DATA_HOME").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/share")
        }
    };
    Ok(base.join("racklet"))
}

/// The file that the user names with `option`, or else that of the first data folder which has it; says which one it took.
pub(crate) fn find(
    named: Option<&Path>,
    board: &Board,
    file: &str,
    option: &str,
    output: Output,
) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let mut folders: Vec<PathBuf> = std::env::var_os("RACKLET_DATA")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    folders.extend(home().ok());
    folders.push(PathBuf::from("/usr/local/share/racklet"));
    folders.push(PathBuf::from("/usr/share/racklet"));
    let tried: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| {
            [
                folder.join("boards").join(&board.name).join(file),
                folder.join(board.architecture.name()).join(file),
            ]
        })
        .collect();
    let Some(found) = tried.iter().find(|path| path.exists()) else {
        let list: Vec<String> = tried
            .iter()
            .map(|path| format!("  {}", path.display()))
            .collect();
        // A bootstrap is signed by the user, so nobody can install one.
        let how = match file {
            "bootstrap" => "make one with `racklet bootstrap build` and `racklet bootstrap sign`",
            _ => "run `cargo xtask install` in Racklet's source",
        };
        anyhow::bail!(
            "no {file} for board {}: {how}, name it with {option}, or put it in one of these places:\n{}",
            board.name,
            list.join("\n")
        );
    };
    output.note(&format!("taking {}", found.display()));
    Ok(found.clone())
}
