// SPDX-License-Identifier: Apache-2.0
//! The packet filter as a function of the networks and taps. Two tables, replaced together in one transaction:
//!
//! - `bridge racklet`: a tap may send only from its own MAC and IP addresses; what claims another's is dropped before it
//!   reaches anybody. A tap without rules can send nothing.
//! - `inet racklet`: guests reach nothing of the tray but echo and neighbour discovery; nothing is forwarded but from
//!   networks with NAT to the outside, and answers; source addresses are replaced on the way out.

use std::net::{IpAddr, Ipv6Addr};

use racklet_api::tray::Cidr;
use racklet_linux::nft::{Attachment, Base, Chain, Expression, Family, Hook, Meta, Table, Verdict};

use crate::model::{Desired, Tap};
use crate::names;

const TABLE: &str = "racklet";
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ETHER_IPV4: u16 = 0x0800;
const ETHER_ARP: u16 = 0x0806;
const ETHER_IPV6: u16 = 0x86dd;
/// Ethernet and IPv4 in an ARP header, with their address lengths.
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ECHO_REQUEST: u8 = 8;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// What may stand between the IPv6 header and what it carries (IANA's list, less ESP, behind which nobody can read): hop by
/// hop, routing, fragment, authentication, destination, mobility, HIP, Shim6.
const EXTENSION_HEADERS: [u8; 8] = [
    HOP_BY_HOP,
    43,
    FRAGMENT,
    51,
    DESTINATION_OPTIONS,
    135,
    139,
    140,
];
/// From router solicitation to redirect.
const NEIGHBOUR_DISCOVERY: [u8; 5] = [133, 134, 135, 136, 137];
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const ECHO_REQUEST_V6: u8 = 128;
/// Before the bridge's own ebtables and conntrack.
const BEFORE_BRIDGING: i32 = -200;
const SOURCE_NAT: i32 = 100;

/// All tables. With nothing to protect they are empty, which removes them.
pub(crate) fn tables(desired: &Desired) -> [Table; 2] {
    let nothing = desired.networks.is_empty() && desired.taps.is_empty();
    let table = |family, chains| Table {
        family,
        name: TABLE.into(),
        chains: if nothing { Vec::new() } else { chains },
    };
    [
        table(Family::Bridge, bridge_chains(desired)),
        table(
            Family::Inet,
            vec![input(), forward(desired), source_nat(desired)],
        ),
    ]
}

fn bridge_chains(desired: &Desired) -> Vec<Chain> {
    let chain = |name, rules| Chain {
        name,
        attachment: None,
        rules,
    };
    let mut chains = Vec::new();
    let mut entry = Vec::new();
    for (workload, tap) in &desired.taps {
        let name = names::tap(workload);
        entry.push(vec![
            is(Meta::InputName(name.clone())),
            Expression::Verdict(Verdict::Goto(name.clone())),
        ]);
        let v6 = own_v6(tap);
        let v6_chain = format!("{name}.v6");
        let mut rules = tap_rules(tap);
        if !v6.is_empty() {
            // From nowhere: is the address that is going to be mine free?
            rules.push(accept_if(vec![
                carries(ETHER_IPV6),
                equal(Base::Network, 6, &[ICMPV6]),
                equal(Base::Network, 8, &[0; 16]),
                equal(Base::Network, 40, &[NEIGHBOUR_SOLICITATION]),
            ]));
            rules.extend(v6.iter().map(|address| {
                vec![
                    carries(ETHER_IPV6),
                    equal(Base::Network, 8, &address.octets()),
                    Expression::Verdict(Verdict::Goto(v6_chain.clone())),
                ]
            }));
            chains.push(chain(v6_chain, v6_rules(&v6)));
        }
        rules.push(drop_if(vec![]));
        chains.push(chain(name, rules));
    }
    entry.push(drop_if(vec![is(Meta::InputPrefix(names::TAP.into()))]));
    chains.push(Chain {
        name: "from-taps".into(),
        attachment: Some(Attachment {
            hook: Hook::Prerouting,
            priority: BEFORE_BRIDGING,
            nat: false,
            accept: true,
        }),
        rules: entry,
    });
    chains
}

