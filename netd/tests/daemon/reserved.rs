// SPDX-License-Identifier: Apache-2.0
//! Frames to the tray itself, to every destination that a bridge treats in a way of its own (IEEE 802.1D, table 7-10): the
//! tray's sockets and its ARP must stay silent, whatever the frame carries and whoever it claims to come from.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use racklet_linux::rtnl::Rtnl;
use racklet_linux::tap;
use racklet_net::udp4::{self, Datagram};

use crate::frames::{OTHER_MAC, OWN, OWN_MAC};
use crate::place::{OUTSIDE, Place, TRAY, inside, ip, network, on_a_tray, port};

/// Ports of the tray's two sockets; nothing else listens there in a namespace of the test's own.
const PORT4: u16 = 7004;
const PORT6: u16 = 7006;

/// Kinds of Ethernet frames that the tray's kernel would do something with.
fn payloads() -> Vec<(&'static str, u16, Vec<u8>)> {
    let mut all = Vec::new();
    let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
    let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
    for source in [OWN, v4("10.80.0.77"), v4("198.51.100.1"), v4(OUTSIDE)] {
        for to in ["10.80.0.1", TRAY, "255.255.255.255", "10.80.0.255"] {
            let bytes = udp4::packet(&Datagram {
                source,
                destination: v4(to),
                source_port: 9,
                destination_port: PORT4,
                payload: b"from a guest",
            });
            let bytes = bytes.expect("short enough");
            all.push(("IPv4", 0x0800, bytes.clone()));
            all.push((
                "IPv4 in a VLAN",
                0x8100,
                [&[0, 5, 8, 0][..], &bytes].concat(),
            ));
        }
        for target in [v4("10.80.0.1"), v4(TRAY)] {
            let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
            request.extend(OWN_MAC);
            request.extend(source.octets());
            request.extend([0; 6]);
            request.extend(target.octets());
            all.push(("ARP", 0x0806, request));
        }
    }
    for source in ["fd00:80::10", "fe80::52:4bff:fe00:a", "2001:db8::1"] {
        for to in ["fd00:80::1", "2001:db8::2", "ff02::1"] {
            all.push(("IPv6", 0x86dd, udp6(v6(source), v6(to))));
        }
    }
    all
}

/// A UDP datagram over IPv6, with its checksum (RFC 8200, 8.1).
fn udp6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let payload = b"from a guest";
    let length = u16::try_from(8 + payload.len()).expect("short");
    let mut udp = [
        9_u16.to_be_bytes(),
        PORT6.to_be_bytes(),
        length.to_be_bytes(),
        [0; 2],
    ]
    .concat();
    udp.extend(payload);
    let covered = [
        &source.octets()[..],
        &destination.octets(),
        &length.to_be_bytes(),
        &[0, 17],
        &udp,
    ];
    let mut sum: u32 = covered
        .concat()
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).expect("folded");
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(udp);
    packet
}

