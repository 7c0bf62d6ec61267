// SPDX-License-Identifier: Apache-2.0
//! Frames made by hand, of the kinds a hostile guest sends: which of them leave its tap.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use racklet_linux::tap;

use crate::place::{network, on_a_tray, port};

pub(crate) const OWN_MAC: [u8; 6] = [2, 0x52, 0x4b, 0, 0, 10];
pub(crate) const OTHER_MAC: [u8; 6] = [2, 0x52, 0x4b, 0, 0, 11];
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 11);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn frame(source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&OTHER_MAC[..], &source, &kind.to_be_bytes(), payload].concat();
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// UDP without payload.
fn ipv4(source: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    bytes.extend(source.octets());
    bytes.extend(OTHER.octets());
    bytes.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    bytes
}

fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 2];
    bytes.extend(mac);
    bytes.extend(sender.octets());
    bytes.extend([0; 6]);
    bytes.extend(target.octets());
    bytes
}

/// An IPv6 packet to the neighbour, its first header of this kind.
fn ipv6(source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short");
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([next, 255]);
    bytes.extend(source.octets());
    bytes.extend(v6("fd00:80::11").octets());
    bytes.extend(payload);
    bytes
}

/// ICMPv6 of a type, with an address at offset 8.
fn message6(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

fn icmp6(source: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Vec<u8> {
    ipv6(source, 58, &message6(kind, target))
}

/// One fragment of a packet whose fragmented part begins with a header of the kind `next`. `offset` in units of 8 bytes.
fn fragment(source: Ipv6Addr, next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let place = (offset << 3 | u16::from(more)).to_be_bytes();
    let header = [next, 0, place[0], place[1], 0, 0, 0, 7];
    ipv6(source, 44, &[&header[..], payload].concat())
}

/// Bytes of the frame behind the end of its packet.
fn padded(packet: Vec<u8>, padding: &[u8]) -> Vec<u8> {
    [&packet, padding].concat()
}

/// Destination options that are padding only, before a header of the kind `next`.
const fn options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn only_frames_with_the_guests_own_addresses_leave_its_tap() {
    let own6 = v6("fd00:80::10");
    let own_link = v6("fe80::52:4bff:fe00:a");
    let none = Ipv6Addr::UNSPECIFIED;
    let own = |kind, payload: Vec<u8>| frame(OWN_MAC, kind, &payload);
    let passing = [
        ("own IPv4", own(0x0800, ipv4(OWN))),
        ("own ARP", own(0x0806, arp(OWN_MAC, OWN, GATEWAY))),
        (
            "ARP probe",
            own(0x0806, arp(OWN_MAC, Ipv4Addr::UNSPECIFIED, OWN)),
        ),
        ("own IPv6", own(0x86dd, icmp6(own6, 128, own6))),
        ("own link-local", own(0x86dd, icmp6(own_link, 135, own6))),
        ("own advertisement", own(0x86dd, icmp6(own6, 136, own6))),
        ("address detection", own(0x86dd, icmp6(none, 135, own6))),
        ("own ping", own(0x86dd, icmp6(own6, 128, own6))),
        (
            "own ping behind options",
            own(
                0x86dd,
                ipv6(own6, 60, &[&options(58)[..], &message6(128, own6)].concat()),
            ),
        ),
        (
            "multicast listener's report",
            own(
                0x86dd,
                ipv6(
                    own_link,
                    0,
                    &[&[58, 0, 5, 2, 0, 0, 1, 0][..], &message6(143, none)].concat(),
                ),
            ),
        ),
        (
            "first fragment of a long ping",
            own(0x86dd, fragment(own6, 58, 0, true, &message6(128, own6))),
        ),
        (
            "last fragment of a long ping",
            own(0x86dd, fragment(own6, 58, 3, false, &[134; 16])),
        ),
        (
            "first fragment of a datagram",
            own(0x86dd, fragment(own6, 17, 0, true, &[0; 16])),
        ),
        (
            "last fragment of a datagram",
            own(0x86dd, fragment(own6, 17, 2, false, &[134; 16])),
        ),
    ];
    let tagged = [&[0, 5, 8, 0][..], &ipv4(OWN)].concat();
    let foreign = v6("fd00:80::11");
    let dropped = [
        ("foreign MAC", frame([2, 0, 0, 0, 0, 9], 0x0800, &ipv4(OWN))),
        ("neighbour's MAC", frame(OTHER_MAC, 0x0800, &ipv4(OWN))),
        ("foreign IPv4", own(0x0800, ipv4(OTHER))),
        ("gateway's IPv4", own(0x0800, ipv4(GATEWAY))),
        ("no IPv4", own(0x0800, ipv4(Ipv4Addr::UNSPECIFIED))),
        (
            "ARP for the gateway",
            own(0x0806, arp(OWN_MAC, GATEWAY, OTHER)),
        ),
        (
            "ARP with a foreign MAC inside",
            own(0x0806, arp(OTHER_MAC, OWN, GATEWAY)),
        ),
        (
            "probe for another",
            own(0x0806, arp(OWN_MAC, Ipv4Addr::UNSPECIFIED, OTHER)),
        ),
        ("foreign IPv6", own(0x86dd, icmp6(foreign, 128, own6))),
        (
            "foreign link-local",
            own(0x86dd, icmp6(v6("fe80::1"), 128, own6)),
        ),
        ("no IPv6", own(0x86dd, icmp6(none, 128, own6))),
        (
            "advertisement for another",
            own(0x86dd, icmp6(own6, 136, foreign)),
        ),
        (
            "router advertisement",
            own(0x86dd, icmp6(own_link, 134, own6)),
        ),
        ("redirect", own(0x86dd, icmp6(own_link, 137, own6))),
        (
            "router advertisement behind options",
            own(
                0x86dd,
                ipv6(
                    own_link,
                    60,
                    &[&options(58)[..], &message6(134, own6)].concat(),
                ),
            ),
        ),
        (
            "first fragment with the options before an advertisement",
            own(0x86dd, fragment(own_link, 60, 0, true, &options(58))),
        ),
        (
            "last fragment with the advertisement behind options",
            own(
                0x86dd,
                fragment(own_link, 60, 1, false, &message6(134, own6)),
            ),
        ),
        (
            "first fragment of an advertisement",
            own(
                0x86dd,
                fragment(own_link, 58, 0, true, &message6(134, own6)[..16]),
            ),
        ),
        (
            "the same, alone in its fragment",
            own(
                0x86dd,
                fragment(own_link, 58, 0, false, &message6(134, own6)),
            ),
        ),
        (
            "first fragment of an advertisement for a neighbour to be named",
            own(
                0x86dd,
                fragment(own6, 58, 0, true, &message6(136, foreign)[..8]),
            ),
        ),
        // What stands behind a packet's end is padding to the receiver and must not be taken for a part of it.
        (
            "fragment whose padding looks like a ping behind the options",
            own(
                0x86dd,
                padded(
                    fragment(own_link, 60, 0, true, &options(58)),
                    &message6(128, own6),
                ),
            ),
        ),
        (
            "fragment whose padding looks like a datagram behind the options",
            own(
                0x86dd,
                padded(fragment(own_link, 60, 0, true, &options(60)), &options(17)),
            ),
        ),
        (
            "fragment whose padding names the own address as advertised",
            own(
                0x86dd,
                padded(
                    fragment(own6, 58, 0, true, &message6(136, own6)[..8]),
                    &own6.octets(),
                ),
            ),
        ),
        (
            "fragment behind hop-by-hop options",
            own(
                0x86dd,
                ipv6(
                    own_link,
                    0,
                    &[&options(44)[..], &[60, 0, 0, 1, 0, 0, 0, 7], &options(58)].concat(),
                ),
            ),
        ),
        ("VLAN tag", own(0x8100, tagged)),
        ("spanning tree and other kinds", own(0x88cc, vec![1; 40])),
        ("cut short", own(0x0800, vec![0x45])),
    ];
    on_a_tray(move |place| {
        let lan = network("lan", &["10.80.0.1/24", "fd00:80::1/64"]);
        let web = place.attach(&lan, &port("web", 10, &["10.80.0.10", "fd00:80::10"]));
        let db = place.attach(&lan, &port("db", 11, &["10.80.0.11", "fd00:80::11"]));
        let mut web = tap::attach(&web.tap).expect("tap");
        let mut db = tap::attach(&db.tap).expect("tap");
        let mut heard: Vec<Vec<u8>> = Vec::new();
        let mut listen = |heard: &mut Vec<Vec<u8>>| {
            let mut buffer = [0; 2048];
            match db.read(&mut buffer) {
                // The first 10 bytes are the virtio header.
                Ok(length) => heard.push(buffer[10..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        };
        let mut send = |bytes: &[u8]| {
            let sent = web.write(&[&[0; 10][..], bytes].concat());
            sent.expect("the tap takes it");
        };
        for (_, bytes) in &dropped {
            send(bytes);
        }
        // Ports carry nothing for a moment after they were attached: so long, until the last kind is heard.
        let begun = Instant::now();
        while !passing.iter().all(|(_, bytes)| heard.contains(bytes)) {
            let missing: Vec<_> = passing.iter().filter(|(_, b)| !heard.contains(b)).collect();
            let names: Vec<_> = missing.iter().map(|(name, _)| name).collect();
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "not heard: {names:?}"
            );
            for (_, bytes) in &dropped {
                send(bytes);
            }
            for (_, bytes) in missing {
                send(bytes);
            }
            listen(&mut heard);
        }
        // What was sent before the last one is in front of it in the queue.
        let last = frame(OWN_MAC, 0x0800, &[&ipv4(OWN)[..], b"the end"].concat());
        for (_, bytes) in &dropped {
            send(bytes);
        }
        send(&last);
        while !heard.contains(&last) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the end is not heard"
            );
            listen(&mut heard);
        }
        for (name, bytes) in &dropped {
            assert!(!heard.contains(bytes), "{name} got through");
        }
    });
}
