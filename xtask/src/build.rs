// SPDX-License-Identifier: Apache-2.0
//! Everything that tests or the demo need, into `target/racklet`: kernels beside programs where memory allows.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    controllers, debian, estimate, firmware, kernel, packages, paths,
    progress::{self, say},
    rust, tray, zig,
};

/// What is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Trays, and whoever makes and runs them.
    Trays,
    /// The same, for the demo.
    Demo,
    /// What tests need besides.
    Tests,
}

/// Memory that two builds at once want, in KiB: a kernel linked (1 GiB) while a tray's largest program is optimised as a whole
/// (1.5 GiB), and for each processor a C and a Rust compiler.
fn for_both(processors: usize) -> u64 {
    (5 << 19) + (processors as u64) * (3 << 18)
}

/// Sets up what is missing, builds what has changed.
pub(crate) fn everything(what: For, architectures: &[&Architecture]) -> Result<()> {
    progress::plan(estimate::parts(what, architectures)?);
    packages::require_all()?;
    let lock = paths::lock_cache()?;
    let library = rust::require()?;
    zig::ZIG.require()?;
    for architecture in architectures {
        busybox(architecture)?;
    }
    let kernels = || {
        kernel::build(&[], architectures)?;
        drop(lock);
        Ok(())
    };
    let programs = || {
        machine()?;
        for architecture in architectures {
            tray::build(&library, architecture, what)?;
        }
        match what {
            For::Tests => controllers::build(),
            _ => Ok(()),
        }
    };
    let processors = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    if paths::available_memory()? >= for_both(processors) {
        both(kernels, programs)?;
    } else {
        say(
            "  one after the other: there is not enough free memory to build kernels and programs at once",
        );
        kernels()?;
        programs()?;
    }
    for architecture in architectures {
        os(architecture)?;
        firmware::gather(architecture)?;
        sizes(architecture)?;
    }
    Ok(())
}

/// Does both at once. Where one fails the other is ended.
fn both(one: impl FnOnce() -> Result<()> + Send, other: impl FnOnce() -> Result<()>) -> Result<()> {
    let first = Mutex::new(Ok(()));
    let done = |result: Result<()>| {
        if result.is_err() {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            // What fails after that was ended because of it.
            if first.is_ok() {
                *first = result;
                progress::stop();
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| done(one()));
        done(other());
    });
    progress::go_on();
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Programs for this machine, in one run of cargo so that what they share is compiled once: the user's tool, what packs an
/// operating system, what boots trays.
fn machine() -> Result<()> {
    let (key, guess) = estimate::machine();
    progress::run(
        "programs for this machine: racklet, os, tray",
        &key,
        guess,
        Command::new("cargo")
            .current_dir(paths::workspace())
            .args(["build", "-p", "racklet-cli", "-p", "racklet-image"])
            .args(["-p", "racklet-tests", "--bin", "racklet", "--bin", "os"])
            .args(["--bin", "firmware"])
            .args(["--bin", "tray"]),
    )?;
    let bin = paths::made(paths::products()?.join("bin"))?;
    // Copying over a program that runs fails; renaming does not.
    let partial = bin.join("racklet.partial");
    fs::copy(paths::program("racklet"), &partial).context("copy racklet")?;
    fs::rename(partial, bin.join("racklet")).context("put racklet in its place")
}

/// What the demo's workload consists of.
fn busybox(architecture: &Architecture) -> Result<()> {
    let deb = debian::download_for(architecture.debian, "busybox-static", "1:1.")?;
    let folder = debian::unpack(&deb)?;
    let found = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| folder.join(path))
        .find(|path| path.is_file());
    fs::copy(
        found.context("the package busybox-static has no busybox")?,
        architecture.products()?.join("busybox"),
    )?;
    Ok(())
}

/// The two initramfs; what they consist of is `image/src/bin/os.rs`.
fn os(architecture: &Architecture) -> Result<()> {
    progress::run(
        &format!("pack the operating system for {}", architecture.name),
        "pack",
        estimate::PACK,
        Command::new(paths::program("os"))
            .arg(paths::made(architecture.products()?.join("os"))?)
            .arg(tray::folder(architecture))
            .arg(kernel::folder(architecture, "guest")?.join("monitor"))
            .arg(kernel::folder(architecture, "tray")?.join("modules")),
    )
}

fn sizes(architecture: &Architecture) -> Result<()> {
    let folder = architecture.products()?;
    let size = |name: &str| -> Result<u64> {
        let path: &Path = &folder.join(name);
        let metadata = fs::metadata(path).with_context(|| format!("size of {}", path.display()))?;
        Ok(metadata.len())
    };
    let mib = |bytes: u64| {
        let hundredths = bytes * 100 / (1 << 20);
        format!("{}.{:02} MiB", hundredths / 100, hundredths % 100)
    };
    let initramfs = size("os/bootstrap.cpio.zst")?;
    say(&format!(
        "  {}: bootstrap {} (of it initramfs {}), payload {}",
        architecture.name,
        mib(size("kernel/tray/uefi")? + initramfs),
        mib(initramfs),
        mib(size("kernel/tray/kexec")? + size("os/hypervisor.cpio.zst")?)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::time::{Duration, Instant};

    #[test]
    fn two_processors_build_both_in_four_gibibytes() {
        assert_eq!(for_both(2), 4 << 20);
        assert!(for_both(16) > 14 << 20);
    }

    #[test]
    fn where_one_fails_the_other_is_ended_and_the_first_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let error = both(
            || {
                // Begins after the sleep has.
                while !folder.path().join("begun").exists() {
                    thread::sleep(Duration::from_millis(10));
                }
                bail!("no flour")
            },
            || {
                progress::run(
                    "a long step",
                    "test-both",
                    1,
                    Command::new("sh")
                        .args(["-c", "touch begun; exec sleep 600"])
                        .current_dir(&folder),
                )
            },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "no flour");
        // Not a matter of speed: the step would have gone on for ten minutes.
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}
