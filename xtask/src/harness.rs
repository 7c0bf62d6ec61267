// SPDX-License-Identifier: Apache-2.0
//! What needs trays: the demo, the figures, the choice of a processor. All of it is done by `racklet-tests`' program `tray`.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    architecture::Architecture,
    arguments::Given,
    build, estimate, paths,
    process::{describe, output},
    progress::say,
};

/// `cargo xtask demo`.
pub(crate) fn demo(given: &Given) -> Result<()> {
    say("Setting up and building");
    let board = board(given);
    build::everything(build::For::Demo, &[Architecture::of_board(board)?])?;
    let expected = estimate::of_demo().to_string();
    let once = given.has("--once").then_some("--once");
    become_tray(board, ["demo", &expected].into_iter().chain(once))
}

/// `cargo xtask bench boot`, `bench vmm`, `bench growth`.
pub(crate) fn bench(given: &Given) -> Result<()> {
    if given.words == ["growth"] {
        return growth();
    }
    let what = match &given.words[..] {
        [what] if what == "boot" || what == "vmm" => what.as_str(),
        _ => bail!("measures what? `cargo xtask bench boot`, `bench vmm` or `bench growth`"),
    };
    let board = board(given);
    if !given.has("--as-built") {
        build::everything(build::For::Tests, &[Architecture::of_board(board)?])?;
    }
    become_tray(
        board,
        ["bench", what].into_iter().chain(given.values("--only")),
    )
}

/// How costs grow, counted where nothing but the code has a say: no kernel, no tray, a build of one library, its example, and `racklet`.
fn growth() -> Result<()> {
    let target = paths::target();
    let mut build = Command::new("cargo");
    build
        .current_dir(paths::workspace())
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--release", "-p=racklet-cli", "--bin=racklet"])
        .args(["-p=racklet-fetch", "--example=growth"]);
    let built = build.status();
    if !built
        .with_context(|| format!("start: {}", describe(&build)))?
        .success()
    {
        bail!("failed: {}", describe(&build));
    }
    let mut growth = Command::new(target.join("release/examples/growth"));
    growth
        .current_dir(paths::workspace())
        .env("CARGO_TARGET_DIR", &target)
        .env("RACKLET", target.join("release/racklet"));
    let error = growth.exec();
    Err(error).with_context(|| format!("start: {}", describe(&growth)))
}

/// How trays run on this machine, `kvm` or `tcg`, as `RACKLET_ACCEL` wants it; says why.
pub(crate) fn accelerator() -> Result<String> {
    let mut tray = Command::new(paths::program("tray"));
    let name = output(tray.arg("accel").stderr(std::process::Stdio::inherit()))?;
    Ok(name.trim().to_owned())
}

/// Where the harness reads which board it is to be about (`tests/src/board.rs`).
pub(crate) const BOARD: &str = "RACKLET_BOARD";

/// The board that was asked for; the one that everybody has otherwise.
fn board(given: &Given) -> &str {
    given.value("--board").unwrap_or("qemu-x86_64")
}

/// Goes on as `tray`, so that it and nobody else hears Ctrl-C and ends what it started.
fn become_tray<'a>(board: &str, words: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut tray = Command::new(paths::program("tray"));
    tray.env(BOARD, board).args(words);
    let error = tray.exec();
    Err(error).with_context(|| format!("start: {}", describe(&tray)))
}
