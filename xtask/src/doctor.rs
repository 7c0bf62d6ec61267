// SPDX-License-Identifier: Apache-2.0
//! What is missing on this machine and why it is needed. Changes nothing, unless asked to take back what was changed.

use std::process::Command;

use anyhow::{Result, bail};
use racklet_tests::{process::output, qemu};

use crate::{kernel, lint, packages, paths, rust, zig};

/// Free space that a first run takes: kernel source and build, two target triples.
const DISK_GIB: u64 = 12;
/// Two machines of 1 GiB and a linker.
const MEMORY_GIB: u64 = 4;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Takes back the package source that was added for newer packages; what was installed stays
    #[arg(long)]
    undo: bool,
}

/// Prints the report; fails if something is missing that a run would not bring by itself.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.undo {
        return packages::undo();
    }
    let mut missing = Vec::new();
    println!("System packages");
    for package in packages::all()? {
        let there = package.is_there();
        line(there, package.name(), &package.reason);
        if !there {
            missing.push(package.name().to_owned());
        }
    }
    println!("\nFor the hardware only: brought by `cargo xtask hardware`");
    for package in packages::hardware()? {
        line(package.is_there(), package.name(), &package.reason);
    }
    println!("\nBrought by `cargo xtask test` and `cargo xtask demo` themselves");
    let library = match rust::present()? {
        Some(rust::Library::Prebuilt) => "prebuilt by rustup",
        Some(rust::Library::Source { .. }) => "built from its source",
        None => "",
    };
    line(
        !library.is_empty(),
        "Rust's library for trays",
        &format!(
            "compiles for {} and {} {library}",
            rust::LINUX,
            rust::FIRMWARE
        ),
    );
    line(
        zig::ZIG.present()?.is_some(),
        "zig",
        "links the static programs of a tray",
    );
    line(
        lint::deny()?.is_some(),
        "cargo-deny",
        "checks licences, advisories and sources of dependencies",
    );
    for (name, there) in kernel::cached()? {
        line(
            there,
            &format!("kernel {name}"),
            "is built from the distribution's source, five to nine minutes (40 on a slow machine)",
        );
    }
    println!("\nThe machine");
    line(
        qemu::firmware().is_ok(),
        "UEFI firmware",
        "trays in QEMU boot with it",
    );
    let disk = available(&[
        "--output=avail",
        "-k",
        &paths::target()
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(std::path::Path::new("/"))
            .display()
            .to_string(),
    ])?;
    line(
        disk >= DISK_GIB << 20,
        "disk",
        &format!(
            "{} GiB free, a first run takes about {DISK_GIB}",
            disk >> 20
        ),
    );
    let memory = memory()?;
    line(
        memory >= MEMORY_GIB << 20,
        "memory",
        &format!(
            "{} GiB available, tests take up to {MEMORY_GIB}",
            memory >> 20
        ),
    );
    println!(
        "  ---  processor                  trays run in QEMU: on KVM where a guest runs, else emulated"
    );
    if missing.is_empty() {
        println!("\nNothing is missing that a run would not bring by itself.");
        return Ok(());
    }
    bail!(
        "{} system packages are missing; `cargo xtask test` installs them where it may, or by hand:\n\n  sudo apt-get install --no-install-recommends -y {}",
        missing.len(),
        missing.join(" ")
    )
}

fn line(there: bool, name: &str, text: &str) {
    println!("  {} {name:26} {text}", if there { "ok  " } else { "MISS" });
}

fn available(arguments: &[&str]) -> Result<u64> {
    let text = output(Command::new("df").args(arguments))?;
    Ok(text
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0))
}

fn memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}
