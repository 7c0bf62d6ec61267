// SPDX-License-Identifier: Apache-2.0
//! `netd`: the network of a tray. Keeps the tray's own cards connected, and makes the bridges and taps that microVMs hang
//! on, with address translation and a packet filter.
//!
//! Everything it makes outlives it. When it is killed, traffic goes on; when it starts again, it finds in the kernel what
//! it was told before and changes nothing that is right. It runs no workload and reads no rack repository.
#![forbid(unsafe_code)]

mod daemon;
mod found;
mod kernel;
mod lease;
mod model;
mod names;
mod reconcile;
mod rules;
mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use racklet_api::tray::{NetworkConfig, TrayConfig};
use racklet_linux::clock;
use racklet_uplink::{Settings, Uplink};

use daemon::Daemon;
use found::Found;
use kernel::Kernel;
use racklet_tell::error::chain;
use server::Server;

/// Where things are; the arguments exist for tests.
struct Options {
    tray: PathBuf,
    handoff: PathBuf,
    resolv_conf: PathBuf,
    run: PathBuf,
}

/// One line for the console; init adds the time.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            say(&error);
            return ExitCode::from(2);
        }
    };
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!(
                "{}; ending, to be started again",
                chain(error.as_ref())
            ));
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        tray: "/racklet/tray.json".into(),
        handoff: "/racklet/handoff.json".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        run: "/run/racklet".into(),
    };
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--tray" => &mut options.tray,
            "--handoff" => &mut options.handoff,
            "--resolv-conf" => &mut options.resolv_conf,
            "--run" => &mut options.run,
            _ => {
                return Err(format!(
                    "unknown argument `{argument}`; known are --tray, --handoff, --resolv-conf and --run, each with a path"
                ));
            }
        };
        *place = arguments
            .next()
            .ok_or_else(|| format!("{argument} needs a path"))?
            .into();
    }
    Ok(options)
}

fn start(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let (network, host_name) = tray(&options.tray);
    let lease_file = options.run.join("netd/lease.json");
    let now = clock::since_boot();
    let resume = lease::load(&lease_file, &options.handoff, now, |text| say(&text));
    let uplink = Uplink::open(Settings {
        network,
        host_name: host_name.clone(),
        resolv_conf: options.resolv_conf.clone(),
        resume,
        ignore: vec![names::BRIDGE.into(), names::TAP.into()],
    })?;
    let mut kernel = Kernel::open()?;
    let desired = kernel.remembered()?;
    if !desired.networks.is_empty() {
        say(&format!(
            "found {} networks and {} taps of an earlier netd",
            desired.networks.len(),
            desired.taps.len()
        ));
    }
    let mut daemon = Daemon {
        uplink,
        found: Found::new(host_name),
        kernel,
        desired,
        lease_file,
        init_socket: options.run.join("init.sock"),
        told: None,
    };
    // The uplink's MTU and addresses are not known yet; nothing that exists depends on them.
    daemon.restore()?;
    let mut server = Server::bind(&options.run.join("netd.sock"))?;
    Ok(daemon.run(&mut server)?)
}

/// The tray's own configuration; without one, DHCP on every card.
fn tray(path: &Path) -> (NetworkConfig, Option<String>) {
    let told = |error: &dyn std::error::Error| {
        say(&format!("{}: {}; using DHCP", path.display(), chain(error)));
        (NetworkConfig::default(), None)
    };
    match fs::read(path) {
        Ok(bytes) => match TrayConfig::parse(&bytes) {
            Ok(tray) => (tray.network, Some(tray.tray)),
            Err(error) => told(&error),
        },
        Err(error) => told(&error),
    }
}
