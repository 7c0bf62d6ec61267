// SPDX-License-Identifier: Apache-2.0
//! What has to change on a card: a pure function of what should be there and what is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use racklet_api::tray::NetworkConfig;
use racklet_linux::rtnl::{Address, Route};
use racklet_net::dhcp4::Lease;

/// Routes of the first card are preferred; each further one by this much less.
const METRIC: u32 = 100;

/// What a card should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    pub(crate) routes: Vec<Route>,
    /// Nothing: leave it.
    pub(crate) mtu: Option<u32>,
}

/// One change. They are made in order; an address comes before the routes that need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Mtu(u32),
    AddAddress(IpAddr, u8),
    SetRoute(Route),
    DeleteRoute(Route),
    DeleteAddress(IpAddr, u8),
}

/// What a card should have with fixed addresses or a lease; nothing yet without either.
pub(crate) fn desired(config: &NetworkConfig, lease: Option<&Lease>, interface: u32) -> Desired {
    let route = |destination, prefix_length, gateway| Route {
        destination,
        prefix_length,
        gateway,
        interface,
        metric: METRIC.saturating_add(interface),
        protocol: Route::OURS,
    };
    let default = |gateway: IpAddr| {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        route(any, 0, Some(gateway))
    };
    if !config.addresses.is_empty() {
        return Desired {
            addresses: config
                .addresses
                .iter()
                .map(|cidr| (cidr.address, cidr.prefix))
                .collect(),
            routes: config.gateways.iter().copied().map(default).collect(),
            mtu: None,
        };
    }
    let Some(lease) = lease else {
        return Desired::default();
    };
    let mut routes: Vec<Route> = lease
        .routes
        .iter()
        .map(|found| {
            route(
                found.destination.into(),
                found.prefix_length,
                found.via.map(IpAddr::V4),
            )
        })
        .collect();
    routes.extend(lease.gateway.map(|gateway| default(gateway.into())));
    Desired {
        addresses: vec![(lease.address.into(), lease.prefix_length)],
        routes,
        mtu: lease.mtu.map(u32::from),
    }
}

/// Addresses set by hand and routes with our mark are ours to remove; what the kernel learnt from routers is not.
pub(crate) fn changes(
    desired: &Desired,
    addresses: &[Address],
    routes: &[Route],
    mtu: u32,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let has = |(address, length): &(IpAddr, u8)| {
        addresses
            .iter()
            .any(|found| (found.address, found.prefix_length) == (*address, *length))
    };
    changes.extend(desired.mtu.filter(|wanted| *wanted != mtu).map(Change::Mtu));
    let missing = desired.addresses.iter().filter(|wanted| !has(wanted));
    changes.extend(missing.map(|(address, length)| Change::AddAddress(*address, *length)));
    let missing = desired
        .routes
        .iter()
        .filter(|wanted| !routes.contains(wanted));
    changes.extend(missing.copied().map(Change::SetRoute));
    let stale = routes
        .iter()
        .filter(|route| route.protocol == Route::OURS && !desired.routes.contains(route));
    changes.extend(stale.copied().map(Change::DeleteRoute));
    let stale = addresses.iter().filter(|found| {
        found.permanent
            && !is_link_local(found.address)
            && !desired
                .addresses
                .contains(&(found.address, found.prefix_length))
    });
    changes.extend(stale.map(|found| Change::DeleteAddress(found.address, found.prefix_length)));
    changes
}

/// Of use on the link only.
pub(crate) const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
