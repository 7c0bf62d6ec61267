// SPDX-License-Identifier: Apache-2.0
//! The boards that trays are built on. Each is a folder in `trays/` with a `board.toml`, found when this crate is built: adding
//! a board is adding a folder.
//!
//! | shelf | what is on it | read by |
//! | --- | --- | --- |
//! | `trays/<name>/board.toml` | boards that images are built for | this module |
//! | `controllers/<name>/{pins,dimensions}.toml` | boards of ours with a controller on them | [`pins`], [`dimensions`] |
//! | `shapes/<name>.toml` | outlines of boards that others make | [`dimensions`] |
//! | `rack.toml` | the rack that all of them fit into | [`dimensions`] |

#![forbid(unsafe_code)]

use racklet_trust::Architecture;
use serde::Deserialize;

pub mod dimensions;
pub mod pins;

const FOUND: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// One board.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The folder's name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Its processor's.
    pub architecture: Architecture,
    /// What starts the first stage.
    pub firmware: Firmware,
    /// The serial console.
    pub console: Console,
    /// What kernels on it are told.
    pub kernel: Kernel,
}

/// What starts the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// UEFI starts `EFI/BOOT/BOOT*.EFI`.
    Uefi,
}

/// The serial console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Linux's name of the device.
    pub device: String,
    /// Bits per second.
    pub baud: u32,
}

/// What kernels on a board are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Said to the bootstrap kernel and, after it, to the hypervisor OS.
    pub arguments: Vec<String>,
}

/// No such board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no board {name:?}; there are: {}", known.join(", "))]
pub struct UnknownBoard {
    name: String,
    known: Vec<String>,
}

/// All boards, by name.
#[must_use]
pub fn all() -> Vec<Board> {
    FOUND
        .iter()
        .map(|(folder, text)| parse(folder, text))
        .collect()
}

/// The board called `name`.
///
/// # Errors
/// [`UnknownBoard`] with the names there are.
pub fn find(name: &str) -> Result<Board, UnknownBoard> {
    let found = FOUND.iter().find(|(folder, _)| *folder == name);
    found
        .map(|(folder, text)| parse(folder, text))
        .ok_or_else(|| UnknownBoard {
            name: name.to_owned(),
            known: FOUND
                .iter()
                .map(|(folder, _)| (*folder).to_owned())
                .collect(),
        })
}

fn parse(folder: &str, text: &str) -> Board {
    let board: Board = toml::from_str(text).unwrap_or_else(|error| {
        panic!("boards/trays/{folder}/board.toml (part of this program): {error}")
    });
    assert_eq!(board.name, folder, "a board is called like its folder");
    board
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_a_board_that_parses() {
        let all = all();
        assert!(all.iter().any(|board| board.name == "qemu-x86_64"));
        for board in all {
            assert_eq!(find(&board.name), Ok(board.clone()));
            assert!(!board.kernel.arguments.is_empty() && !board.description.is_empty());
        }
    }

    #[test]
    fn an_unknown_board_is_answered_with_those_there_are() {
        assert!(
            find("toaster")
                .unwrap_err()
                .to_string()
                .contains("qemu-x86_64")
        );
    }
}
