// SPDX-License-Identifier: Apache-2.0
//! The layout rules of the backplane, each with the datasheet that has it.

use super::copper::Copper;
use super::current::{Way, narrowest, narrowest_beyond, narrowest_to_all};
use super::distance::{apart, close, decoupling, hot_loop, no_longer, thermal_vias};
use super::pairs::{impedance, matched, over_ground};
use super::rp2350::{self, Usb};
use crate::check::Fault;
use crate::circuits::classes::width_for;
use crate::circuits::slot::BUSBAR;
use crate::design::Design;

/// From the connectors to the slots and the fans, piece by piece: as wide as the net's class.
pub const WAYS: [Way<'static>; 11] = [
    Way::new("BARREL_IN", ("J6", &["1"]), ("Q2", &["1", "2", "3"])),
    Way::new("VIN_OR", ("Q1", &["5"]), ("F2", &["1"])),
    Way::new("VIN_OR", ("Q2", &["5"]), ("F2", &["1"])),
    Way::new("VIN_PROT", ("F2", &["2"]), ("R17", &["1"])),
    Way::new("VIN_RACK", ("R17", &["4"]), ("U8", &["1", "2", "3"])),
    Way::new("V5_SW", ("U10", &["5"]), ("L3", &["1"])),
    Way::new("5V", ("L3", &["2"]), ("F3", &["1"])),
    Way::new("5V", ("L3", &["2"]), ("J9", &["2"])),
    Way::new("5V", ("L3", &["2"]), ("J10", &["2"])),
    Way::new("SWITCH_5V", ("F3", &["2"]), ("J8", &["1"])),
    Way::new("AON_SW", ("U4", &["5"]), ("L2", &["1"])),
];

