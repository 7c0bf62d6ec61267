// SPDX-License-Identifier: Apache-2.0
//! What workloads need of the network: a tap on the right bridge. `netd` does it; this asks.

use racklet_api::netd::{Bridge, Op, Port, Request, Response};
use racklet_api::tray::Cidr;
use racklet_api::vmm::Mac;
use racklet_rack::{Name, Network};
use racklet_tell::error::chain;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A workload's way into its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) tap: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
    /// Name servers for the guest.
    pub(crate) dns: Vec<IpAddr>,
}

/// Who is to be attached, and where.
#[derive(Debug)]
pub(crate) struct Attach<'a> {
    pub(crate) workload: &'a Name,
    pub(crate) name: &'a Name,
    pub(crate) network: &'a Network,
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<IpAddr>,
    /// Who may open the tap.
    pub(crate) uid: u32,
}

/// The one who makes taps. Every call may be repeated.
pub(crate) trait Networks: Send {
    /// Makes the network and the workload's tap in it.
    fn attach(&mut self, attach: &Attach<'_>) -> Result<Link, String>;
    /// Removes the workload's tap.
    fn detach(&mut self, workload: &Name) -> Result<(), String>;
    /// Removes networks other than these.
    fn retain(&mut self, networks: &[&Name]) -> Result<(), String>;
}

/// `netd`, asked over its socket.
pub(crate) struct Netd {
    socket: PathBuf,
}

impl Netd {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    fn ask(&self, op: Op) -> Result<Response, String> {
        let patience = Duration::from_secs(5);
        match racklet_line::ask::<Response>(&self.socket, &Request::new(op), patience) {
            Ok(response) if response.ok => Ok(response),
            Ok(response) => Err(format!("netd: {}", response.error.unwrap_or_default())),
            Err(error) => Err(format!("netd does not answer: {}", chain(&error))),
        }
    }
}

impl Networks for Netd {
    fn attach(&mut self, attach: &Attach<'_>) -> Result<Link, String> {
        let gateways = [attach.network.ipv4, attach.network.ipv6];
        let gateways = gateways.into_iter().flatten().filter_map(|prefix| {
            Some(Cidr {
                address: prefix.nth(1)?,
                prefix: prefix.length(),
            })
        });
        let answer = self.ask(Op::Attach {
            network: Bridge {
                name: attach.name.to_string(),
                gateways: gateways.collect(),
                nat: attach.network.nat,
            },
            port: Port {
                workload: attach.workload.to_string(),
                mac: attach.mac,
                addresses: attach.addresses.clone(),
                uid: attach.uid,
            },
        })?;
        let attached = answer
            .attached
            .ok_or("netd did not say which tap it made")?;
        Ok(Link {
            tap: attached.tap,
            mac: attach.mac,
            mtu: attached.mtu,
            dns: attached.dns,
        })
    }

    fn detach(&mut self, workload: &Name) -> Result<(), String> {
        let workload = workload.to_string();
        self.ask(Op::Detach { workload }).map(drop)
    }

    fn retain(&mut self, networks: &[&Name]) -> Result<(), String> {
        let networks = networks.iter().map(ToString::to_string).collect();
        self.ask(Op::Retain { networks }).map(drop)
    }
}
