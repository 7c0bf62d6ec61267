// SPDX-License-Identifier: Apache-2.0
//! `init`: PID 1 of a tray, in both of its roles.
//!
//! ```text
//!   /racklet/handoff.json absent:  bootstrap   network, repository, payload, kexec
//!   /racklet/handoff.json present: supervisor  netd, hypervisor, watchdog, slots
//! ```
//!
//! There is no third thing: no shell, no rescue mode. What goes wrong is told on the console; what cannot be mended reboots,
//! and the bootloader has counted the try.
//!
//! A library so that a fuzz target reaches what a card holds; the program is `init`.
#![forbid(unsafe_code)]

mod bootstrap;
mod console;
mod firmware;
pub mod fuzz;
mod mounts;
mod pid1;
mod state;
mod supervise;

use std::convert::Infallible;
use std::path::Path;

use console::Topic;
use pid1::HandedError;
use racklet_api::handoff::Handoff;
use racklet_api::tray::{TrayConfig, TrayError};
use racklet_linux::module::{self, ModuleError};
use racklet_linux::power;
use racklet_linux::signal::Signals;
use racklet_tell::error::Chain;

const INIT: Topic = Topic("init");

/// Where an initramfs has what its kernel is to load.
const MODULES: &str = "/usr/lib/racklet/modules";

/// Why PID 1 cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("switch off the loading of kernel modules")]
    Modules(#[source] std::io::Error),
    #[error("block signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Handed(#[from] HandedError),
    #[error("the image holds no {0}; make it again with `racklet image build`")]
    Missing(&'static str),
    #[error(transparent)]
    Tray(#[from] TrayError),
    #[error(transparent)]
    Bootstrap(#[from] bootstrap::Fatal),
}

/// Runs as PID 1; does not return.
pub fn main() {
    if !power::is_pid_one() {
        eprintln!("init is PID 1 of a tray; there is nothing to do for it in a running system");
        std::process::exit(2);
    }
    pid1::reboot_on_panic();
    match run() {
        Ok(never) => match never {},
        Err(error) => pid1::fatal(Chain(&error)),
    }
}

fn run() -> Result<Infallible, Fatal> {
    mounts::basic()?;
    mounts::kernel_talk(mounts::KernelTalk::Warnings);
    // Before anything else runs: KVM and the network of microVMs, which came with the initramfs that was verified. A bootstrap
    // has none.
    module::load_all(Path::new(MODULES))?;
    module::forbid().map_err(Fatal::Modules)?;
    let signals = Signals::block().map_err(Fatal::Signals)?;
    let tray = pid1::handed("/racklet/tray.json")?.ok_or(Fatal::Missing("tray.json"))?;
    let tray = TrayConfig::parse(&tray)?;
    match pid1::handed_json::<Handoff>("/racklet/handoff.json")? {
        Some(handoff) => {
            INIT.say(format_args!(
                "racklet {}, tray {}, payload {}-{}",
                env!("CARGO_PKG_VERSION"),
                tray.tray,
                handoff.payload.name,
                handoff.payload.version
            ));
            INIT.say("kernel modules are loaded; no more can be until the next boot");
            pid1::leave(supervise::run(tray, handoff, signals))
        }
        None => {
            INIT.say(format_args!(
                "racklet {} bootstrap, tray {} of rack {}",
                env!("CARGO_PKG_VERSION"),
                tray.tray,
                tray.rack
            ));
            Ok(bootstrap::run(&tray)?)
        }
    }
}