/// All addresses that a bridge keeps to itself, and the ordinary ways to reach a host.
fn destinations(rtnl: &mut Rtnl) -> Vec<[u8; 6]> {
    let mut all: Vec<[u8; 6]> = (0..=15).map(|last| [1, 0x80, 0xc2, 0, 0, last]).collect();
    all.extend([
        [0xff; 6],
        [1, 0, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
        [1, 0, 0x0c, 0xcc, 0xcc, 0xcc],
    ]);
    for name in ["rkb-lan", "rkt-web", "eth0"] {
        let link = rtnl.link(name).expect("links").expect("is there");
        all.push(link.mac.expect("Ethernet"));
    }
    all
}

fn frame(destination: [u8; 6], source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&destination[..], &source, &kind.to_be_bytes(), payload].concat();
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// The next frame that the tray or a neighbour sent to this tap.
fn read(tap: &mut File) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    match tap.read(&mut buffer) {
        // The first 10 bytes are the virtio header.
        Ok(length) => Some(buffer[10..length].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn write(tap: &mut File, frame: &[u8]) {
    tap.write_all(&[&[0; 10][..], frame].concat())
        .expect("the tap takes it");
}

/// Sends until the neighbour heard it: what was sent before has then been dealt with.
fn pass(from: &mut File, to: &mut File, frame: &[u8]) {
    let begun = Instant::now();
    loop {
        write(from, frame);
        while let Some(heard) = read(to) {
            if heard == frame {
                return;
            }
        }
        let patient = begun.elapsed() < Duration::from_secs(20);
        assert!(patient, "the neighbour hears nothing: who has its address?");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn sockets() -> [UdpSocket; 2] {
    let open = |address: IpAddr, port| {
        let socket = UdpSocket::bind((address, port)).expect("binds");
        socket.set_nonblocking(true).expect("nonblocking");
        socket
    };
    [
        open(Ipv4Addr::UNSPECIFIED.into(), PORT4),
        open(Ipv6Addr::UNSPECIFIED.into(), PORT6),
    ]
}

/// The sockets do hear, if the outside speaks.
fn heard_from_outside(place: &Place, sockets: &[UdpSocket; 2]) {
    for (socket, to, port) in [
        (&sockets[0], TRAY, PORT4),
        (&sockets[1], "2001:db8::2", PORT6),
    ] {
        let begun = Instant::now();
        let mut buffer = [0; 64];
        loop {
            inside(&place.outside, || {
                let from = if ip(to).is_ipv4() {
                    OUTSIDE
                } else {
                    "2001:db8::1"
                };
                let sender = UdpSocket::bind((ip(from), 0)).expect("binds");
                sender
                    .send_to(b"from outside", (ip(to), port))
                    .expect("sends");
            });
            std::thread::sleep(Duration::from_millis(5));
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) if &buffer[..length] == b"from outside" => break,
                Ok((_, from)) => panic!("a datagram of {from} before"),
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "{to} is deaf"),
            }
        }
        while socket.recv_from(&mut buffer).is_ok() {}
    }
}

#[test]
fn no_frame_of_a_guest_reaches_the_trays_sockets_whatever_its_destination() {
    on_a_tray(|place| {
        let lan = network("lan", &["10.80.0.1/24", "fd00:80::1/64"]);
        let web = place.attach(&lan, &port("web", 10, &["10.80.0.10", "fd00:80::10"]));
        let db = place.attach(&lan, &port("db", 11, &["10.80.0.11"]));
        let mut web = tap::attach(&web.tap).expect("tap");
        let mut db = tap::attach(&db.tap).expect("tap");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let sockets = sockets();
        heard_from_outside(place, &sockets);
        let note = |text: &[u8]| frame(OTHER_MAC, OWN_MAC, 0x0800, &[&udp_to_db(), text].concat());
        pass(&mut web, &mut db, &note(b"begin"));
        while read(&mut web).is_some() {}
        let mut wrong = Vec::new();
        for destination in destinations(&mut rtnl) {
            for (name, kind, payload) in payloads() {
                for source in [OWN_MAC, OTHER_MAC, [2, 0, 0, 0, 0, 9], destination] {
                    write(&mut web, &frame(destination, source, kind, &payload));
                    while let Some(answer) = read(&mut web) {
                        let spoken = answer[12..14] == [8, 6] && answer[20..22] == [0, 2];
                        // To ask the gateway by its own ways is allowed, and nothing else.
                        let allowed = source == OWN_MAC && payload[14..18] == OWN.octets();
                        let reserved =
                            destination[..5] == [1, 0x80, 0xc2, 0, 0] && destination[5] > 0;
                        if spoken && (reserved || !allowed) {
                            wrong.push(format!(
                                "ARP answers {name} to {destination:x?} from {source:x?}"
                            ));
                        }
                    }
                    for socket in &sockets {
                        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                            wrong.push(format!(
                                "{name} to {destination:x?} from {source:x?}, {from}"
                            ));
                        }
                    }
                }
            }
            while read(&mut db).is_some() {}
        }
        assert!(
            wrong.is_empty(),
            "{} got through: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(20)]
        );
        heard_from_outside(place, &sockets);
        // Frames of the guest's own arrive at the neighbour: none that claimed its address taught the bridge another way.
        pass(&mut web, &mut db, &note(b"the end"));
    });
}

/// A datagram to the neighbour.
fn udp_to_db() -> Vec<u8> {
    let bytes = udp4::packet(&Datagram {
        source: OWN,
        destination: Ipv4Addr::new(10, 80, 0, 11),
        source_port: 9,
        destination_port: 9,
        payload: b"",
    });
    bytes.expect("short enough")
}
