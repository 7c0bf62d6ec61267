// SPDX-License-Identifier: Apache-2.0
//! Mistakes within the circuits: the first link, before anything is drawn. More of them are beside each check in `kicad/src/check`.

use racklet_kicad::{
    boards,
    design::{Design, Part, Pin},
};

fn part<'d>(design: &'d mut Design, reference: &str) -> &'d mut Part {
    let mut parts = design.parts.iter_mut();
    parts.find(|part| part.reference == reference).unwrap()
}

fn pin<'d>(design: &'d mut Design, reference: &str, named: &str) -> &'d mut Pin {
    let pins = &mut part(design, reference).pins;
    pins.iter_mut()
        .find(|pin| pin.number == named || pin.name == named)
        .unwrap()
}

#[track_caller]
fn refused(says: &str, spoil: impl FnOnce(&mut Design, &mut Design)) {
    let mut all = boards::all();
    let [bmc, backplane] = &mut all[..] else {
        panic!("a third board wants a third argument here")
    };
    spoil(&mut bmc.design, &mut backplane.design);
    let found = boards::faults(&all);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|it| it.contains(says)),
        "nothing of {says:?}, only {said:?}"
    );
}

#[test]
fn a_wrong_address_is_refused() {
    refused("U6: is strapped to 0x41, pins.toml says 0x40", |bmc, _| {
        pin(bmc, "U6", "A0").net = "3V3";
    });
}

#[test]
fn two_parts_of_one_address_are_refused() {
    refused("both answer to", |bmc, _| {
        let mut twin = bmc.part("U6").unwrap().clone();
        twin.reference = "U99";
        bmc.parts.push(twin);
    });
}

#[test]
fn a_changed_pin_of_the_controller_is_refused() {
    refused("GPIO8 is on \"RS485_RX\"", |bmc, _| {
        pin(bmc, "U1", "GPIO8").net = "RS485_RX";
        pin(bmc, "U1", "GPIO9").net = "RS485_TX";
    });
}

#[test]
fn a_missing_decoupling_capacitor_is_refused() {
    refused("bmc U1: no capacitor for pad 6 on 1V1", |bmc, _| {
        bmc.parts.retain(|part| part.reference != "C13");
    });
}

#[test]
fn a_swapped_pair_at_a_slot_is_refused() {
    refused("J13: contact a14 is on \"RS485_B\"", |_, backplane| {
        pin(backplane, "J13", "a14").net = "RS485_B";
        pin(backplane, "J13", "a15").net = "RS485_A";
    });
}

#[test]
fn a_wrong_pad_of_the_pis_header_is_refused() {
    refused("J4: pad 2 is V5 and on the net \"BUSBAR\"", |bmc, _| {
        pin(bmc, "J4", "2").net = "BUSBAR";
    });
}

#[test]
fn a_gate_that_would_feed_a_tray_that_is_off_is_refused() {
    refused("U10: goes", |bmc, _| pin(bmc, "U10", "5").net = "3V3");
}

#[test]
fn a_wrong_value_of_the_converters_divider_is_refused() {
    refused("bmc tray's supply (V): ", |bmc, _| {
        part(bmc, "R26").value = "27k 0.1%".into()
    });
}

#[test]
fn a_missing_pull_up_is_refused() {
    refused("I2C_SDA: has 0 pull-ups", |bmc, _| {
        let pulls = |part: &Part| {
            let on = |net| part.pins.iter().any(|pin| pin.net == net);
            part.reference.starts_with('R') && on("I2C_SDA") && on("3V3")
        };
        bmc.parts.retain(|part| !pulls(part));
    });
}

#[test]
fn a_clamp_that_makes_a_short_of_a_reversed_busbar_is_refused() {
    refused("bmc D3: conducts when BUSBAR is reversed", |bmc, _| {
        part(bmc, "D3").bom = Some("smaj24a")
    });
}

#[test]
fn a_fans_transistor_that_3_3_v_does_not_open_wide_is_refused() {
    refused("backplane Q5: wants 3.5 V", |_, backplane| {
        part(backplane, "Q5").bom = Some("2n7002")
    });
}

#[test]
fn a_bus_that_a_controller_in_reset_drives_is_refused() {
    refused("backplane U14: has 3.20 V at DE", |_, backplane| {
        backplane.parts.retain(|part| part.reference != "R41");
    });
}

#[test]
fn a_fuse_that_opens_in_warm_air_is_refused() {
    refused("RMC's fuse F1 at USB-C's first 4.75 V", |_, backplane| {
        part(backplane, "F1").value = "0.3 A / 30 V".into()
    });
}

#[test]
fn a_current_that_a_pad_of_the_controller_does_not_bear_is_refused() {
    refused("eFuse's current at the controller", |_, backplane| {
        part(backplane, "R27").value = "18k".into()
    });
}
