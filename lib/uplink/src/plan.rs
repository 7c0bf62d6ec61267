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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn lease(last: u8) -> Lease {
        Lease {
            address: [10, 0, 0, last].into(),
            prefix_length: 24,
            server: [10, 0, 0, 1].into(),
            gateway: Some([10, 0, 0, 1].into()),
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            mtu: Some(1400),
            lifetime: None,
            renew_after: Duration::ZERO,
            rebind_after: Duration::ZERO,
        }
    }

    fn address(text: &str, prefix_length: u8, permanent: bool) -> Address {
        Address {
            interface: 2,
            address: text.parse().expect("an address"),
            prefix_length,
            permanent,
            tentative: false,
        }
    }

    #[test]
    fn a_new_lease_takes_the_place_of_the_old_one_and_leaves_router_addresses_alone() {
        let config = NetworkConfig::default();
        let wanted = desired(&config, Some(&lease(7)), 2);
        let old = desired(&config, Some(&lease(6)), 2);
        let addresses = [
            address("10.0.0.6", 24, true),
            address("2001:db8::5", 64, false),
            address("fe80::1", 64, true),
        ];
        assert_eq!(
            changes(&wanted, &addresses, &old.routes, 1500),
            [
                Change::Mtu(1400),
                Change::AddAddress([10, 0, 0, 7].into(), 24),
                Change::DeleteAddress([10, 0, 0, 6].into(), 24),
            ]
        );
    }

    #[test]
    fn a_lost_lease_takes_everything_with_it() {
        let held = desired(&NetworkConfig::default(), Some(&lease(7)), 2);
        let addresses = [address("10.0.0.7", 24, true)];
        assert_eq!(
            changes(&Desired::default(), &addresses, &held.routes, 1400),
            [
                Change::DeleteRoute(held.routes[0]),
                Change::DeleteAddress([10, 0, 0, 7].into(), 24),
            ]
        );
    }

    #[test]
    fn fixed_addresses_win_over_a_lease() {
        let config = NetworkConfig {
            addresses: vec!["192.0.2.7/24".parse().expect("cidr")],
            gateways: vec!["192.0.2.1".parse().expect("address")],
            ..NetworkConfig::default()
        };
        let wanted = desired(&config, Some(&lease(7)), 2);
        assert_eq!(wanted.addresses, [([192, 0, 2, 7].into(), 24)]);
        assert_eq!(wanted.routes[0].gateway, Some([192, 0, 2, 1].into()));
    }

    proptest! {
        /// Making the changes leads to what was wanted, and then there are none: a restart disturbs nothing.
        #[test]
        fn changes_lead_there_and_are_then_over(now in 1_u8..5, before in proptest::option::of(1_u8..5), mtu in 1300_u32..1500) {
            let config = NetworkConfig::default();
            let wanted = desired(&config, Some(&lease(now)), 2);
            let old = before.map(lease);
            let old = desired(&config, old.as_ref(), 2);
            let as_address = |(ip, prefix_length): (IpAddr, u8)| Address {
                interface: 2, address: ip, prefix_length, permanent: true, tentative: false,
            };
            let mut addresses: Vec<Address> = old.addresses.iter().copied().map(as_address).collect();
            let (mut routes, mut current) = (old.routes, mtu);
            for change in changes(&wanted, &addresses, &routes, current) {
                match change {
                    Change::Mtu(mtu) => current = mtu,
                    Change::AddAddress(ip, length) => addresses.push(as_address((ip, length))),
                    Change::DeleteAddress(ip, length) => addresses.retain(|a| (a.address, a.prefix_length) != (ip, length)),
                    Change::SetRoute(route) => routes.push(route),
                    Change::DeleteRoute(route) => routes.retain(|found| *found != route),
                }
            }
            prop_assert_eq!(changes(&wanted, &addresses, &routes, current), vec![]);
            prop_assert_eq!(addresses.len(), 1);
        }
    }
}
