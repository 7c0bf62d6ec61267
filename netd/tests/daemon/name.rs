// SPDX-License-Identifier: Apache-2.0
//! The tray is found by name from its own network, and by nobody else.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use racklet_net::mdns::{GROUP_V4, PORT};
use rustix::net::sockopt::set_ip_multicast_if;

use crate::place::{OUTSIDE, TRAY, inside, ip, network, on_a_tray, port};

/// Asks for the IPv4 address of `tray-1.local` as a plain resolver does, from this address; gives what is answered.
fn ask(namespace: &File, from: &str, to: Ipv4Addr, patience: Duration) -> Option<Ipv4Addr> {
    let from: Ipv4Addr = from.parse().expect("an address");
    let socket = inside(namespace, || UdpSocket::bind((from, 0)).expect("binds"));
    set_ip_multicast_if(&socket, &from).expect("the card");
    let wait = Some(Duration::from_millis(250));
    socket.set_read_timeout(wait).expect("timeout");
    let question = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x06tray-1\x05local\0\0\x01\0\x01";
    let begun = Instant::now();
    while begun.elapsed() < patience {
        // A namespace without a way there says so, which is an answer too.
        let _ = socket.send_to(question, (to, PORT));
        let mut answer = [0; 512];
        if let Ok(length) = socket.recv(&mut answer) {
            let last: [u8; 4] = answer[length - 4..length].try_into().expect("four");
            assert_eq!(answer[..2], [0, 7], "its own question");
            return Some(last.into());
        }
    }
    None
}

#[test]
fn a_tray_is_found_by_name_from_its_own_network_and_not_by_its_guests() {
    on_a_tray(|place| {
        let lan = network("lan", &["10.80.0.1/24"]);
        let web = place.guest(&lan, &port("web", 10, &["10.80.0.10"]));
        let long = Duration::from_secs(20);
        let found = ask(&place.outside, OUTSIDE, GROUP_V4, long);
        assert_eq!(found.map(IpAddr::V4), Some(ip(TRAY)), "{}", place.log());
        let tray: Ipv4Addr = TRAY.parse().expect("an address");
        for to in [GROUP_V4, tray, Ipv4Addr::new(10, 80, 0, 1)] {
            let found = ask(&web.namespace, "10.80.0.10", to, Duration::from_secs(2));
            assert_eq!(found, None, "to {to}");
        }
        assert!(
            ask(&place.outside, OUTSIDE, tray, long).is_some(),
            "still there"
        );
    });
}