/// Pieces that carry less than the whole net does, with their current in amperes. A slot's eFuse limits it to what a tray may draw at
/// 9 V; what 5 V takes of the input then is 1.6 A * 5 V / (9 V * 0.85). A USB-C connector's contacts are as narrow as its pads, and
/// are made for 5 A over the few tenths of a millimetre that they are long.
pub const BRANCHES: [(Way<'static>, f64); 8] = [
    (
        Way::new("PD_VBUS", ("J5", &["A4", "A9"]), ("Q1", &["1", "2", "3"])),
        1.5,
    ),
    (
        Way::new("BUSBAR", ("U8", &["18", "19", "20"]), ("J11", &BUSBAR)),
        TRAY,
    ),
    (
        Way::new("BUSBAR", ("U8", &["18", "19", "20"]), ("J12", &BUSBAR)),
        TRAY,
    ),
    (
        Way::new("BUSBAR", ("U8", &["18", "19", "20"]), ("J13", &BUSBAR)),
        TRAY,
    ),
    (
        Way::new("BUSBAR", ("U8", &["18", "19", "20"]), ("J14", &BUSBAR)),
        TRAY,
    ),
    (
        Way::new("BUSBAR", ("U8", &["18", "19", "20"]), ("J15", &BUSBAR)),
        TRAY,
    ),
    (
        Way::new("VIN_RACK", ("R17", &["4"]), ("U10", &["3"])),
        1.6 * 5.0 / (9.0 * 0.85),
    ),
    (Way::new("VIN_RACK", ("R17", &["4"]), ("F1", &["1"])), 0.5),
];

/// What a tray draws at most, in amperes.
const TRAY: f64 = 3.0;

/// All rules.
#[must_use]
pub fn rules(copper: &Copper, design: &Design) -> Vec<Fault> {
    let mut faults = places(copper, design);
    faults.extend(currents(copper, design));
    faults
}

/// Those of places, lengths and pairs.
fn places(copper: &Copper, design: &Design) -> Vec<Fault> {
    let mut faults = decoupling(copper, design);
    faults.extend(supplies(copper));
    // Full speed, 12 Mbit/s: the bend's 4 mm are 30 ps of an edge of 4 ns.
    let usb = Usb {
        differ: 4.0,
        protection: 9.0,
    };
    faults.extend(rp2350::rules(copper, usb));
    faults.extend(network(copper));
    faults.extend(bus(copper));
    faults
}

/// Necks at pads that are shorter than this, in millimetres, are as narrow as the part has its pads; the copper on both sides cools
/// them. They have half of what a long track needs, which by the same rule (IPC-2221) is 30 K instead of 10 K.
const NECK: f64 = 1.0;

fn currents(copper: &Copper, design: &Design) -> Vec<Fault> {
    let whole = WAYS
        .iter()
        .map(|way| (way, design.net(way.net).class.width));
    let parts = BRANCHES
        .iter()
        .map(|(way, current)| (way, width_for(*current)));
    let ways = whole.chain(parts);
    let mut faults: Vec<Fault> = ways
        .flat_map(|(way, needed)| narrow(copper, way, needed))
        .collect();
    faults.extend(trunk(copper, design));
    faults
}

/// What the slots share carries all that the eFuse passes.
fn trunk(copper: &Copper, design: &Design) -> Option<Fault> {
    let needed = design.net("BUSBAR").class.width;
    let slots = ["J11", "J12", "J13", "J14", "J15"].map(|slot| (slot, &BUSBAR[..]));
    let efuse: (&str, &[&str]) = ("U8", &["18", "19", "20"]);
    let found = narrowest_to_all(copper, "BUSBAR", efuse, &slots, NECK, needed);
    if found + 1e-9 >= needed {
        return None;
    }
    let what =
        format!("{found:.1} mm of copper from U8 to all slots together, {needed:.2} are needed");
    Some(Fault::at("BUSBAR", what))
}

fn narrow(copper: &Copper, way: &Way<'_>, needed: f64) -> Vec<Fault> {
    let found = narrowest(copper, way, needed);
    if found + 1e-9 >= needed {
        return Vec::new();
    }
    let beyond = narrowest_beyond(copper, way, NECK, needed);
    if beyond + 1e-9 >= needed && found + 1e-9 >= needed / 2.0 {
        return Vec::new();
    }
    let (from, to) = (way.from.0, way.to.0);
    let what = format!(
        "{found:.1} mm of copper from {from} to {to}, {beyond:.1} mm beyond the pads; {needed:.2} are needed"
    );
    vec![Fault::at(way.net, what)]
}

fn supplies(copper: &Copper) -> Vec<Fault> {
    // AP6320x, layout: the input capacitor at VIN and GND. TPS2663, layout: thermal pad, input capacitor, clamp at the output.
    let mut faults = hot_loop(copper, "U4", ("3", "4"), "C23", 6.0);
    faults.extend(hot_loop(copper, "U10", ("3", "4"), "C39", 6.0));
    faults.extend(thermal_vias(copper, "U8", "21", 6));
    faults.extend(close(copper, ("U8", "18"), ("D5", "1"), 8.0));
    // INA226, layout: the filter at the sensor, taps at the shunt's own pads (they are nets of their own).
    faults.extend(close(copper, ("U9", "10"), ("C30", "1"), 4.0));
    faults.extend(close(copper, ("U9", "9"), ("C30", "2"), 4.0));
    // LM74700, layout: the gate's line short.
    faults.extend(close(copper, ("U6", "5"), ("Q1", "4"), 6.0));
    faults.extend(close(copper, ("U7", "5"), ("Q2", "4"), 6.0));
    // Surge protection in front of what it protects.
    faults.extend(close(copper, ("D4", "1"), ("J6", "1"), 6.0));
    faults.extend(close(copper, ("D3", "1"), ("F2", "2"), 6.0));
    faults.extend(apart(copper, "ISENSE_P", "V5_SW", 2.0));
    faults.extend(apart(copper, "ISENSE_N", "V5_SW", 2.0));
    faults
}

/// W5500: pairs of 100 ohm, short, equally long, without vias, over ground; the reference resistor and the crystal close.
fn network(copper: &Copper) -> Vec<Fault> {
    let mut faults = matched(copper, "ETH_TXN", "ETH_TXP", 5.0);
    faults.extend(impedance(copper, "ETH_TXN", "ETH_TXP", 100.0));
    faults.extend(impedance(copper, "ETH_RXN", "ETH_RXP", 100.0));
    faults.extend(impedance(copper, "ETH_RD_N", "ETH_RD_P", 100.0));
    for net in PAIRS {
        faults.extend(no_longer(copper, net, 25.0));
        if copper.vias.iter().any(|(on, _)| on == net) {
            faults.push(Fault::at(net, "has a via"));
        }
    }
    faults.extend(over_ground(copper, &PAIRS));
    faults.extend(close(copper, ("U13", "10"), ("R31", "1"), 5.0));
    for net in ["ETH_XI", "ETH_XO"] {
        faults.extend(no_longer(copper, net, 15.0));
    }
    faults.extend(close(copper, ("U13", "30"), ("Y2", "1"), 6.0));
    faults
}

const PAIRS: [&str; 6] = [
    "ETH_TXN", "ETH_TXP", "ETH_RXN", "ETH_RXP", "ETH_RD_P", "ETH_RD_N",
];

/// RS-485: the transceiver at one end, the termination at the other, both lines together over ground.
fn bus(copper: &Copper) -> Vec<Fault> {
    let mut faults = matched(copper, "RS485_A", "RS485_B", 20.0);
    faults.extend(over_ground(copper, &["RS485_A", "RS485_B"]));
    let height = |part, pad| copper.pad(part, pad).map(|it| it.centre.y);
    let ends = [("J11", "a14"), ("J15", "a14"), ("U14", "6"), ("R43", "1")];
    let [first, last, master, termination] = ends.map(|(part, pad)| height(part, pad));
    let middle = first.zip(last).map(|(a, b)| i64::midpoint(a, b));
    if master >= middle || termination <= middle || middle.is_none() {
        let what = "master and termination are not at the bus's two ends";
        faults.push(Fault::at("RS485_A", what));
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::spoilt::{board, lines, refused, shift};
    use super::*;
    use crate::circuits::backplane::design;
    use crate::pcb::geometry::nm;

    /// The committed board.
    static BOARD: LazyLock<Copper> = LazyLock::new(|| board("backplane"));

    /// What is said of the board's places and tracks after a change.
    fn changed(f: impl FnOnce(&mut Copper)) -> String {
        let mut copper = BOARD.clone();
        f(&mut copper);
        lines(&places(&copper, &design()))
    }

    fn moved(part: &str, x: f64, y: f64) -> String {
        changed(|copper| shift(copper, part, x, y))
    }

    #[test]
    fn the_board_keeps_its_datasheets_rules() {
        assert_eq!(lines(&rules(&BOARD, &design())), "");
    }

    #[test]
    fn a_part_that_moved_away_is_refused() {
        for (part, says) in [
            ("C39", "U10: the loop"),
            ("C23", "U4: the loop"),
            ("C13", "C13: "),
            ("C46", "C46: "),
            ("Y1", "U1: "),
            ("Y2", "U13: "),
            ("U2", "U1: "),
            ("R31", "U13: "),
            ("D3", "D3: "),
            ("D4", "D4: "),
            ("D5", "U8: "),
            ("Q1", "U6: "),
            ("Q2", "U7: "),
            ("C30", "U9: "),
        ] {
            refused(&moved(part, 20.0, 0.0), says);
        }
        refused(&moved("R43", 0.0, -100.0), "two ends");
        refused(&moved("U14", 0.0, 100.0), "two ends");
    }

    #[test]
    fn copper_that_is_missing_on_a_power_path_is_refused() {
        let ways = WAYS.iter().chain(BRANCHES.iter().map(|(way, _)| way));
        for way in ways {
            let mut copper = BOARD.clone();
            copper.filled.retain(|area| area.net != way.net);
            copper.tracks.retain(|track| track.net != way.net);
            let faults = lines(&narrow(&copper, way, 0.3));
            refused(
                &faults,
                &format!("of copper from {} to {}", way.from.0, way.to.0),
            );
        }
    }

    #[test]
    fn a_trunk_that_carries_one_tray_and_not_five_is_refused() {
        let mut copper = BOARD.clone();
        assert_eq!(trunk(&copper, &design()), None);
        // Both layers' areas gone, but for one track as wide as a tray needs it.
        copper.filled.retain(|area| area.net != "BUSBAR");
        let [from, to] = [("U8", "19"), ("J11", "a5")];
        let mut track = copper.tracks[0].clone();
        track.net = "BUSBAR".into();
        track.layer = 0;
        track.width = nm(1.5);
        track.start = copper.pad(from.0, from.1).unwrap().centre;
        track.end = copper.pad(to.0, to.1).unwrap().centre;
        copper.tracks.push(track);
        let fault = trunk(&copper, &design()).unwrap().to_string();
        refused(&fault, "from U8 to all slots together");
    }

    #[test]
    fn a_pair_of_unequal_length_or_width_or_with_a_via_or_without_ground_is_refused() {
        let longer = changed(|copper| {
            let mut tracks = copper.tracks.iter_mut();
            tracks.find(|it| it.net == "USB_DP").unwrap().end.y += nm(2.0);
        });
        refused(&longer, "USB_DM: ");
        for (pair, net) in [
            ("USB_D", "USB_DM: "),
            ("ETH_TX", "ETH_TXN: "),
            ("ETH_RD", "ETH_RD_N: "),
        ] {
            let thinner = changed(|copper| {
                for track in copper
                    .tracks
                    .iter_mut()
                    .filter(|it| it.net.starts_with(pair))
                {
                    track.width = nm(0.15);
                }
            });
            refused(&thinner, net);
            refused(&thinner, "ohm");
        }
        let pierced = changed(|copper| {
            let at = copper.pad("C57", "1").unwrap().centre;
            copper.vias.push(("ETH_RD_P".into(), at));
        });
        refused(&pierced, "ETH_RD_P: has a via");
        for (layer, net) in [(1, "ETH_TXN: "), (2, "RS485_A: ")] {
            let bare = changed(|copper| copper.filled.retain(|area| area.layer != layer));
            refused(&bare, &format!("{net}the ground below it is broken"));
        }
    }

    #[test]
    fn a_track_below_the_crystal_and_a_crystal_with_long_tracks_are_refused() {
        let faults = changed(|copper| {
            let at = copper.pad("Y1", "3").unwrap().centre;
            let mut track = copper.tracks[0].clone();
            (track.net, track.layer) = ("SWCLK".into(), 3);
            (track.start, track.end) = (at, at);
            copper.tracks.push(track.clone());
            (track.net, track.layer) = ("ETH_XO".into(), 0);
            track.end.y += nm(20.0);
            copper.tracks.push(track);
        });
        refused(&faults, "SWCLK runs below it");
        refused(&faults, "ETH_XO: ");
    }
}
