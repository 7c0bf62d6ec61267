// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;
use racklet_api::vmm::Mac;

#[test]
fn the_longest_alias_fits_the_kernel() {
    let longest: Name = "a".repeat(63).parse().expect("a name");
    let made = Tap {
        network: longest.clone(),
        uid: u32::MAX,
        mac: Mac([0xfe; 6]),
        addresses: vec![
            "255.255.255.255".parse().expect("ip"),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
                .parse()
                .expect("ip"),
        ],
    };
    let alias = tap(&longest, &made);
    // IFALIASZ is 256 with the NUL.
    assert!(alias.len() <= 255, "{}", alias.len());
    assert_eq!(read_tap(&alias), Some((longest, made)));
}

#[test]
fn a_note_that_no_request_could_have_led_to_is_no_note() {
    for (gateways, good) in [
        ("10.80.0.1/24 fd00:80::1/64", true),
        ("10.80.0.1/24 10.81.0.1/24", false),
        ("10.80.0.1/24 10.81.0.1/33", false),
        ("", false),
    ] {
        let text = format!("racklet network lan nat {gateways}");
        assert_eq!(read_network(text.trim_end()).is_some(), good, "{text}");
    }
    for (addresses, good) in [
        ("10.80.0.10 fd00:80::10", true),
        ("fd00:80::10 fd00:80::11", false),
        ("", false),
    ] {
        let text = format!("racklet tap web lan 1000 02:52:4b:00:00:01 {addresses}");
        assert_eq!(read_tap(text.trim_end()).is_some(), good, "{text}");
    }
}

proptest! {
    #[test]
    fn aliases_are_read_as_they_were_written(
        name in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", other in "[a-z][a-z0-9]{0,20}", uid: u32, mac: [u8; 6], v4: u32,
        v6 in proptest::option::of(any::<u128>()), nat: bool, length in 8_u8..30,
    ) {
        let name: Name = name.parse().expect("a name");
        // A card's own: not multicast, not empty.
        let mut mac = mac;
        mac[0] = mac[0] & 0xfe | 2;
        let mut addresses = vec![IpAddr::V4(v4.into())];
        addresses.extend(v6.map(|bits| IpAddr::V6(bits.into())));
        let made = Tap { network: other.parse().expect("a name"), uid, mac: Mac(mac), addresses: addresses.clone() };
        prop_assert_eq!(read_tap(&tap(&name, &made)), Some((name.clone(), made)));
        let gateways = addresses.into_iter().map(|address| Cidr { address, prefix: length }).collect();
        let made = Network { nat, gateways };
        prop_assert_eq!(read_network(&network(&name, &made)), Some((name, made)));
    }

    #[test]
    fn arbitrary_aliases_never_panic(text in "(racklet (tap|network) )?[ -~]{0,100}") {
        let _ = (read_tap(&text), read_network(&text));
    }
}
