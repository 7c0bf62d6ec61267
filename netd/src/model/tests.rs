// SPDX-License-Identifier: Apache-2.0
//! Which requests are taken in and which are refused, and why.

use super::*;

pub(crate) fn bridge(name: &str, gateways: &[&str]) -> Bridge {
    Bridge {
        name: name.into(),
        gateways: gateways.iter().map(|g| g.parse().expect("cidr")).collect(),
        nat: true,
    }
}

pub(crate) fn port(workload: &str, last: u8, addresses: &[&str]) -> Port {
    Port {
        workload: workload.into(),
        mac: Mac([2, 0x52, 0x4b, 0, 0, last]),
        addresses: addresses.iter().map(|a| a.parse().expect("ip")).collect(),
        uid: 1000,
    }
}

fn lan() -> Bridge {
    bridge("lan", &["10.80.0.1/24", "fd00:80::1/64"])
}

/// The reason for which a request is refused after `web` was attached to `lan`.
fn refusal(bridge: &Bridge, port: &Port) -> String {
    let mut desired = Desired::default();
    let web = super::tests::port("web", 1, &["10.80.0.10", "fd00:80::10"]);
    desired.attach(&lan(), &web, &[]).expect("the first fits");
    let before = desired.clone();
    let uplink = ["192.168.7.20/24".parse().expect("cidr")];
    let error = desired.attach(bridge, port, &uplink).expect_err("refused");
    assert_eq!(desired, before, "a refused request changes nothing");
    error.to_string()
}

#[test]
fn an_address_that_a_workload_has_is_not_given_to_another() {
    let why = refusal(&lan(), &port("db", 2, &["10.80.0.10"]));
    assert_eq!(
        why,
        "workload db cannot have 10.80.0.10: workload web has it; give one of them another address"
    );
    assert!(
        refusal(&lan(), &port("db", 2, &["10.80.0.11", "fd00:80::10"])).contains("fd00:80::10")
    );
    assert!(refusal(&lan(), &port("db", 1, &["10.80.0.11"])).contains("workload web"));
}

#[test]
fn addresses_that_are_not_a_workloads_are_refused() {
    for address in [
        "10.80.0.1",
        "10.80.0.0",
        "10.80.0.255",
        "10.80.1.5",
        "fd00:80::1",
        "fd00:81::5",
    ] {
        assert!(
            refusal(&lan(), &port("db", 2, &[address])).contains("no host address"),
            "{address}"
        );
    }
    assert!(refusal(&lan(), &port("db", 2, &[])).contains("needs an address"));
    assert!(refusal(&lan(), &port("db", 2, &["10.80.0.5", "10.80.0.6"])).contains("at most one"));
}

#[test]
fn overlapping_networks_are_refused() {
    let db = port("db", 2, &["10.80.0.10"]);
    assert!(refusal(&bridge("big", &["10.80.1.1/16"]), &db).contains("overlaps network lan"));
    let db = port("db", 2, &["192.168.7.9"]);
    let why = refusal(&bridge("home", &["192.168.7.1/25"]), &db);
    assert!(
        why.contains("that the tray itself is on (192.168.7.20/24)"),
        "{why}"
    );
}

#[test]
fn impossible_gateways_and_names_are_refused() {
    let db = port("db", 2, &["10.90.0.10"]);
    for gateway in [
        "10.90.0.0/24",
        "10.90.0.255/24",
        "127.0.0.1/8",
        "10.90.0.1/31",
        "224.0.0.1/24",
        "fe80::1/64",
    ] {
        let why = refusal(&bridge("new", &[gateway]), &db);
        assert!(why.contains("cannot be "), "{gateway}: {why}");
    }
    assert!(refusal(&bridge("new", &[]), &db).contains("needs a gateway"));
    assert!(!refusal(&bridge("../x", &["10.90.0.1/24"]), &db).is_empty());
    let mut multicast = port("db", 2, &["10.80.0.11"]);
    multicast.mac.0[0] = 3;
    assert!(refusal(&lan(), &multicast).contains("no card may have"));
}

#[test]
fn a_workload_may_move_and_take_a_released_address() {
    let mut desired = Desired::default();
    let attach = |desired: &mut Desired, bridge: &Bridge, port: &Port| {
        desired.attach(bridge, port, &[]).expect("fits");
    };
    attach(&mut desired, &lan(), &port("web", 1, &["10.80.0.10"]));
    attach(&mut desired, &lan(), &port("web", 1, &["10.80.0.11"]));
    attach(&mut desired, &lan(), &port("db", 2, &["10.80.0.10"]));
    attach(
        &mut desired,
        &bridge("dmz", &["10.81.0.1/24"]),
        &port("web", 1, &["10.81.0.9"]),
    );
    assert_eq!(desired.taps.len(), 2);
    desired.retain(&["dmz".into()]).expect("retains");
    assert_eq!(
        desired.taps.keys().map(Name::as_str).collect::<Vec<_>>(),
        ["web"]
    );
    desired.detach("web").expect("detaches");
    desired.detach("web").expect("gone already is fine");
    assert!(desired.taps.is_empty());
}
