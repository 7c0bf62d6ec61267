// SPDX-License-Identifier: Apache-2.0
//! Everything that tests and demo need, in order, into `target/racklet`.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use racklet_tests::artifacts::Artifacts;

use crate::{
    debian, kernel, os, packages, paths,
    progress::{self, say},
    rust, tray,
};

/// Sets up what is missing, builds what has changed.
pub(crate) fn everything() -> Result<Artifacts> {
    packages::require_all()?;
    racklet()?;
    let lock = paths::lock_cache()?;
    let library = rust::require()?;
    busybox()?;
    kernel::build(&[])?;
    drop(lock);
    tray::build(&library)?;
    os::pack()?;
    let artifacts = Artifacts::find()?;
    sizes(&artifacts)?;
    Ok(artifacts)
}

/// The user's tool, for this machine.
fn racklet() -> Result<()> {
    progress::run(
        "racklet, the user's tool",
        "racklet",
        150,
        Command::new("cargo").current_dir(paths::workspace()).args([
            "build",
            "-p",
            "racklet-cli",
            "--bin",
            "racklet",
        ]),
    )?;
    let bin = paths::made(paths::products()?.join("bin"))?;
    // Copying over a program that runs fails; renaming does not.
    let partial = bin.join("racklet.partial");
    fs::copy(paths::target().join("debug/racklet"), &partial).context("copy racklet")?;
    fs::rename(partial, bin.join("racklet")).context("put racklet in its place")
}

/// What the demo's workload consists of.
fn busybox() -> Result<()> {
    let folder = debian::unpack(&debian::download("busybox-static", "1:1.")?)?;
    let found = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| folder.join(path))
        .find(|path| path.is_file());
    let to = paths::made(paths::products()?.join("bin"))?.join("busybox");
    fs::copy(
        found.context("the package busybox-static has no busybox")?,
        to,
    )?;
    Ok(())
}

fn sizes(artifacts: &Artifacts) -> Result<()> {
    let size = |path: &std::path::Path| -> Result<u64> { Ok(fs::metadata(path)?.len()) };
    let mib = |bytes: u64| {
        let hundredths = bytes * 100 / (1 << 20);
        format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
    };
    let [boot, initramfs] = [
        size(&artifacts.bootstrap_kernel())?,
        size(&artifacts.bootstrap_initramfs())?,
    ];
    let payload = size(&artifacts.host_kernel())? + size(&artifacts.host_initramfs())?;
    say(&format!(
        "  bootstrap {} (of it initramfs {}), payload {}",
        mib(boot + initramfs),
        mib(initramfs),
        mib(payload)
    ));
    Ok(())
}
