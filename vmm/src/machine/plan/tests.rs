// SPDX-License-Identifier: Apache-2.0
use super::*;

fn config(disks: usize, cards: usize) -> VmConfig {
    let disk = |n| format!(r#"{{"path":"/disk{n}","read_only":{}}}"#, n == 0);
    let card = |n| format!(r#"{{"tap":"tap{n}","mac":"02:00:00:00:00:0{n}"}}"#);
    let list =
        |count, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    let text = format!(
        r#"{{"v":1,"name":"web","cpus":2,"memory_mib":4096,"kernel":"/k","initramfs":["/i"],"arguments":"","disks":[{}],
        "networks":[{}],"vsock_cid":77,"confinement":{{"uid":700,"gid":700}}}}"#,
        list(disks, &disk),
        list(cards, &card)
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn devices_have_the_configurations_order_and_the_sockets_are_found() {
    for (disks, cards) in [(0, 0), (1, 0), (0, 1), (2, 1), (8, 4)] {
        let config = config(disks, cards);
        let plan = Plan::new(&config);
        let what: Vec<_> = plan.devices.iter().map(|d| &d.what).collect();
        let expected: Vec<What<'_>> = (config.disks.iter().map(What::Disk))
            .chain(config.networks.iter().map(What::Card))
            .chain([What::Sockets(77), What::Entropy, What::Balloon])
            .collect();
        assert_eq!(what, expected.iter().collect::<Vec<_>>());
        let sockets = &plan.devices[usize::from(plan.sockets)];
        assert_eq!(sockets.what, What::Sockets(77), "{disks} {cards}");
        let balloon = &plan.devices[usize::from(plan.balloon)];
        assert_eq!(balloon.what, What::Balloon, "{disks} {cards}");
        let named: Vec<String> = (0..disks)
            .map(|n| format!("disk{n}"))
            .chain((0..cards).map(|n| format!("card{n}")))
            .chain(["sockets", "entropy", "balloon"].map(str::to_owned))
            .collect();
        assert_eq!(plan.names, named);
    }
}

#[test]
fn the_largest_machine_has_a_place_and_a_line_for_each_device() {
    let config = config(8, 4);
    let plan = Plan::new(&config);
    assert_eq!(plan.devices.len(), 15);
    assert!(plan.devices.len() <= arch::MOST_DEVICES as usize);
    for (n, device) in plan.devices.iter().enumerate() {
        assert_eq!(usize::from(device.number), n);
        assert_eq!(arch::device_at(device.registers), Some((n, 0)));
        let same = |other: &&Place<'_>| other.line == device.line;
        assert_eq!(plan.devices.iter().filter(same).count(), 1);
    }
    assert_eq!(plan.ram, arch::ram(4096));
}

#[test]
fn spare_places_are_behind_the_disks_and_before_the_cards() {
    let mut config = config(2, 1);
    config.spare_disks = 6;
    let plan = Plan::new(&config);
    assert_eq!(plan.devices.len(), 12);
    assert_eq!(plan.names[7..9], ["disk7", "card0"]);
    for (n, device) in plan.devices.iter().enumerate() {
        assert_eq!(device.what == What::Spare, (2..8).contains(&n), "{n}");
    }
    assert_eq!(usize::from(plan.sockets), 9);
    assert_eq!(plan.devices[9].what, What::Sockets(77));
}

#[test]
fn archives_begin_where_a_kernel_looks_for_them() {
    for (lengths, places, total) in [
        (&[][..], &[][..], 0),
        (&[512], &[0], 512),
        (&[1, 4, 7], &[0, 4, 8], 16),
    ] {
        assert_eq!(archives(lengths.iter().copied()), (places.to_vec(), total));
    }
}
