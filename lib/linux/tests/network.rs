// SPDX-License-Identifier: Apache-2.0
//! Netlink, taps and packet sockets against the real kernel, each test in a network namespace of its own.
#![allow(clippy::expect_used, reason = "tests")]

use std::net::IpAddr;
use std::os::fd::AsFd;

use racklet_linux::nft::{
    self, Attachment, Base, Chain, Expression, Family, Hook, Meta, Table, Verdict,
};
use racklet_linux::packet::DhcpSocket;
use racklet_linux::rtnl::{Monitor, News, Route, Rtnl};
use racklet_linux::{netns, tap};

/// Runs a test on a thread in a new network namespace; says loudly when it cannot because the user is not root.
fn isolated(test: impl FnOnce(&mut Rtnl) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to make a network namespace; nothing was tested");
        return;
    }
    std::thread::spawn(|| {
        netns::unshare().expect("a new network namespace");
        test(&mut Rtnl::open().expect("rtnetlink"));
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn index(rtnl: &mut Rtnl, name: &str) -> u32 {
    let link = rtnl.link(name).expect("links are listed");
    link.expect("the link is there").index
}

/// Waits, bounded, until a condition holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never happened: {what}");
}

#[test]
fn a_new_namespace_has_a_loopback_and_no_card() {
    isolated(|rtnl| {
        let links = rtnl.links().expect("links");
        // Some kernels add tunnels of their own.
        assert!(!links.iter().any(|link| link.ethernet), "{links:?}");
        assert!(links[0].loopback && !links[0].up && links[0].name == "lo");
        assert!(rtnl.addresses().expect("addresses").is_empty());
    });
}

#[test]
fn links_addresses_and_routes_are_set_seen_and_taken_away() {
    isolated(|rtnl| {
        rtnl.create_veth("va", "vb").expect("veth");
        let (a, b) = (index(rtnl, "va"), index(rtnl, "vb"));
        rtnl.set_mac(a, [2, 0, 0, 0, 0, 7]).expect("mac");
        rtnl.set_mtu(a, 1400).expect("mtu");
        rtnl.set_alias(a, "racklet test").expect("alias");
        rtnl.set_up(a, true).expect("up");
        rtnl.set_up(b, true).expect("up");
        until("carrier", || {
            rtnl.link("va").expect("links").expect("va").carrier
        });
        let link = rtnl.link("va").expect("links").expect("va");
        assert_eq!(link.mac, Some([2, 0, 0, 0, 0, 7]));
        assert_eq!((link.mtu, link.up, link.ethernet), (1400, true, true));
        assert_eq!(link.alias.as_deref(), Some("racklet test"));
        assert_eq!(link.kind.as_deref(), Some("veth"));

        for (address, length) in [("10.9.0.2", 24), ("fd00:9::2", 64)] {
            // Twice: what is there already is fine.
            rtnl.add_address(a, ip(address), length).expect("address");
            rtnl.add_address(a, ip(address), length).expect("again");
        }
        let addresses = rtnl.addresses().expect("addresses");
        let found = |address| {
            addresses
                .iter()
                .find(|found| found.address == ip(address))
                .copied()
        };
        let v4 = found("10.9.0.2").expect("listed");
        assert_eq!(
            (v4.interface, v4.prefix_length, v4.permanent),
            (a, 24, true)
        );
        assert!(!found("fd00:9::2").expect("listed").tentative);

        for (any, gateway) in [("0.0.0.0", "192.0.2.1"), ("::", "fd00:9::1")] {
            let route = Route {
                destination: ip(any),
                prefix_length: 0,
                // The first one lies outside the subnet: reached on the link all the same.
                gateway: Some(ip(gateway)),
                interface: a,
                metric: 100,
                protocol: Route::OURS,
            };
            rtnl.set_route(&route).expect("route");
            assert!(rtnl.routes().expect("routes").contains(&route), "{any}");
            rtnl.delete_route(&route).expect("deleted");
            assert!(!rtnl.routes().expect("routes").contains(&route));
            rtnl.delete_route(&route).expect("gone already is fine");
        }
        rtnl.delete_address(a, ip("10.9.0.2"), 24).expect("deleted");
        rtnl.delete_address(a, ip("10.9.0.2"), 24)
            .expect("gone already is fine");
        rtnl.delete_link(a).expect("deleted");
        assert_eq!(rtnl.link("vb").expect("links"), None);
        rtnl.delete_link(a).expect("gone already is fine");
    });
}

#[test]
fn a_tap_stays_and_becomes_a_port_of_a_bridge() {
    isolated(|rtnl| {
        rtnl.create_bridge("rkb-lan", [2, 0, 0, 0, 0, 1])
            .expect("bridge");
        let taken = rtnl.create_bridge("rkb-lan", [2, 0, 0, 0, 0, 1]);
        assert!(taken.expect_err("taken").is_existing());
        tap::create("rkt-web", 1234).expect("tap");
        tap::create("rkt-web", 1234).expect_err("the name is taken");
        assert!(matches!(
            tap::create("a-name-too-long-", 0),
            Err(tap::TapError::Name(_))
        ));
        assert!(matches!(tap::create("a%d", 0), Err(tap::TapError::Name(_))));
        let (bridge, port) = (index(rtnl, "rkb-lan"), index(rtnl, "rkt-web"));
        rtnl.set_master(port, Some(bridge)).expect("enslave");
        rtnl.guard_port(port).expect("guard");
        rtnl.set_up(port, true).expect("up");
        let link = rtnl.link("rkt-web").expect("links").expect("tap");
        assert_eq!(
            (link.master, link.kind.as_deref()),
            (Some(bridge), Some("tun"))
        );
        rtnl.set_master(port, None).expect("release");
        assert_eq!(
            rtnl.link("rkt-web").expect("links").expect("tap").master,
            None
        );
        rtnl.delete_link(port).expect("delete");
        assert_eq!(rtnl.link("rkt-web").expect("links"), None);
    });
}

#[test]
fn the_monitor_tells_of_new_links_and_addresses() {
    isolated(|rtnl| {
        let mut monitor = Monitor::open().expect("monitor");
        let _ = monitor.as_fd();
        rtnl.create_veth("va", "vb").expect("veth");
        let a = index(rtnl, "va");
        rtnl.add_address(a, ip("10.9.0.2"), 24).expect("address");
        let (mut link, mut address) = (false, false);
        until("link and address", || {
            for news in monitor.receive().expect("news") {
                link |= matches!(&news, News::Link(link) if link.name == "va");
                address |= matches!(&news, News::Address(found) if found.interface == a);
            }
            link && address
        });
        rtnl.delete_link(a).expect("delete");
        until("gone", || {
            let news = monitor.receive().expect("news");
            news.contains(&News::LinkGone { index: a })
        });
    });
}

fn table(rules: Vec<Vec<Expression>>) -> Table {
    Table {
        family: Family::Inet,
        name: "racklet".into(),
        chains: vec![Chain {
            name: "in".into(),
            attachment: Some(Attachment {
                hook: Hook::Input,
                priority: 0,
                nat: false,
                accept: true,
            }),
            rules,
        }],
    }
}

/// Whether a datagram to the loopback arrives.
fn arrives(port: u16) -> bool {
    use std::net::UdpSocket;
    let receiver = UdpSocket::bind(("127.0.0.1", port)).expect("bind");
    receiver
        .set_read_timeout(Some(std::time::Duration::from_millis(200)))
        .expect("timeout");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
    sender.send_to(b"x", ("127.0.0.1", port)).expect("send");
    receiver.recv(&mut [0; 8]).is_ok()
}

#[test]
fn a_table_takes_effect_is_replaced_as_a_whole_and_removed() {
    isolated(|rtnl| {
        let lo = index(rtnl, "lo");
        rtnl.set_up(lo, true).expect("up");
        let drop_port = |port: u16| {
            vec![
                Expression::Is(Meta::InputName("lo".into())),
                Expression::Is(Meta::Protocol(2)),
                Expression::Is(Meta::Transport(17)),
                Expression::Bytes {
                    base: Base::Transport,
                    offset: 2,
                    mask: vec![],
                    value: port.to_be_bytes().to_vec(),
                    equal: true,
                },
                Expression::Counter,
                Expression::Verdict(Verdict::Drop),
            ]
        };
        nft::replace(&[table(vec![drop_port(4000)])]).expect("table");
        assert!(!arrives(4000) && arrives(4001));
        nft::replace(&[table(vec![drop_port(4001)])]).expect("replaced");
        assert!(arrives(4000) && !arrives(4001));
        let none = Table {
            chains: vec![],
            ..table(vec![])
        };
        nft::replace(std::slice::from_ref(&none)).expect("removed");
        nft::replace(&[none]).expect("removing what is not there is fine");
        assert!(arrives(4000) && arrives(4001));
    });
}

#[test]
fn a_refused_transaction_changes_nothing_and_gives_the_reason() {
    isolated(|rtnl| {
        let lo = index(rtnl, "lo");
        rtnl.set_up(lo, true).expect("up");
        let verdict = |verdict| vec![Expression::Verdict(verdict)];
        let block = table(vec![vec![
            Expression::Is(Meta::Transport(17)),
            Expression::Verdict(Verdict::Drop),
        ]]);
        nft::replace(&[block]).expect("table");
        let broken = table(vec![verdict(Verdict::Jump("nowhere".into()))]);
        let error = nft::replace(&[broken]).expect_err("refused");
        assert_eq!(error.errno(), Some(2), "{error}");
        assert!(!arrives(4000), "the old table is still in force");
    });
}

#[test]
fn the_dhcp_socket_hears_port_68_only_and_speaks_without_an_address() {
    isolated(|rtnl| {
        rtnl.create_veth("va", "vb").expect("veth");
        let (a, b) = (index(rtnl, "va"), index(rtnl, "vb"));
        rtnl.set_up(a, true).expect("up");
        rtnl.set_up(b, true).expect("up");
        until("carrier", || {
            let links = rtnl.links().expect("links");
            links
                .iter()
                .filter(|link| link.ethernet && link.carrier)
                .count()
                == 2
        });
        let (ours, theirs) = (
            DhcpSocket::open(a).expect("socket"),
            DhcpSocket::open(b).expect("socket"),
        );
        // IPv4, UDP, 0.0.0.0:67 to 255.255.255.255, without payload; the last two: header and UDP checksum unset.
        let packet = |port: u8, fragment: u8| -> Vec<u8> {
            let mut bytes = vec![0x45, 0, 0, 28, 0, 0, fragment, 0, 64, 17, 0, 0, 0, 0, 0, 0];
            bytes.extend([255, 255, 255, 255, 0, 67, 0, port, 0, 8, 0, 0]);
            bytes
        };
        // The first packets on a new link may be lost, so all are sent until one is heard.
        let mut heard = Vec::new();
        until("the packet", || {
            for bytes in [packet(69, 0), packet(68, 0x20), packet(68, 0)] {
                ours.broadcast(&bytes).expect("send");
            }
            heard.extend(theirs.receive().expect("receive"));
            !heard.is_empty()
        });
        while let Some(more) = theirs.receive().expect("receive") {
            heard.push(more);
        }
        assert!(
            heard.iter().all(|received| received.bytes == packet(68, 0)),
            "{heard:?}"
        );
    });
}
