// SPDX-License-Identifier: Apache-2.0
//! What DHCP servers and routers say about ways to a guests' network: guests and the tray go on knowing each other, whether
//! it was said before the network was made or afterwards.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use racklet_api::netd::Bridge;
use racklet_linux::netns;
use racklet_linux::rtnl::Rtnl;
use rustix::net::sockopt::set_ipv6_multicast_hops;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use crate::place::{
    Guest, Listener, OUTSIDE, Place, index, inside, ip, network, on_a_tray_with, port,
};

const BY_ITSELF: &str = r#"{"interface":"eth0"}"#;
/// A route that is in nobody's way: once it is there, so are those said together with it.
const MARK4: &str = "198.51.100.0";
const MARK6: &str = "fd00:99::";
/// Subnets, halves, neighbourhoods and single addresses of the guests' network, by a router and on the link.
const ROUTES: &str = "--dhcp-option=121,\
    10.80.0.0/24,192.0.2.9,10.80.0.0/25,192.0.2.9,10.80.0.8/29,0.0.0.0,\
    10.80.0.10/32,192.0.2.9,10.80.0.11/32,0.0.0.0,10.80.0.1/32,192.0.2.9,\
    198.51.100.0/24,192.0.2.9,0.0.0.0/0,192.0.2.1";
const PREFIXES: [(&str, u8); 5] = [
    ("fd00:80::", 64),
    ("fd00:80::", 80),
    ("fd00:80::10", 127),
    ("fd00:80::10", 128),
    (MARK6, 64),
];

fn lan() -> Bridge {
    network("lan", &["10.80.0.1/24", "fd00:80::1/64"])
}

fn web(place: &Place) -> Guest {
    place.guest(&lan(), &port("web", 10, &["10.80.0.10", "fd00:80::10"]))
}

/// Waits until netd has done something that the kernel shows.
fn until(place: &Place, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        let patient = begun.elapsed() < Duration::from_secs(20);
        assert!(patient, "never happened: {what}\n{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn until_routed(place: &Place, destination: &str) {
    let mut rtnl = Rtnl::open().expect("rtnetlink");
    until(place, "a route that was said", || {
        let routes = rtnl.routes().expect("routes");
        routes
            .iter()
            .any(|route| route.destination == ip(destination))
    });
}

/// A router advertisement of no default route, with prefixes that are on the link; with `addresses` hosts are to make
/// themselves one in each (RFC 4861, 4.2 and 4.6.2).
fn advertise(place: &Place, prefixes: &[(&str, u8)], addresses: bool) {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (prefix, length) in prefixes {
        let prefix: Ipv6Addr = prefix.parse().expect("a prefix");
        message.extend([3, 4, *length, if addresses { 0xc0 } else { 0x80 }]);
        message.extend([3600_u32.to_be_bytes(), 3600_u32.to_be_bytes(), [0; 4]].concat());
        message.extend(prefix.octets());
    }
    inside(&place.outside, || {
        let far = index(&mut Rtnl::open().expect("rtnetlink"), "far");
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6));
        let raw = UdpSocket::from(raw.expect("raw socket"));
        set_ipv6_multicast_hops(&raw, 255).expect("hops");
        let all_nodes = SocketAddrV6::new("ff02::1".parse().expect("address"), 0, 0, far);
        raw.send_to(&message, all_nodes).expect("sends");
    });
}

/// Advertises until the kernel has believed it: the link-local address of the sender takes a moment to be usable.
fn advertised(place: &Place, prefixes: &[(&str, u8)], addresses: bool, mark: &str) {
    let mut rtnl = Rtnl::open().expect("rtnetlink");
    let mut said = Instant::now() - Duration::from_secs(60);
    until(place, "an advertisement that was said", || {
        if said.elapsed() > Duration::from_millis(500) {
            advertise(place, prefixes, addresses);
            said = Instant::now();
        }
        let routes = rtnl.routes().expect("routes");
        routes.iter().any(|route| route.destination == ip(mark))
    });
}

/// The tray reaches its guest, and the guest the outside.
fn know_each_other(place: &Place, web: &Guest) {
    let tray = netns::current().expect("own namespace");
    for (guest, gateway) in [("10.80.0.10", "10.80.0.1"), ("fd00:80::10", "fd00:80::1")] {
        let inner = Listener::open(&web.namespace, guest);
        assert_eq!(inner.reached_from(&tray), ip(gateway), "{}", place.log());
    }
    let server = Listener::open(&place.outside, OUTSIDE);
    web.reaches(&server);
}

#[test]
fn routes_that_were_there_before_a_network_do_not_lead_away_from_its_guests() {
    on_a_tray_with(BY_ITSELF, |place| {
        place.start_dhcp_server_with(&[ROUTES]);
        place.start_netd();
        until_routed(place, MARK4);
        advertised(place, &PREFIXES, false, MARK6);
        let web = web(place);
        know_each_other(place, &web);
        place.kill_netd();
        place.start_netd();
        know_each_other(place, &web);
    });
}

#[test]
fn routes_that_come_after_a_network_do_not_lead_away_from_its_guests() {
    on_a_tray_with(BY_ITSELF, |place| {
        place.spawn_netd();
        until(place, "an answer", || place.answers());
        let web = web(place);
        place.start_dhcp_server_with(&[ROUTES]);
        until_routed(place, MARK4);
        advertised(place, &PREFIXES, false, MARK6);
        know_each_other(place, &web);
        // An address in the guests' network, which a router may well make the tray take, does not end the network either.
        advertised(
            place,
            &[("fd00:80::", 64), ("fd00:98::", 64)],
            true,
            "fd00:98::",
        );
        let inside_it = |address: &IpAddr| address.to_string().starts_with("fd00:80:");
        until(place, "an address from the router", || {
            place.addresses().iter().any(inside_it)
        });
        place.attach(&lan(), &port("web", 10, &["10.80.0.10", "fd00:80::10"]));
        know_each_other(place, &web);
    });
}

#[test]
fn an_address_of_a_guest_is_not_taken_from_dhcp() {
    on_a_tray_with(BY_ITSELF, |place| {
        place.spawn_netd();
        until(place, "an answer", || place.answers());
        let inner = network("home", &["192.0.2.129/25"]);
        let web = place.guest(&inner, &port("web", 10, &["192.0.2.150"]));
        place.start_dhcp_server_with(&["--dhcp-host=tray-1,192.0.2.150"]);
        until(place, "a refusal", || {
            place.log().contains("192.0.2.150 belongs to a microVM")
        });
        let tray = netns::current().expect("own namespace");
        let listener = Listener::open(&web.namespace, "192.0.2.150");
        assert_eq!(listener.reached_from(&tray), ip("192.0.2.129"));
    });
}
