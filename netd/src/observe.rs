// SPDX-License-Identifier: Apache-2.0
//! What there is: the bridges and taps of ours in the kernel, and what an earlier netd noted on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use racklet_linux::netlink::NetlinkError;
use racklet_linux::rtnl::{Link, Route, Rtnl};

use crate::model::Desired;
use crate::{alias, names};

/// A bridge or tap of ours as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) name: String,
    /// `bridge` or `tun`.
    pub(crate) kind: Option<String>,
    pub(crate) alias: Option<String>,
    /// Name of the bridge it is a port of.
    pub(crate) master: Option<String>,
    pub(crate) up: bool,
    /// Without link-local ones.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Single addresses that this project routes to it.
    pub(crate) hosts: Vec<IpAddr>,
}

/// Bridges and taps of ours, as they are.
pub(crate) fn observe(rtnl: &mut Rtnl) -> Result<Vec<Observed>, NetlinkError> {
    let links = rtnl.links()?;
    let addresses = rtnl.addresses()?;
    let routes = rtnl.routes()?;
    let by_index: BTreeMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let ours = links
        .iter()
        .filter(|link| link.name.starts_with(names::BRIDGE) || link.name.starts_with(names::TAP));
    Ok(ours
        .map(|link| Observed {
            name: link.name.clone(),
            kind: link.kind.clone(),
            alias: link.alias.clone(),
            master: link
                .master
                .and_then(|index| by_index.get(&index))
                .map(|bridge| bridge.name.clone()),
            up: link.up,
            addresses: addresses
                .iter()
                .filter(|found| found.interface == link.index && found.permanent)
                .filter(|found| match found.address {
                    IpAddr::V6(v6) => !v6.is_unicast_link_local(),
                    IpAddr::V4(_) => true,
                })
                .map(|found| (found.address, found.prefix_length))
                .collect(),
            hosts: routes
                .iter()
                .filter(|route| **route == host_route(link.index, route.destination))
                .map(|route| route.destination)
                .collect(),
        })
        .collect())
}

/// What an earlier netd was told, by the alias texts that it left.
pub(crate) fn remembered(observed: &[Observed]) -> Desired {
    let mut desired = Desired::default();
    for link in observed {
        let text = link.alias.as_deref().unwrap_or_default();
        if let Some((name, network)) = alias::read_network(text)
            && names::bridge(&name) == link.name
        {
            desired.networks.insert(name, network);
        } else if let Some((workload, tap)) = alias::read_tap(text)
            && names::tap(&workload) == link.name
        {
            desired.taps.insert(workload, tap);
        }
    }
    // A tap whose network is gone cannot be put right; its owner asks again.
    let networks: Vec<_> = desired.networks.keys().cloned().collect();
    desired
        .taps
        .retain(|_, tap| networks.contains(&tap.network));
    desired
}

/// The route to one guest. Its metric is below all that DHCP (100 and on) and routers (256, 1024) are given.
pub(crate) fn host_route(interface: u32, host: IpAddr) -> Route {
    Route {
        destination: host,
        prefix_length: if host.is_ipv4() { 32 } else { 128 },
        gateway: None,
        interface,
        metric: 1,
        protocol: Route::OURS,
    }
}
