// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask`: what a developer runs. Sets up what it needs, builds, tests, and runs the demo.
//!
//! It holds no knowledge of how a tray works: it builds the parts and drives the same `racklet` a user has.
#![forbid(unsafe_code)]

mod accel;
mod bench;
mod build;
mod debian;
mod demo;
mod doctor;
mod fuzz;
mod hardware;
mod hash;
mod ibom;
mod install;
mod kernel;
mod lint;
mod os;
mod packages;
mod paths;
mod progress;
mod python;
mod rust;
mod test;
mod tray;
mod zig;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and demonstrates Racklet")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sets up and runs the main job: a signed repository, an image, a tray in QEMU, a workload, an edit
    Demo(demo::Arguments),
    /// Sets up and runs every test: format, lints, licences, unit, property and end-to-end tests
    Test(test::Arguments),
    /// Says what is missing on this machine and why it is needed
    Doctor(doctor::Arguments),
    /// Sets up and builds everything that tests and demo need, into target/racklet
    Build,
    /// Builds, and puts `racklet` and what it builds trays from where your shell and it find them
    Install(install::Arguments),
    /// Builds kernels only, from the distribution's source
    Kernel {
        /// Which: boot, host, guest; all of them without
        names: Vec<String>,
    },
    /// Builds the programs of a tray and the bootloader
    Programs,
    /// Makes boards' projects and release outputs anew, or checks those that are committed
    Hardware(hardware::Arguments),
    /// Checks format, lints, licences and advisories
    Lint,
    /// Measures
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Runs every fuzz target for a while
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Doctor(arguments) => doctor::run(&arguments),
        Task::Build => build::everything().map(drop),
        Task::Install(arguments) => install::run(&arguments),
        Task::Kernel { names } => packages::require_all().and_then(|()| kernel::build(&names)),
        Task::Programs => packages::require_all()
            .and_then(|()| rust::require())
            .and_then(|library| tray::build(&library)),
        Task::Hardware(arguments) => hardware::run(&arguments),
        Task::Lint => lint::run(),
        Task::Bench(bench) => bench::run(&bench),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
