// SPDX-License-Identifier: Apache-2.0
//! The workload daemon of a tray: follows the rack repository, keeps images, runs microVMs, answers the API.
//!
//! ```text
//!   source thread ── desired state ──> workload thread ──> monitors (own sessions, outlive this process)
//!        │                                   │
//!        └────────────> shared view <────────┘ <──── API threads
//! ```
//!
//! It can be killed at any time: what is accepted is on disk before it is applied (while the card takes it), what runs is
//! found again by records and processes. It holds no policy of its own: what may be followed is `racklet-trust`'s to say and
//! `racklet-follow`'s to do, what a repository means is `racklet-rack`'s, networks are `netd`'s and the machine is `init`'s.
//!
//! A library so that fuzz targets reach what strangers can send; the program is `hypervisor`.
#![forbid(unsafe_code)]

mod api;
mod bootstrap;
mod cgroup;
mod console;
mod files;
pub mod fuzz;
mod handoff;
mod images;
mod init;
mod memory;
mod network;
mod options;
mod release;
mod sensors;
mod shared;
mod source;
mod work;
mod workload;

use console::say;
use handoff::Given;
use options::Options;
use racklet_tell::error::chain;
use shared::{Shared, boot_millis};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use work::Orders;
use workload::monitor;
use workload::runner::Runner;

/// Runs the daemon, or, for itself, the step between it and a monitor; returns when it cannot go on.
pub fn run(args: &[OsString]) -> ExitCode {
    if let [first, vmm, folder, lock] = args
        && first == monitor::LAUNCH
    {
        return match monitor::launch(Path::new(vmm), Path::new(folder), Path::new(lock)) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::parse(args.iter().cloned()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(never) => never,
        Err(error) => {
            say(&format!("cannot go on: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let given = Given::read(&options)?;
    std::fs::create_dir_all(options.run.join("vm"))?;
    let shared = Arc::new(Shared::new(
        given.tray.tray.clone(),
        given.tray.rack.clone(),
    ));
    {
        let mut view = shared.view();
        view.repository.url.clone_from(&given.tray.repository.url);
        view.repository
            .branch
            .clone_from(&given.tray.repository.branch);
        let payload = &given.handoff.payload;
        view.release.running = format!("{} {}", payload.name, payload.version);
        view.release.manifest.clone_from(&payload.manifest);
        view.release.message.clone_from(&payload.fallback);
    }
    let identity = given
        .tray
        .identity
        .as_ref()
        .map(|secret| secret.expose().to_owned());
    api::serve(&shared, &options, identity.as_deref())?;
    init::watch_state(options.socket("init"), Arc::clone(&shared))?;
    sensors::watch()?;
    let images = Arc::new(images::Images::new(Arc::clone(&shared)));
    let networks = network::Netd::new(options.socket("netd"));
    let rack = given.tray.rack.clone();
    let runner = Runner::open(
        options.clone(),
        rack,
        Box::new(networks),
        Arc::clone(&images),
        boot_millis(),
    )?;
    let (orders, inbox) = Orders::new()?;
    let source = source::Source::open(options, given, Arc::clone(&shared), images, orders)?;
    thread::Builder::new()
        .name("source".into())
        .spawn(move || source.run())?;
    work::run(runner, &inbox, &shared)
}