/// A workload's IPv6 addresses, with the link-local one; none without an address of its own.
fn own_v6(tap: &Tap) -> Vec<Ipv6Addr> {
    let mut own: Vec<Ipv6Addr> = tap
        .addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        })
        .collect();
    if !own.is_empty() {
        own.push(link_local(tap.mac.0));
    }
    own
}

/// What one tap may send beside IPv6.
fn tap_rules(tap: &Tap) -> Vec<Vec<Expression>> {
    let mac = tap.mac.0;
    let mut rules = vec![drop_if(vec![differ(Base::Link, 6, &mac)])];
    let v4 = tap.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => Some(v4.octets()),
        IpAddr::V6(_) => None,
    });
    for own in v4 {
        let arp = |sender: [u8; 4]| {
            vec![
                carries(ETHER_ARP),
                equal(Base::Network, 0, &ARP_KIND),
                equal(Base::Network, 8, &mac),
                equal(Base::Network, 14, &sender),
            ]
        };
        rules.push(accept_if(arp(own)));
        // A probe (RFC 5227): is the address that is going to be mine free?
        let mut probe = arp([0; 4]);
        probe.push(equal(Base::Network, 24, &own));
        rules.push(accept_if(probe));
        rules.push(accept_if(vec![
            carries(ETHER_IPV4),
            equal(Base::Network, 12, &own),
        ]));
    }
    rules
}

/// What may leave a tap with a source address that is its own; ends with a drop.
///
/// Only packets in which the rules know what stands where: kind and target of a message are read at fixed places, behind at
/// most one header of 8 bytes. Longer chains could end in another frame, or in bytes behind the packet's own end, and be
/// put together by the receiver as something that the rules never saw (RFC 7113). A workload is no router and speaks for
/// no neighbour.
fn v6_rules(own: &[Ipv6Addr]) -> Vec<Vec<Expression>> {
    let first = |kind: u8| equal(Base::Network, 6, &[kind]);
    let second = |kind: u8| equal(Base::Network, 40, &[kind]);
    let none_of = |offset, kinds: &[u8]| -> Vec<Expression> {
        let differing = |kind: &u8| differ(Base::Network, offset, &[*kind]);
        kinds.iter().map(differing).collect()
    };
    let carried = |offset| {
        [
            none_of(offset, &EXTENSION_HEADERS),
            none_of(offset, &[ICMPV6]),
        ]
        .concat()
    };
    let rule = |parts: &[&[Expression]]| accept_if(parts.concat());
    let routers = [ROUTER_ADVERTISEMENT, REDIRECT, NEIGHBOUR_ADVERTISEMENT];
    let mut rules = vec![
        rule(&[&carried(6)]),
        rule(&[&[first(ICMPV6)], &none_of(40, &routers)]),
    ];
    rules.extend(own.iter().map(|address| {
        let kind = equal(Base::Network, 40, &[NEIGHBOUR_ADVERTISEMENT]);
        let target = equal(Base::Network, 48, &address.octets());
        rule(&[&[first(ICMPV6), kind, target]])
    }));
    // Neighbour discovery never comes in fragments (RFC 6980); what a fragment behind the first one holds is no kind.
    let behind = Expression::Bytes {
        base: Base::Network,
        offset: 42,
        mask: vec![0xff, 0xf8],
        value: vec![0, 0],
        equal: false,
    };
    rules.extend([
        rule(&[&[first(FRAGMENT)], &carried(40)]),
        rule(&[&[first(FRAGMENT), second(ICMPV6), behind]]),
        rule(&[
            &[first(FRAGMENT), second(ICMPV6)],
            &none_of(48, &NEIGHBOUR_DISCOVERY),
        ]),
    ]);
    // Multicast listeners' reports stand behind an option (RFC 3810).
    for options in [HOP_BY_HOP, DESTINATION_OPTIONS] {
        let eight_bytes = equal(Base::Network, 41, &[0]);
        rules.extend([
            rule(&[&[first(options)], &carried(40)]),
            rule(&[
                &[first(options), second(ICMPV6), eight_bytes],
                &none_of(48, &routers),
            ]),
        ]);
    }
    rules.push(drop_if(vec![]));
    rules
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A), which Linux guests use.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}

