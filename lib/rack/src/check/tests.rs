// SPDX-License-Identifier: Apache-2.0
//! What objects may not say beside each other.

use crate::testing::*;

#[test]
fn two_workloads_cannot_claim_one_address() {
    let mut files = good();
    files.insert(
        "workloads/api.yaml".into(),
        WEB.replace("name: web", "name: api"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert_eq!(
        problems,
        "workloads/web.yaml:12:33: spec.network: workload api has the address 10.80.0.10 as well"
    );
}

#[test]
fn two_releases_cannot_claim_one_tray() {
    let mut files = good();
    files.insert(
        "releases/edge.yaml".into(),
        RELEASE.replace("name: stable", "name: edge"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert!(
        problems.contains("tray tray-1 is covered by release edge as well"),
        "{problems}"
    );
}

#[test]
fn networks_may_not_overlap_and_stay_inside_the_rack() {
    let mut files = good();
    files.insert(
        "networks/wide.yaml".into(),
        NETWORK
            .replace("lan", "wide")
            .replace("10.80.0.0/24", "10.80.0.0/16"),
    );
    files.insert(
        "rack.yaml".into(),
        format!("{RACK}  networkPrefixes: [10.80.0.0/23]\n"),
    );
    let problems = load_files(&files).expect_err("must be refused").to_string();
    assert!(
        problems.contains("10.80.0.0/16 overlaps with network lan"),
        "{problems}"
    );
    assert!(
        problems.contains("10.80.0.0/16 is outside `spec.networkPrefixes`"),
        "{problems}"
    );
}

#[test]
fn what_finds_no_room_on_its_tray_is_refused() {
    let mut files = good();
    let tray = TRAY.replace("memory: 64Gi", "memory: 1Gi\n  cpus: 2");
    files.insert("trays/tray-1.yaml".to_owned(), tray);
    assert_eq!(state(&files).warnings, []);
    for number in 0..20 {
        let workload = WEB
            .replace("name: web}", &format!("name: big-{number}}}"))
            .replace("memory: 128Mi", "memory: 8Gi")
            .replace(", address: 10.80.0.10", "");
        files.insert(format!("workloads/big-{number}.yaml"), workload);
    }
    let problems = load_files(&files).expect_err("20 times 8 GiB on 1 GiB");
    assert_eq!(problems.list().len(), 20, "{problems}");
    assert!(
        problems
            .to_string()
            .contains("workloads/big-0.yaml:9:11: spec.memory: on tray tray-1 it needs 8200 MiB"),
        "{problems}"
    );
    files.retain(|name, _| !name.contains("big"));
    // Two of 800 MiB: together with what there is, twice what 1 GiB leaves them, and not without.
    for number in 0..2 {
        let workload = WEB
            .replace("name: web}", &format!("name: half-{number}}}"))
            .replace("memory: 128Mi", "memory: 800Mi")
            .replace(", address: 10.80.0.10", "");
        files.insert(format!("workloads/half-{number}.yaml"), workload);
    }
    let problems = load_files(&files).expect_err("more than there is");
    assert!(problems.to_string().contains("half-1.yaml"), "{problems}");
    let over = TRAY.replace("memory: 64Gi", "memory: 1Gi\n  cpus: 2\n  overcommit: 200");
    let stated = files.insert("trays/tray-1.yaml".to_owned(), over);
    assert_eq!(state(&files).warnings, []);
    files.insert(
        "trays/tray-1.yaml".to_owned(),
        stated.expect("it was there"),
    );
    files.retain(|name, _| !name.contains("half"));
    files.insert(
        "workloads/web.yaml".to_owned(),
        WEB.replace("  memory:", "  cpus: 3\n  memory:"),
    );
    let problems = load_files(&files).expect_err("3 of 2 processors");
    assert!(
        problems
            .to_string()
            .contains("spec.cpus is 3, the tray has 2"),
        "{problems}"
    );
    // Without a word about it only the tray itself can tell.
    files.insert(
        "trays/tray-1.yaml".to_owned(),
        TRAY.replace("  memory: 64Gi\n", ""),
    );
    assert!(
        state(&files).warnings[0]
            .to_string()
            .contains("without `memory`")
    );
}

#[test]
fn a_tray_without_release_is_only_a_warning() {
    let mut files = good();
    files.remove("releases/stable.yaml");
    let state = state(&files);
    assert_eq!(state.warnings.len(), 1);
    assert_eq!(state.warnings[0].file, "trays/tray-1.yaml");
}

#[test]
fn chosen_addresses_are_distinct_usable_and_stable() {
    let mut files = good();
    for i in 0..200 {
        let own = format!("vm-{i}");
        let text = WEB
            .replace("name: web", &format!("name: {own}"))
            .replace(", address: 10.80.0.10", "");
        files.insert(format!("workloads/{own}.yaml"), text);
    }
    let state = state(&files);
    let lan = state.networks[&name("lan")].ipv4.expect("v4");
    let mut seen = std::collections::BTreeSet::new();
    for (workload, spec) in &state.workloads {
        let address = spec
            .network
            .as_ref()
            .and_then(|n| n.address)
            .expect("an address");
        assert!(
            lan.is_host(address.into()) && lan.nth(1) != Some(address.into()),
            "{workload}: {address}"
        );
        assert!(seen.insert(address), "{workload}: {address} twice");
    }
    assert_eq!(state, crate::testing::state(&files));
}

#[test]
fn a_full_network_is_reported() {
    let mut files = good();
    files.insert("networks/lan.yaml".into(), NETWORK.replace("/24", "/30"));
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace(", address: 10.80.0.10", ""),
    );
    assert!(load_files(&files).is_ok(), "one workload fits");
    files.insert(
        "workloads/api.yaml".into(),
        WEB.replace("name: web", "name: api")
            .replace(", address: 10.80.0.10", ""),
    );
    let problems = load_files(&files).expect_err("two do not").to_string();
    assert!(
        problems.contains("network lan has no free address"),
        "{problems}"
    );
}

#[test]
fn a_selector_places_on_one_matching_tray_and_stays_there() {
    let mut files = good();
    for i in 2..6 {
        files.insert(
            format!("trays/tray-{i}.yaml"),
            TRAY.replace("tray-1", &format!("tray-{i}")),
        );
    }
    files.insert(
        "trays/other.yaml".into(),
        TRAY.replace("tray-1", "other")
            .replace("zone: left", "zone: right"),
    );
    files.insert(
        "workloads/web.yaml".into(),
        WEB.replace("tray: tray-1", "traySelector: {matchLabels: {zone: left}}"),
    );
    let tray = state(&files).workloads[&name("web")].tray.clone();
    assert_ne!(tray, name("other"));
    let bystander = (1..6)
        .map(|i| name(&format!("tray-{i}")))
        .find(|t| *t != tray)
        .expect("several");
    files.remove(&format!("trays/{bystander}.yaml"));
    assert_eq!(
        state(&files).workloads[&name("web")].tray,
        tray,
        "a bystander left"
    );
    files.remove(&format!("trays/{tray}.yaml"));
    assert_ne!(state(&files).workloads[&name("web")].tray, tray);
}
