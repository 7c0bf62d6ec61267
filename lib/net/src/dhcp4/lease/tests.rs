// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;

use super::super::message::Kind;
use super::*;
use proptest::prelude::*;

/// A sane acknowledgement of 192.168.7.20/24 by 192.168.7.1 for an hour.
pub(in super::super) fn ack() -> Message {
    let options = BTreeMap::from([
        (option::MESSAGE_TYPE, vec![Kind::Ack as u8]),
        (option::SERVER_ID, vec![192, 168, 7, 1]),
        (option::MASK, vec![255, 255, 255, 0]),
        (option::ROUTER, vec![192, 168, 7, 1, 192, 168, 7, 2]),
        (option::DNS, vec![192, 168, 7, 1, 0, 0, 0, 0, 9, 9, 9, 9]),
        (option::NTP, vec![192, 168, 7, 3]),
        (option::MTU, vec![5, 220]),
        (option::LEASE_TIME, 3600_u32.to_be_bytes().to_vec()),
    ]);
    Message {
        reply: true,
        xid: 0,
        secs: 0,
        broadcast: true,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::new(192, 168, 7, 20),
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: [2, 0, 0, 0, 0, 1],
        options,
    }
}

#[test]
fn sane_answer_becomes_a_lease() {
    let lease = Lease::judge(&ack()).unwrap();
    assert_eq!(
        lease,
        Lease {
            address: [192, 168, 7, 20].into(),
            prefix_length: 24,
            server: [192, 168, 7, 1].into(),
            gateway: Some([192, 168, 7, 1].into()),
            routes: vec![],
            dns: vec![[192, 168, 7, 1].into(), [9, 9, 9, 9].into()],
            ntp: vec![[192, 168, 7, 3].into()],
            mtu: Some(1500),
            lifetime: Some(Duration::from_secs(3600)),
            renew_after: Duration::from_secs(1800),
            rebind_after: Duration::from_secs(3150),
        }
    );
}

#[test]
fn silly_answers_are_refused_with_the_reason() {
    let server = Ipv4Addr::new(192, 168, 7, 20);
    let cases: &[(u8, &[u8], Unusable)] = &[
        (option::SERVER_ID, &[0, 0, 0, 0], Unusable::Server),
        (option::SERVER_ID, &[], Unusable::Server),
        (option::MASK, &[255, 0, 255, 0], Unusable::Mask),
        (option::MASK, &[0, 0, 0, 0], Unusable::Mask),
        (option::MASK, &[254, 0, 0, 0], Unusable::Mask),
        (option::MASK, &[255, 255, 255], Unusable::Mask),
        (
            option::MASK,
            &[255, 255, 255, 252],
            Unusable::EdgeOfSubnet(server, 30),
        ),
        (option::ROUTER, &[192, 168, 7, 20], Unusable::Router(server)),
        (
            option::ROUTER,
            &[224, 0, 0, 1],
            Unusable::Router([224, 0, 0, 1].into()),
        ),
        (
            option::ROUTER,
            &[192, 168, 7],
            Unusable::Length(option::ROUTER),
        ),
        (option::MTU, &[2, 63], Unusable::Mtu(575)),
        (option::MTU, &[5], Unusable::Length(option::MTU)),
        (option::LEASE_TIME, &[0, 0, 0, 5], Unusable::Lifetime),
        (option::LEASE_TIME, &[], Unusable::Lifetime),
        (
            option::ROUTES,
            &[33, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            Unusable::Routes,
        ),
        (option::ROUTES, &[24, 10, 0, 0, 192, 168], Unusable::Routes),
        (option::ROUTES, &[0, 0, 0, 0, 0], Unusable::Routes),
    ];
    for (code, value, expected) in cases {
        let mut message = ack();
        message.options.insert(*code, value.to_vec());
        assert_eq!(
            Lease::judge(&message),
            Err(*expected),
            "option {code} {value:?}"
        );
    }
}

#[test]
fn addresses_no_host_can_have_are_refused() {
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.1.2.3",
    ] {
        let mut message = ack();
        message.yiaddr = address.parse().unwrap();
        assert_eq!(
            Lease::judge(&message),
            Err(Unusable::Address(message.yiaddr))
        );
    }
}

#[test]
fn classless_routes_replace_the_router() {
    let mut message = ack();
    message.options.insert(
        option::ROUTES,
        vec![
            0, 192, 168, 7, 9, // default
            24, 10, 1, 2, 192, 168, 7, 8, // 10.1.2.0/24
            32, 169, 254, 169, 254, 0, 0, 0, 0, // on the link
        ],
    );
    let lease = Lease::judge(&message).unwrap();
    assert_eq!(lease.gateway, Some([192, 168, 7, 9].into()));
    assert_eq!(
        lease.routes,
        [
            StaticRoute {
                destination: [10, 1, 2, 0].into(),
                prefix_length: 24,
                via: Some([192, 168, 7, 8].into()),
            },
            StaticRoute {
                destination: [169, 254, 169, 254].into(),
                prefix_length: 32,
                via: None,
            },
        ]
    );
}

#[test]
fn renewal_times_out_of_order_fall_back_to_the_standard_ones() {
    let mut message = ack();
    message.options.insert(option::RENEWAL, vec![0, 0, 0, 100]);
    message
        .options
        .insert(option::REBINDING, vec![0, 0, 0, 200]);
    let lease = Lease::judge(&message).unwrap();
    assert_eq!(lease.renew_after, Duration::from_secs(100));
    message.options.insert(option::REBINDING, vec![0, 0, 0, 99]);
    let lease = Lease::judge(&message).unwrap();
    assert_eq!(lease.renew_after, Duration::from_secs(1800));
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_in_order(
        address: u32, code in prop::sample::select(vec![1_u8, 3, 6, 26, 42, 51, 54, 58, 59, 121]),
        value in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut message = ack();
        if address % 2 == 0 { message.yiaddr = address.into(); }
        message.options.insert(code, value);
        if let Ok(lease) = Lease::judge(&message) {
            prop_assert!(is_host(lease.address) && is_host(lease.server));
            prop_assert!((8..=32).contains(&lease.prefix_length));
            prop_assert!(lease.renew_after < lease.rebind_after);
            prop_assert!(lease.lifetime.is_none_or(|all| lease.rebind_after < all));
            prop_assert!(lease.mtu.is_none_or(|mtu| mtu >= MIN_MTU));
            prop_assert!(lease.dns.len() <= MAX_SERVERS && lease.routes.len() <= MAX_ROUTES);
        }
    }
}
