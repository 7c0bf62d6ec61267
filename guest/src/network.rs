// SPDX-License-Identifier: Apache-2.0
//! Addresses and routes of the guest's cards, from its configuration: nothing is asked of the network.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use racklet_api::guest::GuestConfig;
use racklet_linux::netlink::NetlinkError;
use racklet_linux::rtnl::{Route, Rtnl};

use crate::console::say;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("set up the network")]
    Netlink(#[from] NetlinkError),
    #[error("the configuration names {0}, which this machine does not have")]
    NoCard(String),
    #[error("write /etc/resolv.conf")]
    Resolver(#[source] io::Error),
}

/// Brings the loopback and all cards up with their addresses and routes, and writes `/etc/resolv.conf`.
pub(crate) fn set_up(config: &GuestConfig) -> Result<(), NetworkError> {
    let mut netlink = Rtnl::open()?;
    if let Some(loopback) = netlink.link("lo")? {
        netlink.set_up(loopback.index, true)?;
    }
    for (n, network) in config.networks.iter().enumerate() {
        let name = format!("eth{n}");
        let card = netlink.link(&name)?.ok_or(NetworkError::NoCard(name))?;
        netlink.set_up(card.index, true)?;
        for address in &network.addresses {
            netlink.add_address(card.index, address.address, address.prefix)?;
        }
        for gateway in &network.gateways {
            let destination: IpAddr = if gateway.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            netlink.set_route(&Route {
                destination,
                prefix_length: 0,
                gateway: Some(*gateway),
                interface: card.index,
                // The first card's route wins.
                metric: 100 + u32::try_from(n).unwrap_or(u32::MAX - 100),
                protocol: Route::OURS,
            })?;
        }
    }
    resolver(config)
}

fn resolver(config: &GuestConfig) -> Result<(), NetworkError> {
    if config.dns.is_empty() {
        return Ok(());
    }
    let text: String = config
        .dns
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    let written = fs::create_dir_all("/etc").and_then(|()| fs::write("/etc/resolv.conf", text));
    match written {
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            say("the root is read-only: /etc/resolv.conf stays as the image has it");
            Ok(())
        }
        other => other.map_err(NetworkError::Resolver),
    }
}
