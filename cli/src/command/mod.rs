// SPDX-License-Identifier: Apache-2.0
//! One module per family of commands, named after what they are about. None uses another's command: what two need stands beside them.

pub(crate) mod approve;
pub(crate) mod check;
pub(crate) mod console;
pub(crate) mod image;
pub(crate) mod package;
pub(crate) mod plan;
pub(crate) mod rack;
pub(crate) mod schema;
pub(crate) mod tray;
pub(crate) mod trust;

use std::fs;
use std::path::Path;

use anyhow::Context;

/// A manual page for the program and one for each of its commands.
pub(crate) fn manual(program: &clap::Command, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let mut program = program.clone();
    program.build();
    pages(&program, "racklet", directory)
}

fn pages(command: &clap::Command, name: &str, directory: &Path) -> anyhow::Result<()> {
    let mut page = Vec::new();
    let named = command
        .clone()
        .name(Box::leak(name.to_owned().into_boxed_str()) as &'static str);
    clap_mangen::Man::new(named).render(&mut page)?;
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        pages(inner, &format!("{name}-{}", inner.get_name()), directory)?;
    }
    Ok(())
}
