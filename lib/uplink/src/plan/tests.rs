// SPDX-License-Identifier: Apache-2.0
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
