// SPDX-License-Identifier: Apache-2.0
//! The programs that run on a tray: static (musl), small, and the bootloader. And what tests run in their place.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build::For,
    paths, progress,
    rust::{self, Library},
    zig,
};

/// One run of cargo, so that what its programs share is compiled once. What only tests need has runs of its own: which features
/// a test program wants of a library must not decide what is on a tray.
pub(crate) struct Step {
    pub(crate) title: &'static str,
    name: &'static str,
    /// Seconds from nothing, on two slow cores.
    pub(crate) guess: u64,
    /// MiB of the target folder, from nothing.
    pub(crate) mib: u64,
    target: &'static str,
    arguments: &'static [&'static str],
    /// What it makes, in the folder of its target.
    makes: &'static [&'static str],
}

const PROGRAMS: Step = Step {
    title: "programs of a tray (static, musl)",
    name: "tray-programs",
    guess: 240,
    mib: 900,
    target: rust::LINUX,
    arguments: &[
        "-p",
        "racklet-init",
        "-p",
        "racklet-netd",
        "-p",
        "racklet-hypervisor",
        "-p",
        "racklet-vmm",
        "-p",
        "racklet-guest",
        "--bins",
    ],
    makes: &["init", "netd", "hypervisor", "vmm", "guest-init"],
};

const BOOTLOADER: Step = Step {
    title: "bootloader (UEFI)",
    name: "bootloader",
    guess: 60,
    mib: 200,
    target: rust::FIRMWARE,
    arguments: &["-p", "racklet-bootloader", "--bins"],
    makes: &["racklet-bootloader.efi"],
};

/// Starts microVMs in `tests/tests/microvm.rs`, and is their workload.
const NESTED: Step = Step {
    title: "program of the microVM tests (static, musl)",
    name: "nested",
    guess: 120,
    mib: 400,
    target: rust::LINUX,
    arguments: &["-p", "racklet-tests", "--bin", "nested"],
    makes: &["nested"],
};

/// Stands in for Linux in tests of the bootloader.
const PROBE: Step = Step {
    title: "stand-in for Linux in the bootloader's tests",
    name: "probe",
    guess: 20,
    mib: 50,
    target: rust::FIRMWARE,
    arguments: &["-p", "racklet-bootloader", "--example", "probe"],
    makes: &["examples/probe.efi"],
};

/// What is run for this.
pub(crate) fn steps(what: For) -> &'static [Step] {
    match what {
        For::Trays | For::Demo => &[PROGRAMS, BOOTLOADER],
        For::Tests => &[PROGRAMS, BOOTLOADER, NESTED, PROBE],
    }
}

/// Where the programs of a tray are.
pub(crate) fn folder() -> PathBuf {
    folder_of(rust::LINUX)
}

fn folder_of(target: &str) -> PathBuf {
    paths::target().join(target).join("tray")
}

impl Step {
    /// Whether all of it has been made before.
    pub(crate) fn is_there(&self) -> bool {
        let folder = folder_of(self.target);
        self.makes.iter().all(|name| folder.join(name).is_file())
    }

    /// Built from nothing and built again are two things, of which each has its own record.
    pub(crate) fn key(&self) -> String {
        let again = if self.is_there() { "-again" } else { "" };
        format!("{}{again}", self.name)
    }

    fn run(&self, library: &Library) -> Result<()> {
        let mut command = cargo(library)?;
        let is_linux = self.target == rust::LINUX;
        command
            .arg(if is_linux { "zigbuild" } else { "build" })
            .args(["--target", self.target, "--profile", "tray"])
            .args(self.arguments);
        if is_linux {
            let zig = zig::ZIG.require()?;
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths([zig].into_iter().chain(env::split_paths(&path)))
                .context("PATH with zig in front")?;
            command.env("PATH", path);
            library.apply(&mut command, "std,panic_abort");
            flags(&mut command, "-C link-self-contained=no")?;
        } else {
            library.apply(&mut command, "core,alloc");
            flags(&mut command, "")?;
        }
        progress::run(self.title, &self.key(), self.guess, &mut command)
    }
}

/// Builds them all.
pub(crate) fn build(library: &Library, what: For) -> Result<()> {
    for step in steps(what) {
        step.run(library)?;
        if step.target != rust::FIRMWARE {
            continue;
        }
        let products = paths::made(paths::products()?.join("os"))?;
        for name in step.makes {
            let from = folder_of(step.target).join(name);
            // `racklet-bootloader.efi` becomes `bootloader.efi`, `examples/probe.efi` becomes `probe.efi`.
            let to = name.rsplit(['/', '-']).next().unwrap_or(name);
            fs::copy(&from, products.join(to))
                .with_context(|| format!("the bootloader's {}", from.display()))?;
        }
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