fn filter(name: &str, hook: Hook, accept: bool, rules: Vec<Vec<Expression>>) -> Chain {
    Chain {
        name: name.into(),
        attachment: Some(Attachment {
            hook,
            priority: 0,
            nat: false,
            accept,
        }),
        rules,
    }
}

/// What reaches the tray itself.
fn input() -> Chain {
    let icmp = |protocol, transport, kind: u8| {
        accept_if(vec![
            is(Meta::Protocol(protocol)),
            is(Meta::Transport(transport)),
            equal(Base::Transport, 0, &[kind]),
        ])
    };
    let rules = vec![
        // A bridge hands frames to its reserved group addresses (01:80:c2:00:00:02 to 0f) to the port they came in by, and
        // not even its own filter sees all of them. Nothing of a guest belongs here.
        drop_if(vec![is(Meta::InputPrefix(names::TAP.into()))]),
        accept_if(vec![Expression::IsNot(Meta::InputPrefix(
            names::BRIDGE.into(),
        ))]),
        accept_if(vec![Expression::ESTABLISHED_OR_RELATED]),
        icmp(IPV4, ICMP, ECHO_REQUEST),
        icmp(IPV6, ICMPV6, ECHO_REQUEST_V6),
        icmp(IPV6, ICMPV6, NEIGHBOUR_SOLICITATION),
        icmp(IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT),
        drop_if(vec![]),
    ];
    filter("input", Hook::Input, true, rules)
}

/// What passes through the tray.
fn forward(desired: &Desired) -> Chain {
    let mut rules = vec![
        drop_if(vec![Expression::INVALID]),
        accept_if(vec![Expression::ESTABLISHED_OR_RELATED]),
    ];
    for (name, network) in &desired.networks {
        let bridge = names::bridge(name);
        // Within one network the bridge forwards; some kernels show those frames here as well.
        rules.push(accept_if(vec![
            is(Meta::InputName(bridge.clone())),
            is(Meta::OutputName(bridge.clone())),
        ]));
        for gateway in network.gateways.iter().filter(|_| network.nat) {
            let mut rule = vec![
                is(Meta::InputName(bridge.clone())),
                Expression::IsNot(Meta::OutputPrefix(names::BRIDGE.into())),
            ];
            rule.extend(from(gateway));
            rules.push(accept_if(rule));
        }
    }
    rules.push(vec![Expression::Counter]);
    filter("forward", Hook::Forward, false, rules)
}

/// Whose source addresses are replaced.
fn source_nat(desired: &Desired) -> Chain {
    let networks = desired.networks.values().filter(|network| network.nat);
    let rules = networks
        .flat_map(|network| &network.gateways)
        .map(|gateway| {
            let mut rule = from(gateway);
            rule.push(Expression::IsNot(Meta::OutputPrefix(names::BRIDGE.into())));
            rule.push(Expression::Masquerade);
            rule
        })
        .collect();
    Chain {
        name: "source-nat".into(),
        attachment: Some(Attachment {
            hook: Hook::Postrouting,
            priority: SOURCE_NAT,
            nat: true,
            accept: true,
        }),
        rules,
    }
}

