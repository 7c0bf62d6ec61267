// SPDX-License-Identifier: Apache-2.0
//! The real netd on the real kernel: what guests reach, what they do not, and that killing netd disturbs nobody.

mod frames;
mod memory;
mod name;
mod place;
mod reserved;
mod routes;

use std::fs;
use std::io::{Read, Write};

use racklet_api::netd::{Bridge, Op};
use racklet_linux::netns;
use racklet_linux::rtnl::Rtnl;

use place::{
    Guest, Listener, OUTSIDE, Place, TRAY, index, inside, ip, network, on_a_tray, on_a_tray_with,
    port,
};

fn lan() -> Bridge {
    network("lan", &["10.80.0.1/24", "fd00:80::1/64"])
}

fn web(place: &Place) -> Guest {
    place.guest(&lan(), &port("web", 10, &["10.80.0.10", "fd00:80::10"]))
}

fn db(place: &Place) -> Guest {
    place.guest(&lan(), &port("db", 11, &["10.80.0.11", "fd00:80::11"]))
}

fn forwarding() -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/sys/net/{file}")).expect("sysctl");
    read("ipv4/ip_forward").trim().to_owned() + read("ipv6/conf/all/forwarding").trim()
}

#[test]
fn guests_reach_the_outside_through_the_trays_address() {
    on_a_tray(|place| {
        assert_eq!(forwarding(), "00", "no network, no forwarding");
        let web = web(place);
        assert_eq!(forwarding(), "11");
        let server = Listener::open(&place.outside, OUTSIDE);
        assert_eq!(web.reaches(&server), ip(TRAY), "{}", place.log());
        let server = Listener::open(&place.outside, "2001:db8::1");
        assert_eq!(web.reaches(&server), ip("2001:db8::2"));
        // Nobody out there gets in.
        let inner = Listener::open(&web.namespace, "10.80.0.10");
        assert!(inner.is_cut_off(&place.outside));
    });
}

#[test]
fn guests_of_one_network_reach_each_other_and_no_other_network() {
    on_a_tray(|place| {
        let (web, db) = (web(place), db(place));
        for (family, source) in [("10.80.0.11", "10.80.0.10"), ("fd00:80::11", "fd00:80::10")] {
            let server = Listener::open(&db.namespace, family);
            assert_eq!(web.reaches(&server), ip(source), "{}", place.log());
        }
        let dmz = network("dmz", &["10.81.0.1/24"]);
        let other = place.guest(&dmz, &port("other", 12, &["10.81.0.10"]));
        let server = Listener::open(&db.namespace, "10.80.0.11");
        assert!(other.is_cut_off_from(&server));
        let server = Listener::open(&place.outside, OUTSIDE);
        assert_eq!(other.reaches(&server), ip(TRAY), "it has a way out");
    });
}

#[test]
fn an_isolated_network_has_no_way_out() {
    on_a_tray(|place| {
        let mut isolated = lan();
        isolated.nat = false;
        let guest = |name, last, address| place.guest(&isolated, &port(name, last, &[address]));
        let (one, two) = (guest("one", 1, "10.80.0.21"), guest("two", 2, "10.80.0.22"));
        assert_eq!(forwarding(), "00");
        let neighbour = Listener::open(&two.namespace, "10.80.0.22");
        assert_eq!(one.reaches(&neighbour), ip("10.80.0.21"));
        let server = Listener::open(&place.outside, OUTSIDE);
        assert!(one.is_cut_off_from(&server));
    });
}

#[test]
fn guests_do_not_reach_the_trays_own_services() {
    on_a_tray(|place| {
        let web = web(place);
        let tray = netns::current().expect("own namespace");
        for address in ["10.80.0.1", TRAY, "fd00:80::1"] {
            let service = Listener::open(&tray, address);
            assert!(web.is_cut_off_from(&service), "{address}");
        }
        let service = Listener::open(&tray, TRAY);
        assert_eq!(service.reached_from(&place.outside), ip(OUTSIDE));
        // The tray itself reaches its guests.
        let inner = Listener::open(&web.namespace, "10.80.0.10");
        assert_eq!(inner.reached_from(&tray), ip("10.80.0.1"));
    });
}

