// SPDX-License-Identifier: Apache-2.0
use super::*;
use proptest::prelude::*;

fn option(lifetime: u32, servers: &[Ipv6Addr]) -> Vec<u8> {
    let units = u8::try_from(1 + 2 * servers.len()).unwrap();
    let mut out = vec![RDNSS, units, 0, 0];
    out.extend_from_slice(&lifetime.to_be_bytes());
    out.extend(servers.iter().flat_map(Ipv6Addr::octets));
    out
}

fn server(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

fn claim(lifetime: u32, last: u16) -> DnsServers {
    DnsServers {
        lifetime,
        servers: vec![server(last)],
    }
}

#[test]
fn rdnss_is_found_between_other_options() {
    let mut bytes = vec![1, 1, 2, 0, 0, 0, 0, 1];
    bytes.extend(option(600, &[server(1), Ipv6Addr::LOCALHOST, server(2)]));
    bytes.extend([31, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        dns_servers(&bytes),
        [DnsServers {
            lifetime: 600,
            servers: vec![server(1), server(2)]
        }]
    );
}

#[test]
fn option_without_length_ends_the_reading() {
    let mut bytes = vec![25, 0];
    bytes.extend(option(600, &[server(1)]));
    assert!(dns_servers(&bytes).is_empty());
}

#[test]
fn servers_end_with_their_lifetime_or_when_withdrawn() {
    let mut table = DnsTable::default();
    let at = Duration::from_secs;
    table.learn(at(0), 2, &claim(100, 1));
    table.learn(at(0), 2, &claim(u32::MAX, 2));
    assert_eq!(table.next_wake(), Some(at(100)));
    table.learn(at(50), 2, &claim(100, 1));
    table.expire(at(149));
    assert_eq!(table.servers().count(), 2);
    table.expire(at(150));
    assert_eq!(table.servers().collect::<Vec<_>>(), [(2, server(2))]);
    table.learn(at(160), 2, &claim(0, 2));
    assert_eq!(table.servers().count(), 0);
}

#[test]
fn a_flood_of_servers_does_not_push_out_the_working_one() {
    let mut table = DnsTable::default();
    for last in 0..100 {
        table.learn(Duration::ZERO, 2, &claim(1000, last + 1));
    }
    assert_eq!(table.servers().count(), MAX_SERVERS);
    assert_eq!(table.servers().next(), Some((2, server(1))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_stay_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut table = DnsTable::default();
        for claim in dns_servers(&bytes) {
            table.learn(Duration::ZERO, 1, &claim);
        }
        prop_assert!(table.servers().count() <= MAX_SERVERS);
    }
}
