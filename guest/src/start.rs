// SPDX-License-Identifier: Apache-2.0
//! From the kernel to the command's end, and out.

use std::fs;
use std::io::Read;
use std::path::Path;

use racklet_api::guest::{CommandEnd, GuestConfig};
use racklet_api::vmm::MAX_CONFIG;
use racklet_linux::power::{self, Leave};
use racklet_linux::signal;
use racklet_tell::error::chain;

use crate::console::say;
use crate::{network, root, supervise};

/// Runs the microVM that this process is PID 1 of.
pub fn run() -> ! {
    if !power::is_pid_one() {
        eprintln!("guest-init: this is PID 1 of a microVM and does nothing elsewhere");
        std::process::exit(2);
    }
    say(concat!("version ", env!("CARGO_PKG_VERSION")));
    // Before any thread: all inherit the mask.
    let signals = signal::Signals::block();
    let (end, upper) = match (signals, begin()) {
        (Ok(signals), Ok((config, upper))) => (supervise::run(&config, signals), upper),
        (Err(e), begun) => (
            supervise::give_up(format!("signals cannot be blocked: {e}")),
            begun.map_or_else(|_| root::Upper::none(), |(_, upper)| upper),
        ),
        (_, Err(reason)) => (supervise::give_up(reason), root::Upper::none()),
    };
    say(&match end {
        CommandEnd::Code { code } => format!("the command ended with code {code}; powering off"),
        CommandEnd::Signal { signal } => {
            format!("the command was ended by signal {signal}; powering off")
        }
        CommandEnd::NotStarted { reason } => {
            format!("the command was not started: {reason}; powering off")
        }
    });
    root::leave(upper);
    // Reset, not power-off: without ACPI the reset line is what the monitor sees.
    let e = power::leave(Leave::Reboot);
    say(&format!("the kernel refuses to restart: {e}"));
    loop {
        std::thread::park(); // the monitor ends a guest that reported and stays
    }
}

/// Everything up to the command: afterwards `/` is the workload's root.
fn begin() -> Result<(GuestConfig, root::Upper), String> {
    root::first_mounts().map_err(|e| chain(&e))?;
    let config = read_config()?;
    rustix::system::sethostname(config.hostname.as_bytes())
        .map_err(|e| format!("set the host name: {e}"))?;
    let upper = root::build(&config).map_err(|e| chain(&e))?;
    network::set_up(&config).map_err(|e| chain(&e))?;
    Ok((config, upper))
}

fn read_config() -> Result<GuestConfig, String> {
    let path = Path::new("/racklet/guest.json");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_CONFIG as u64).read_to_end(&mut bytes))
        .map_err(|e| format!("read {}: {e}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}
