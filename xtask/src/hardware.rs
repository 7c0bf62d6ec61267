// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask hardware`: boards, trays and case. What is done is done by `racklet-kicad`'s and `racklet-enclosure`'s programs;
//! here they get what they need, and are started.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    arguments::Given,
    hash, ibom, packages, paths,
    progress::{self, say},
};

pub(crate) fn run(given: &Given) -> Result<()> {
    packages::require(packages::hardware()?)?;
    if given.has("--setup") {
        return Ok(());
    }
    let check = given.has("--check");
    programs()?;
    progress::run(
        "trays and case: closed, thick enough, without collisions",
        "hw-enclosure",
        45,
        Command::new(paths::program("case")).arg("check"),
    )?;
    boards(check)?;
    if !given.has("--no-outputs") {
        let documents = paths::workspace().join("docs/hardware");
        release((!check).then_some(&*documents))?;
    }
    if check {
        let mut tests = Command::new("cargo");
        tests
            .args(["test", "--workspace", "--test", "mutations"])
            .current_dir(paths::workspace());
        progress::run(
            "mutations: every check refuses its mistake",
            "hw-mutations",
            150,
            &mut tests,
        )?;
    }
    Ok(())
}

fn programs() -> Result<()> {
    progress::run(
        "the programs that make and judge boards and case",
        "hw-programs",
        60,
        Command::new("cargo")
            .current_dir(paths::workspace())
            .args(["build", "-p", "racklet-kicad", "-p", "racklet-enclosure"])
            .args(["--bin", "hardware", "--bin", "case"]),
    )
}

/// What of `--check` is not among the workspace's tests, where KiCad is installed; `cargo xtask test` calls it. Among them are the
/// mutations, and whether the case fits (`enclosure/tests/fit.rs`, which makes the same solids and asks for the same findings).
pub(crate) fn check_if_installed() -> Result<()> {
    let missing: Vec<_> = packages::hardware()?
        .into_iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name().to_owned())
        .collect();
    if !missing.is_empty() {
        say(&format!(
            "  boards are left out: {} not installed (`cargo xtask hardware --check` installs them)",
            missing.join(", ")
        ));
        return Ok(());
    }
    programs()?;
    boards(true)
}

/// What `hardware make` and `hardware check` do; boards that they do not cover are named.
fn boards(check: bool) -> Result<()> {
    let (title, key, command) = match check {
        true => ("boards: made again, compared, checked", "hw-check", "check"),
        false => ("boards: made and checked", "hw-make", "make"),
    };
    progress::run(
        title,
        key,
        240,
        Command::new(paths::program("hardware")).arg(command),
    )?;
    let log = paths::logs()?.join(format!("{key}.log"));
    let said = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    for line in said.lines().filter(|line| line.starts_with("NOT ")) {
        say(&format!("  {line}"));
    }
    Ok(())
}

/// The release folders, and the pictures that documents show if their folder is given.
fn release(documents: Option<&Path>) -> Result<()> {
    let whole = paths::made(paths::products()?.join("hardware"))?;
    let case = paths::made(whole.join("enclosure"))?;
    progress::run(
        "trays and case: STL and pictures",
        "hw-stl",
        90,
        Command::new(paths::program("case"))
            .arg("make")
            .arg(case)
            .args(documents),
    )?;
    let ibom = ibom::IBOM.require()?.join("generate_interactive_bom");
    progress::run(
        "boards: release folders",
        "hw-release",
        60,
        Command::new(paths::program("hardware"))
            .arg("release")
            .arg(&whole)
            .arg(ibom)
            .args(documents),
    )?;
    sums(&whole)?;
    say(&format!("  {}", paths::short(&whole)));
    Ok(())
}

/// `SHA256SUMS` of all files of a release, as `sha256sum --check` reads it.
fn sums(folder: &Path) -> Result<()> {
    let to = folder.join("SHA256SUMS");
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path != to {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut lines = String::new();
    for (digest, path) in hash::of_files(&files)?.iter().zip(&files) {
        lines += &format!("{digest}  {}\n", path.strip_prefix(folder)?.display());
    }
    fs::write(&to, lines).with_context(|| format!("write {}", to.display()))
}