/// Packets from a gateway's subnet.
fn from(gateway: &Cidr) -> Vec<Expression> {
    let (protocol, offset, octets) = match gateway.address {
        IpAddr::V4(v4) => (IPV4, 12, v4.octets().to_vec()),
        IpAddr::V6(v6) => (IPV6, 8, v6.octets().to_vec()),
    };
    let mask: Vec<u8> = (0..octets.len())
        .map(|index| {
            let bits = usize::from(gateway.prefix).saturating_sub(index * 8).min(8);
            u8::MAX
                .checked_shl(8 - u32::try_from(bits).unwrap_or(0))
                .unwrap_or(0)
        })
        .collect();
    let value = octets.iter().zip(&mask).map(|(byte, mask)| byte & mask);
    vec![
        is(Meta::Protocol(protocol)),
        Expression::Bytes {
            base: Base::Network,
            offset,
            value: value.collect(),
            mask,
            equal: true,
        },
    ]
}

/// The Ethernet type as it stands in the frame. The kernel's own idea of the protocol looks behind a VLAN tag, and a guest
/// has no business on other VLANs.
fn carries(kind: u16) -> Expression {
    equal(Base::Link, 12, &kind.to_be_bytes())
}

const fn is(meta: Meta) -> Expression {
    Expression::Is(meta)
}

fn equal(base: Base, offset: u32, value: &[u8]) -> Expression {
    Expression::Bytes {
        base,
        offset,
        mask: Vec::new(),
        value: value.to_vec(),
        equal: true,
    }
}

fn differ(base: Base, offset: u32, value: &[u8]) -> Expression {
    Expression::Bytes {
        base,
        offset,
        mask: Vec::new(),
        value: value.to_vec(),
        equal: false,
    }
}

fn accept_if(mut conditions: Vec<Expression>) -> Vec<Expression> {
    conditions.push(Expression::Verdict(Verdict::Accept));
    conditions
}

/// Counted, so that a person can see that somebody tries.
fn drop_if(mut conditions: Vec<Expression>) -> Vec<Expression> {
    conditions.push(Expression::Counter);
    conditions.push(Expression::Verdict(Verdict::Drop));
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{bridge, port};

    fn desired() -> Desired {
        let mut desired = Desired::default();
        let lan = bridge("lan", &["10.80.0.1/20", "fd00:80::1/64"]);
        desired
            .attach(&lan, &port("web", 1, &["10.80.0.10"]), &[])
            .expect("fits");
        desired
    }

    #[test]
    fn without_networks_the_tables_go_away() {
        let tables = tables(&Desired::default());
        assert!(tables.iter().all(|table| table.chains.is_empty()));
    }

    #[test]
    fn a_taps_chain_comes_before_the_jump_to_it_and_ends_with_a_drop() {
        let [frames, _] = tables(&desired());
        let names: Vec<&str> = frames.chains.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["rkt-web", "from-taps"]);
        let last = frames.chains[0].rules.last().expect("rules");
        assert_eq!(*last, drop_if(vec![]));
    }

    #[test]
    fn the_subnets_mask_is_made_bit_by_bit() {
        let gateway = "10.80.17.1/20".parse().expect("cidr");
        let Expression::Bytes { mask, value, .. } = &from(&gateway)[1] else {
            panic!("not bytes");
        };
        assert_eq!(mask, &[255, 255, 240, 0]);
        assert_eq!(value, &[10, 80, 16, 0]);
    }

    #[test]
    fn an_isolated_network_has_no_way_out() {
        let mut isolated = desired();
        for network in isolated.networks.values_mut() {
            network.nat = false;
        }
        assert!(source_nat(&isolated).rules.is_empty());
        let out = |rule: &Vec<Expression>| {
            rule.contains(&Expression::IsNot(Meta::OutputPrefix(names::BRIDGE.into())))
        };
        assert!(!forward(&isolated).rules.iter().any(out));
        assert_eq!(
            forward(&desired()).rules.iter().filter(|r| out(r)).count(),
            2
        );
    }

    #[test]
    fn link_local_follows_from_the_mac() {
        let expected: Ipv6Addr = "fe80::52:4bff:fe00:1".parse().expect("ip");
        assert_eq!(link_local([2, 0x52, 0x4b, 0, 0, 1]), expected);
    }
}
