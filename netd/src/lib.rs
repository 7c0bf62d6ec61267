// SPDX-License-Identifier: Apache-2.0
//! `netd`: the network of a tray. Keeps the tray's own cards connected, and makes the bridges and taps that microVMs hang
//! on, with address translation and a packet filter.
//!
//! Everything it makes outlives it. When it is killed, traffic goes on; when it starts again, it finds in the kernel what
//! it was told before and changes nothing that is right. It runs no workload and reads no rack repository.
#![forbid(unsafe_code)]

pub mod alias;
mod apply;
mod daemon;
mod decide;
mod found;
mod lease;
mod model;
mod names;
mod observe;
mod rules;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use racklet_api::tray::{NetworkConfig, TrayConfig};
use racklet_linux::clock;
use racklet_uplink::{Settings, Uplink};

use apply::Kernel;
use daemon::Daemon;
use found::Found;
use racklet_line::{Bounds, Server};
use racklet_tell::error::chain;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Options {
    /// The tray's own configuration; without one, DHCP on every card.
    pub tray: PathBuf,
    /// What the bootstrap handed over: the lease to go on with.
    pub handoff: PathBuf,
    /// Written whenever the DNS servers change.
    pub resolv_conf: PathBuf,
    /// The folder of all daemons' sockets.
    pub run: PathBuf,
}

/// One line for the console; init adds the time.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Works until the kernel cannot be talked to any more.
pub fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
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
    let mut server = Server::bind(&options.run.join("netd.sock"), Bounds::default())?;
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
