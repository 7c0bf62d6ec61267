// SPDX-License-Identifier: Apache-2.0
//! The programs that run on a tray: static (musl), small, and the bootloader. And what tests run in their place.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    architecture::{self, Architecture},
    build::For,
    estimate, paths, progress,
    rust::Library,
    zig,
};

/// One run of cargo, so that what its programs share is compiled once.
pub(crate) struct Step {
    pub(crate) title: &'static str,
    name: &'static str,
    /// Seconds from nothing, on two slow cores.
    guess: u64,
    /// MiB of the target folder, from nothing.
    pub(crate) mib: u64,
    /// Whether it is what a firmware starts, instead of Linux.
    for_firmware: bool,
    arguments: &'static [&'static str],
    /// What tests need besides. It must not decide what is on a tray, by the features it wants of libraries: a test below.
    for_tests: &'static [&'static str],
    /// What it makes, in the folder of its target; for tests as well.
    makes: &'static [&'static str],
}

pub(crate) static STEPS: [Step; 2] = [
    Step {
        title: "programs of a tray (static, musl)",
        name: "tray-programs",
        guess: 240,
        mib: 900,
        for_firmware: false,
        arguments: &[
            "-p=racklet-init",
            "-p=racklet-netd",
            "-p=racklet-hypervisor",
            "-p=racklet-vmm",
            "-p=racklet-guest",
            "--bin=init",
            "--bin=netd",
            "--bin=hypervisor",
            "--bin=vmm",
            "--bin=guest-init",
        ],
        // Starts microVMs in their tests, and is their workload.
        for_tests: &["-p=racklet-nested", "--bin=nested"],
        makes: &["init", "netd", "hypervisor", "vmm", "guest-init", "nested"],
    },
    Step {
        title: "bootloader (UEFI)",
        name: "bootloader",
        guess: 60,
        mib: 200,
        for_firmware: true,
        arguments: &["-p=racklet-bootloader", "--bins"],
        // Stands in for Linux in tests of the bootloader.
        for_tests: &["--example=probe"],
        makes: &["racklet-bootloader.efi", "examples/probe.efi"],
    },
];

/// The monitor from a shell, which no tray has: the microVM tests try it with the real kernel. In a run of its own, since it wants more
/// of libraries than a tray's programs do.
static SHELL: Step = Step {
    title: "racklet-vmm (static, musl)",
    name: "shell-program",
    guess: 80,
    mib: 200,
    for_firmware: false,
    arguments: &["-p=racklet-vmm-shell", "--bin=racklet-vmm"],
    for_tests: &[],
    makes: &["racklet-vmm"],
};

/// Where the programs of a tray are.
pub(crate) fn folder(architecture: &Architecture) -> PathBuf {
    folder_of(architecture.linux)
}

fn folder_of(target: &str) -> PathBuf {
    paths::target().join(target).join("tray")
}