#[test]
fn a_guest_with_anothers_address_is_heard_by_nobody() {
    on_a_tray(|place| {
        let (web, db) = (web(place), db(place));
        let server = Listener::open(&db.namespace, "10.80.0.11");
        let outside = Listener::open(&place.outside, OUTSIDE);
        assert_eq!(web.reaches(&server), ip("10.80.0.10"));
        let readdress = |from: &str, to: &str| {
            inside(&web.namespace, || {
                let mut rtnl = Rtnl::open().expect("rtnetlink");
                let card = index(&mut rtnl, "eth0");
                rtnl.delete_address(card, ip(from), 24).expect("delete");
                rtnl.add_address(card, ip(to), 24).expect("add");
                let route = racklet_linux::rtnl::Route {
                    destination: ip("0.0.0.0"),
                    prefix_length: 0,
                    gateway: Some(ip("10.80.0.1")),
                    interface: card,
                    metric: 100,
                    protocol: racklet_linux::rtnl::Route::OURS,
                };
                // Whoever claims to be the gateway has none.
                if to != "10.80.0.1" {
                    rtnl.set_route(&route).expect("route");
                }
            });
        };
        let remac = |last: u8| {
            inside(&web.namespace, || {
                let mut rtnl = Rtnl::open().expect("rtnetlink");
                let card = index(&mut rtnl, "eth0");
                rtnl.set_mac(card, [2, 0x52, 0x4b, 0, 0, last])
                    .expect("mac");
            });
        };
        // An address that nobody has, and the gateway's.
        for stolen in ["10.80.0.77", "10.80.0.1"] {
            readdress("10.80.0.10", stolen);
            assert!(web.is_cut_off_from(&server), "{stolen}");
            assert!(web.is_cut_off_from(&outside), "{stolen}");
            readdress(stolen, "10.80.0.10");
        }
        remac(99);
        assert!(web.is_cut_off_from(&server));
        remac(10);
        assert_eq!(web.reaches(&server), ip("10.80.0.10"), "itself again");
        assert_eq!(web.reaches(&outside), ip(TRAY));
    });
}

#[test]
fn two_workloads_claiming_one_address_are_told_apart() {
    on_a_tray(|place| {
        let _web = place.attach(&lan(), &port("web", 10, &["10.80.0.10"]));
        let response = place.ask(Op::Attach {
            network: lan(),
            port: port("db", 11, &["10.80.0.10"]),
        });
        let reason = response.error.expect("refused");
        assert!(reason.contains("workload web has it"), "{reason}");
        let response = place.ask(Op::Attach {
            network: network("home", &["192.0.2.129/25"]),
            port: port("db", 11, &["192.0.2.130"]),
        });
        let reason = response.error.expect("refused");
        assert!(reason.contains("tray itself is on"), "{reason}");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        assert_eq!(rtnl.link("rkt-db").expect("links"), None);
    });
}

