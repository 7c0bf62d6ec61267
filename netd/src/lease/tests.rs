// SPDX-License-Identifier: Apache-2.0
use super::*;
use racklet_api::handoff::Dhcp4Lease;

fn lease() -> Lease {
    Lease {
        interface: "eth0".into(),
        addresses: vec![],
        gateways: vec![],
        dns: vec![],
        dhcp4: Some(Dhcp4Lease {
            address: [10, 0, 0, 7].into(),
            prefix: 24,
            server: [10, 0, 0, 1].into(),
            gateway: None,
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            mtu: None,
            lifetime: Some(600),
            renew_after: 300,
            rebind_after: 525,
        }),
    }
}

#[test]
fn a_saved_lease_comes_back_older_and_not_at_all_when_it_is_over() {
    let folder = tempfile::tempdir().expect("scratch");
    let (saved, none) = (folder.path().join("lease.json"), folder.path().join("none"));
    let at = Duration::from_secs;
    save(&saved, Some(lease()), at(1000)).expect("saves");
    let quiet = |text: String| panic!("{text}");
    let back = load(&saved, &none, at(1400), quiet).expect("a lease");
    let dhcp = back.dhcp4.expect("by DHCP");
    assert_eq!(
        (dhcp.lifetime, dhcp.renew_after, dhcp.rebind_after),
        (Some(200), 0, 125)
    );
    assert_eq!(load(&saved, &none, at(1600), quiet), None);
    save(&saved, None, at(1600)).expect("forgets");
    assert_eq!(load(&saved, &none, at(1600), quiet), None);
}

#[test]
fn a_broken_file_is_told_of_and_survived() {
    let folder = tempfile::tempdir().expect("scratch");
    let saved = folder.path().join("lease.json");
    fs::write(&saved, "{\"v\":1,\"at\"").expect("writes");
    let mut told = Vec::new();
    let found = load(
        &saved,
        &folder.path().join("none"),
        Duration::ZERO,
        |text| told.push(text),
    );
    assert_eq!(found, None);
    assert!(told[0].contains("asking DHCP"), "{told:?}");
}