impl Step {
    fn target(&self, architecture: &Architecture) -> &'static str {
        match self.for_firmware {
            true => architecture.firmware,
            false => architecture.linux,
        }
    }

    /// What it is called for this.
    pub(crate) fn title(&self, architecture: &Architecture) -> String {
        format!("{} for {}", self.title, architecture.name)
    }

    /// Whether all of it that is wanted for this has been made before.
    pub(crate) fn is_there(&self, architecture: &Architecture, what: For) -> bool {
        self.made(architecture, what)
            .all(|(path, _)| path.is_file())
    }

    /// Its key and guess.
    pub(crate) fn estimate(&self, architecture: &Architecture, what: For) -> (String, u64) {
        let name = format!("{}-{}", self.name, architecture.name);
        estimate::of_cargo(&name, self.guess, self.is_there(architecture, what))
    }

    /// What is made for this: where it is, and what it is called elsewhere (`racklet-bootloader.efi` is `bootloader.efi`,
    /// `examples/probe.efi` is `probe.efi`).
    fn made(
        &self,
        architecture: &Architecture,
        what: For,
    ) -> impl Iterator<Item = (PathBuf, &'static str)> {
        let folder = folder_of(self.target(architecture));
        // The last is the one for tests.
        let count = self.makes.len() - usize::from(what != For::Tests);
        self.makes[..count].iter().map(move |name| {
            let short = name.rsplit(['/', '-']).next().unwrap_or(name);
            (folder.join(name), short)
        })
    }

    fn run(&self, library: &Library, architecture: &Architecture, what: For) -> Result<()> {
        let mut command = cargo(library)?;
        let build = match self.for_firmware {
            true => "build",
            false => "zigbuild",
        };
        command
            .arg(build)
            .args(["--target", self.target(architecture), "--profile", "tray"])
            .args(self.arguments);
        if what == For::Tests {
            command.args(self.for_tests);
        }
        if self.for_firmware {
            library.apply(&mut command, "core,alloc");
            flags(&mut command, "")?;
        } else {
            let zig = zig::ZIG.require()?;
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::join_paths([zig].into_iter().chain(env::split_paths(&path)))
                .context("PATH with zig in front")?;
            command.env("PATH", path);
            library.apply(&mut command, "std,panic_abort");
            flags(&mut command, "-C link-self-contained=no")?;
        }
        let (key, guess) = self.estimate(architecture, what);
        progress::run(&self.title(architecture), &key, guess, &mut command)
    }
}

/// Which steps there are for an architecture: the monitor from a shell is for machines such as this one.
pub(crate) fn steps(architecture: &Architecture, what: For) -> impl Iterator<Item = &'static Step> {
    let shell = what == For::Tests && architecture == architecture::HERE;
    STEPS.iter().chain(shell.then_some(&SHELL))
}

/// Builds them all.
pub(crate) fn build(library: &Library, architecture: &Architecture, what: For) -> Result<()> {
    for step in steps(architecture, what) {
        step.run(library, architecture, what)?;
    }
    let [_, bootloader] = &STEPS;
    let products = paths::made(architecture.products()?.join("os"))?;
    for (from, to) in bootloader.made(architecture, what) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output;
    use std::collections::BTreeMap;

    /// Which features each crate is built with.
    fn features(
        step: &Step,
        architecture: &Architecture,
        more: &[&str],
    ) -> BTreeMap<String, String> {
        let packages = |word: &&&str| word.starts_with("-p=");
        let tree = output(
            Command::new("cargo")
                .current_dir(paths::workspace())
                .args(["tree", "--offline", "--target", step.target(architecture)])
                .args(["--edges", "normal,build", "--prefix", "none"])
                .args(["--format", "{p}|{f}"])
                .args(step.arguments.iter().chain(more).filter(packages)),
        )
        .unwrap();
        tree.lines()
            .filter_map(|line| line.trim_end_matches(" (*)").split_once('|'))
            .map(|(package, features)| (package.to_owned(), features.to_owned()))
            .collect()
    }

    #[test]
    fn what_tests_need_does_not_decide_what_is_on_a_tray() {
        let [programs, _] = &STEPS;
        for architecture in &architecture::ALL {
            let (alone, with_tests) = (
                features(programs, architecture, &[]),
                features(programs, architecture, programs.for_tests),
            );
            assert!(alone.len() > 50 && with_tests.len() > alone.len());
            for (package, features) in &alone {
                assert_eq!(with_tests.get(package), Some(features), "{package}");
            }
        }
    }

    #[test]
    fn only_tests_have_what_only_tests_need() {
        let names = |what| -> Vec<&str> {
            let made = STEPS
                .iter()
                .flat_map(move |step| step.made(architecture::HERE, what));
            made.map(|(_, name)| name).collect()
        };
        let demo = names(For::Demo);
        assert!(
            demo.contains(&"bootloader.efi") && demo.contains(&"vmm"),
            "{demo:?}"
        );
        assert!(!demo.contains(&"nested") && !demo.contains(&"probe.efi"));
        assert_eq!(names(For::Tests).len(), demo.len() + 2);
    }
}
