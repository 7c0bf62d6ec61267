// SPDX-License-Identifier: Apache-2.0
//! A manual page for the program and one for each of its commands.

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::Command;

/// Writes them.
pub(crate) fn write(mut program: Command, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    program.build();
    page(program.clone(), directory)?;
    for inner in program
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        page(inner.clone(), directory)?;
    }
    Ok(())
}

fn page(command: Command, directory: &Path) -> anyhow::Result<()> {
    clap_mangen::Man::new(command)
        .generate_to(directory)
        .with_context(|| format!("write pages into {}", directory.display()))?;
    Ok(())
}
