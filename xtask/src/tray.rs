// SPDX-License-Identifier: Apache-2.0
//! The programs that run on a tray: static (musl), small, and the bootloader.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    paths, progress,
    rust::{self, Library},
    zig,
};

/// Packages and the program that each gives.
const PROGRAMS: [(&str, &str); 6] = [
    ("racklet-init", "init"),
    ("racklet-netd", "netd"),
    ("racklet-hypervisor", "hypervisor"),
    ("racklet-vmm", "vmm"),
    ("racklet-guest", "guest-init"),
    // Not on a tray: starts microVMs in `tests/tests/microvm.rs`, and is their workload.
    ("racklet-tests", "nested"),
];

/// Where a program of a tray is.
pub(crate) fn program(name: &str) -> PathBuf {
    paths::target().join(rust::LINUX).join("tray").join(name)
}

/// Builds them all, in one run of cargo so that what they share is compiled once.
pub(crate) fn build(library: &Library) -> Result<()> {
    let zig = zig::ZIG.require()?;
    let mut command = cargo(library)?;
    command
        .arg("zigbuild")
        .args(["--target", rust::LINUX, "--profile", "tray"]);
    for (package, name) in PROGRAMS {
        command.args(["-p", package, "--bin", name]);
    }
    library.apply(&mut command, "std,panic_abort");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([zig].into_iter().chain(env::split_paths(&path)))
        .context("PATH with zig in front")?;
    command.env("PATH", path);
    flags(&mut command, "-C link-self-contained=no")?;
    progress::run(
        "programs of a tray (static, musl)",
        "tray-programs",
        240,
        &mut command,
    )?;

    let mut command = cargo(library)?;
    command.arg("build").args([
        "--target",
        rust::FIRMWARE,
        "--profile",
        "tray",
        "-p",
        "racklet-bootloader",
        "--bins",
        // Stands in for Linux in tests of the bootloader.
        "--example",
        "probe",
    ]);
    library.apply(&mut command, "core,alloc");
    flags(&mut command, "")?;
    progress::run("bootloader (UEFI)", "bootloader", 60, &mut command)?;
    let made = paths::target().join(rust::FIRMWARE).join("tray");
    let products = paths::made(paths::products()?.join("os"))?;
    for (from, to) in [
        ("racklet-bootloader.efi", "bootloader.efi"),
        ("examples/probe.efi", "probe.efi"),
    ] {
        let from = made.join(from);
        fs::copy(&from, products.join(to))
            .with_context(|| format!("the bootloader's {}", from.display()))?;
    }
    Ok(())
}

fn cargo(library: &Library) -> Result<Command> {
    let mut command = Command::new("cargo");
    command
        .current_dir(paths::workspace())
        .env("SOURCE_DATE_EPOCH", "0");
    if let Library::Source {
        compiler: Some(sysroot),
    } = library
    {
        command.env("RUSTC", sysroot.join("bin/rustc"));
    }
    Ok(command)
}

/// Compiler flags of everything that ends up on a tray: no folder of this machine in it, so that two machines build the same.
fn flags(command: &mut Command, more: &str) -> Result<()> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let flags = format!(
        "{more} --remap-path-prefix={}=/racklet --remap-path-prefix={}=/cargo",
        paths::workspace().display(),
        home.display(),
    );
    command.env("RUSTFLAGS", flags.trim());
    Ok(())
}
