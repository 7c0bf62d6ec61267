// SPDX-License-Identifier: Apache-2.0
//! The processors that trays have, as each tool calls them. What is signed and what boards are have `racklet_trust`'s enum; this tool
//! links no crate of ours.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Architecture {
    /// As the kernel names it (`uname -m`), and everybody here but the tools below.
    pub(crate) name: &'static str,
    /// Rust's target of the programs of a tray.
    pub(crate) linux: &'static str,
    /// Rust's target of the bootloader.
    pub(crate) firmware: &'static str,
    /// As Debian calls it.
    pub(crate) debian: &'static str,
    /// `ARCH` of the kernel's build, and its folder below `arch/`.
    pub(crate) kernel: &'static str,
    /// What the names of its compiler and linker begin with.
    pub(crate) cross: &'static str,
}

/// The one that machines for development have.
pub(crate) static HERE: &Architecture = &ALL[0];

/// All of them.
pub(crate) static ALL: [Architecture; 2] = [
    Architecture {
        name: "x86_64",
        linux: "x86_64-unknown-linux-musl",
        firmware: "x86_64-unknown-uefi",
        debian: "amd64",
        kernel: "x86",
        cross: "",
    },
    Architecture {
        name: "aarch64",
        linux: "aarch64-unknown-linux-musl",
        firmware: "aarch64-unknown-uefi",
        debian: "arm64",
        kernel: "arm64",
        cross: "aarch64-linux-gnu-",
    },
];

impl Architecture {
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let found = ALL.iter().find(|it| it.name == name);
        found.with_context(|| {
            let known: Vec<_> = ALL.iter().map(|it| it.name).collect();
            format!(
                "there is no architecture {name}; there are {}",
                known.join(", ")
            )
        })
    }

    /// That of the board `name`, by its `board.toml`.
    pub(crate) fn of_board(name: &str) -> Result<&'static Self> {
        let shelf = paths::workspace().join("boards/trays");
        let Ok(text) = fs::read_to_string(shelf.join(name).join("board.toml")) else {
            let folders = fs::read_dir(&shelf).context("list the boards")?.flatten();
            let mut known: Vec<_> = folders
                .map(|it| it.file_name().to_string_lossy().into_owned())
                .collect();
            known.sort();
            bail!("there is no board {name}; there are {}", known.join(", "));
        };
        let named = text
            .lines()
            .find_map(|line| line.strip_prefix("architecture = \"")?.strip_suffix('"'));
        Self::named(named.with_context(|| format!("board {name} says no architecture"))?)
    }

    /// What is built for it, in `target/racklet`.
    pub(crate) fn products(&self) -> Result<PathBuf> {
        paths::made(paths::products()?.join(self.name))
    }

    /// The compiler of its kernels.
    pub(crate) fn tool(&self, name: &str) -> String {
        format!("{}{name}", self.cross)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_has_an_architecture_that_is_built() {
        let shelf = paths::workspace().join("boards/trays");
        let mut seen = Vec::new();
        for folder in fs::read_dir(shelf).unwrap() {
            let name = folder.unwrap().file_name();
            let architecture = Architecture::of_board(name.to_str().unwrap()).unwrap();
            if !seen.contains(&architecture.name) {
                seen.push(architecture.name);
            }
        }
        // And none is built that no board has.
        assert_eq!(seen.len(), ALL.len(), "{seen:?}");
        let error = Architecture::of_board("toaster").unwrap_err().to_string();
        assert!(error.contains("qemu-x86_64"), "{error}");
    }
}
