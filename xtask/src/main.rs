// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: what a developer runs. Sets up what it needs, builds, tests, and runs the demo.
//!
//! It is the door, and compiled before it can say anything: it links none of our crates and few others (`light.rs` counts
//! them), and holds no knowledge of how a tray works. It builds the parts, and starts the programs that know.
#![forbid(unsafe_code)]

mod architecture;
mod arguments;
mod build;
mod controllers;
mod debian;
mod doctor;
mod estimate;
mod firmware;
mod fuzz;
mod hardware;
mod harness;
mod hash;
mod ibom;
mod install;
mod kernel;
#[cfg(test)]
mod light;
mod lint;
mod packages;
mod paths;
mod process;
mod progress;
mod python;
mod rust;
mod test;
mod tray;
mod verdict;
mod zig;

use std::{env, process::ExitCode};

use anyhow::Result;
use arguments::{Given, Task};

/// Of what is built for trays.
const FOR: (&str, &str) = (
    "--for ARCH",
    "for trays of this architecture alone, x86_64 or aarch64; repeat for more, all when left out",
);
/// Of what runs a tray.
const BOARD: (&str, &str) = (
    "--board BOARD",
    "the board of the tray; qemu-x86_64 when left out",
);

const TASKS: [Task; 12] = [
    Task {
        name: "demo",
        about: "sets up and runs the main job: a signed repository, an image, a tray in QEMU, a workload, an edit",
        takes: &[
            (
                "--once",
                "ends when everything has happened, with success only if all of it did",
            ),
            BOARD,
        ],
        run: harness::demo,
    },
    Task {
        name: "test",
        about: "sets up and runs every test: format, lints, licences, unit, property and end-to-end tests",
        takes: test::TAKES,
        run: |given| test::run(&given.into()),
    },
    Task {
        name: "doctor",
        about: "says what is missing on this machine and why it is needed, and how long a demo will take",
        takes: &[
            ("--json", "as one JSON value"),
            (
                "--undo",
                "takes back the package source that was added for newer packages; what was installed stays",
            ),
        ],
        run: doctor::run,
    },
    Task {
        name: "build",
        about: "sets up and builds everything that tests and demo need, into target/racklet",
        takes: &[FOR],
        run: |given| {
            let architectures = given.architectures(&Vec::from_iter(&architecture::ALL))?;
            build::everything(build::For::Tests, &architectures)
        },
    },
    Task {
        name: "install",
        about: "builds, and puts `racklet` and what it builds trays from where your shell and it find them",
        takes: &[
            (
                "--to DIR",
                "where `racklet` goes; ~/.local/bin when left out",
            ),
            (
                "--for ARCH",
                "for trays of this architecture, x86_64 or aarch64; repeat for more, x86_64 when left out",
            ),
        ],
        run: install::run,
    },
    Task {
        name: "kernel",
        about: "builds kernels only, from the distribution's source",
        takes: &[("NAMES", "tray, guest; both without"), FOR],
        run: |given| {
            packages::require_all()?;
            let architectures = given.architectures(&Vec::from_iter(&architecture::ALL))?;
            kernel::build(&given.words, &architectures)
        },
    },
    Task {
        name: "programs",
        about: "builds the programs of a tray and the bootloader",
        takes: &[FOR],
        run: |given| {
            packages::require_all()?;
            let library = rust::require()?;
            for architecture in given.architectures(&Vec::from_iter(&architecture::ALL))? {
                tray::build(&library, architecture, build::For::Tests)?;
            }
            Ok(())
        },
    },
    Task {
        name: "firmware",
        about: "builds the controllers' images, and says what they take of flash and memory; more than their budget fails",
        takes: &[],
        run: |_| controllers::build(),
    },
    Task {
        name: "hardware",
        about: "makes boards' projects and release outputs anew, or checks those that are committed",
        takes: &[
            (
                "--check",
                "changes nothing: checks that what is committed is what would be made, and that it passes every check",
            ),
            ("--no-outputs", "leaves out the release folder"),
            ("--setup", "installs what all this needs, and stops"),
        ],
        run: hardware::run,
    },
    Task {
        name: "lint",
        about: "checks format, lints, licences and advisories",
        takes: &[],
        run: |_| lint::run(),
    },
    Task {
        name: "bench",
        about: "measures: sizes, memory, instructions of a boot, bytes of an update, time to converge",
        takes: &[
            ("boot", "a tray, from its start to its workloads"),
            (
                "vmm",
                "instructions, memory and pages of a microVM, and the same guest in this machine's QEMU",
            ),
            (
                "growth",
                "instructions at n and at 4 n, of what trays and racklet do to racks, histories and images (needs valgrind)",
            ),
            (
                "--only PART",
                "of boot: only sizes, instructions, memory, tray or edit; repeat for more",
            ),
            (
                "--as-built",
                "measures what is built already instead of building what has changed first",
            ),
            BOARD,
        ],
        run: harness::bench,
    },
    Task {
        name: "fuzz",
        about: "runs every fuzz target for a while",
        takes: &[
            ("--seconds N", "for each target; 30 when left out"),
            (
                "FILTER ...",
                "only targets whose name contains one of these",
            ),
        ],
        run: fuzz::run,
    },
];

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprint!("{}", arguments::overview(&TASKS));
        return match &*name {
            "--help" | "-h" | "help" => ExitCode::SUCCESS,
            _ => ExitCode::from(2),
        };
    };
    let words: Vec<String> = words.collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", task.help());
        return ExitCode::SUCCESS;
    }
    let given: Given = match task.read(words) {
        Ok(given) => given,
        Err(error) => {
            eprintln!("xtask: {error}");
            return ExitCode::from(2);
        }
    };
    let result: Result<()> = (task.run)(&given);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