#[test]
fn killing_netd_disturbs_no_connection_and_the_next_one_knows_everything() {
    on_a_tray(|place| {
        let web = web(place);
        let server = Listener::open(&place.outside, OUTSIDE);
        let mut ours = server.connect(&web.namespace);
        let (mut theirs, _) = server.accept();
        let mut talk = |what: &str| {
            ours.write_all(b"ping").expect(what);
            let mut heard = [0; 4];
            theirs.read_exact(&mut heard).expect(what);
            assert_eq!(&heard, b"ping");
        };
        talk("before");
        let mut rtnl = Rtnl::open().expect("rtnetlink");
        let before = [index(&mut rtnl, "rkb-lan"), index(&mut rtnl, "rkt-web")];
        place.kill_netd();
        talk("while netd is dead");
        place.start_netd();
        talk("after the restart");
        let after = [index(&mut rtnl, "rkb-lan"), index(&mut rtnl, "rkt-web")];
        assert_eq!(before, after, "the same interfaces");
        let status = place.ask(Op::Status).status.expect("status");
        assert_eq!(status.taps["web"], "rkt-web");
        let refused = place.ask(Op::Attach {
            network: lan(),
            port: port("db", 11, &["10.80.0.10"]),
        });
        assert!(
            refused.error.expect("refused").contains("web"),
            "remembers addresses"
        );
        // Asked again, as the hypervisor does: nothing changes.
        let again = place.attach(&lan(), &port("web", 10, &["10.80.0.10", "fd00:80::10"]));
        assert_eq!(
            (again.tap.as_str(), again.dns),
            ("rkt-web", vec![ip(OUTSIDE)])
        );
        talk("after attaching again");
    });
}

#[test]
fn a_lease_is_kept_over_a_restart_without_its_server() {
    on_a_tray_with(r#"{"interface":"eth0"}"#, |place| {
        place.start_dhcp_server();
        place.start_netd();
        let leased = place.addresses();
        let web = web(place);
        let server = Listener::open(&place.outside, OUTSIDE);
        let source = web.reaches(&server);
        assert!(leased.contains(&source), "{source} is not of {leased:?}");
        place.kill_netd();
        place.stop_dhcp_server();
        place.start_netd();
        assert_eq!(place.addresses(), leased);
        assert_eq!(web.reaches(&server), source);
        assert!(
            place.log().contains("from DHCP server 192.0.2.1"),
            "{}",
            place.log()
        );
    });
}

#[test]
fn a_tray_without_dhcp_is_healthy_and_says_what_it_lacks() {
    on_a_tray_with(r#"{"interface":"eth0"}"#, |place| {
        let init = place.init();
        place.start_dhcp_server();
        place.start_netd();
        let mut said = Vec::new();
        while !said.iter().any(|text: &String| text.starts_with("eth0 ")) {
            let (healthy, message) = place.hear_health(&init);
            assert!(healthy, "{message}");
            said.push(message);
            assert!(said.len() < 10, "{said:?}");
        }
        assert!(
            said[0].contains("no address yet") || said[0].contains("no carrier"),
            "{said:?}"
        );
    });
}

#[test]
fn a_tray_without_a_card_is_not_healthy() {
    on_a_tray_with(r#"{"interface":"eth9"}"#, |place| {
        let init = place.init();
        place.spawn_netd();
        let (healthy, message) = place.hear_health(&init);
        assert!(!healthy && message.contains("no network card"), "{message}");
    });
}

#[test]
fn what_is_no_longer_wanted_goes_away_and_forwarding_with_it() {
    on_a_tray(|place| {
        let _web = place.attach(&lan(), &port("web", 10, &["10.80.0.10"]));
        let dmz = network("dmz", &["10.81.0.1/24"]);
        let _other = place.attach(
            &dmz,
            &port("a-workload-with-a-long-name", 12, &["10.81.0.10"]),
        );
        let ours = || {
            let mut rtnl = Rtnl::open().expect("rtnetlink");
            let links = rtnl.links().expect("links");
            let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
            names.retain(|name| name.starts_with("rk"));
            names.sort();
            names
        };
        assert_eq!(ours().len(), 4);
        let detach = Op::Detach {
            workload: "web".into(),
        };
        assert!(
            place.ask(detach.clone()).ok && place.ask(detach).ok,
            "twice is fine"
        );
        let retain = |networks: &[&str]| Op::Retain {
            networks: networks.iter().map(|&n| n.to_owned()).collect(),
        };
        assert!(place.ask(retain(&["dmz"])).ok);
        let left = ours();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[1].starts_with("rkt-a-wo."), "{left:?}");
        assert!(place.ask(retain(&[])).ok);
        assert_eq!(ours(), [""; 0]);
        assert_eq!(forwarding(), "00");
    });
}
