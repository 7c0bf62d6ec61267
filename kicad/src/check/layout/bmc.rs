// SPDX-License-Identifier: Apache-2.0
//! The layout rules of the BMC board, each with the datasheet that has it.

use super::copper::Copper;
use super::current::{Way, wide_enough};
use super::distance::{apart, close, decoupling, hot_loop, thermal_vias};
use super::pairs::matched;
use super::rp2350::{self, Usb};
use crate::check::Fault;
use crate::circuits::slot::BUSBAR;
use crate::design::Design;
use crate::pcb::geometry::{Bounds, Shape, mm, nm};

/// From the fingers to the Pi, piece by piece.
pub const WAYS: [Way<'static>; 6] = [
    Way::new("BUSBAR", ("J1", &BUSBAR), ("Q1", &["1", "2", "3"])),
    Way::new("EFUSE_IN", ("Q1", &["5"]), ("U5", &["1", "2", "3"])),
    Way::new("VIN_FUSED", ("U5", &["18", "19", "20"]), ("R22", &["1"])),
    Way::new("VIN_BUCK", ("R22", &["4"]), ("C31", &["1"])),
    Way::new("BUCK_SW", ("U7", &["8"]), ("L3", &["1"])),
    Way::new("PI_5V", ("L3", &["2"]), ("J4", &["2", "4"])),
];

/// The fingers slide along contacts, and their ends are bevelled: neither holes nor tracks there, only at the roots.
fn fingers(copper: &Copper, part: &str, root: i64) -> Vec<Fault> {
    let bounds = copper
        .pads
        .iter()
        .filter(|pad| pad.part == part)
        .flat_map(|pad| &pad.copper)
        .map(Shape::bounds)
        .reduce(Bounds::and);
    let Some(bounds) = bounds else {
        return vec![Fault::at(part, "is not on the board")];
    };
    let ends = copper
        .tracks
        .iter()
        .flat_map(|it| [(&it.net, it.start), (&it.net, it.end)]);
    copper
        .vias
        .iter()
        .map(|(net, at)| (net, *at))
        .chain(ends)
        .filter(|(_, at)| at.x < bounds.high.x - root)
        .map(|(net, at)| {
            let (x, y) = (mm(at.x), mm(at.y));
            let what = format!("a track or via of {net} is among its fingers, at {x:.1}, {y:.1}");
            Fault::at(part, what)
        })
        .collect()
}

/// All rules.
#[must_use]
pub fn rules(copper: &Copper, design: &Design) -> Vec<Fault> {
    let mut faults = decoupling(copper, design);
    faults.extend(fingers(copper, "J1", nm(0.5)));
    // LMR33640, layout guidelines: the input capacitor at VIN and PGND, feedback short and away from SW, vias below the pad.
    faults.extend(hot_loop(copper, "U7", ("2", "1"), "C33", 6.0));
    faults.extend(close(copper, ("U7", "2"), ("C33", "1"), 1.5));
    faults.extend(close(copper, ("U7", "5"), ("R25", "2"), 3.0));
    faults.extend(apart(copper, "BUCK_FB", "BUCK_SW", 1.0));
    faults.extend(thermal_vias(copper, "U7", "9", 6));
    // AP63203, layout: the input capacitor at VIN and GND.
    faults.extend(hot_loop(copper, "U4", ("3", "4"), "C23", 6.0));
    // TPS2663, layout: thermal pad. INA226, layout: filter at the sensor, taps at the shunt's own pads (they are nets).
    faults.extend(thermal_vias(copper, "U5", "21", 6));
    faults.extend(close(copper, ("U6", "10"), ("R23", "2"), 3.0));
    faults.extend(close(copper, ("U6", "9"), ("R24", "2"), 3.0));
    let usb = Usb {
        differ: 2.0,
        protection: 5.0,
    };
    faults.extend(rp2350::rules(copper, usb));
    // RS-485: surge protection between fingers and transceiver, both lines together.
    faults.extend(close(copper, ("D5", "1"), ("J1", "a14"), 8.0));
    faults.extend(matched(copper, "RS485_A", "RS485_B", 8.0));
    faults.extend(wide_enough(copper, design, &WAYS));
    faults
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::spoilt::{board, lines, refused, shift};
    use super::*;
    use crate::circuits::bmc::design;

    /// The committed board.
    static BOARD: LazyLock<Copper> = LazyLock::new(|| board("bmc"));

    /// What is said of the board after a change.
    fn changed(f: impl FnOnce(&mut Copper)) -> String {
        let mut copper = BOARD.clone();
        f(&mut copper);
        lines(&rules(&copper, &design()))
    }

    fn moved(part: &str, x: f64) -> String {
        changed(|copper| shift(copper, part, x, 0.0))
    }

    #[test]
    fn the_board_keeps_its_datasheets_rules() {
        assert_eq!(changed(|_| ()), "");
    }

    #[test]
    fn a_part_that_moved_away_is_refused() {
        for (part, says) in [
            ("C33", "U7: the loop"),
            ("C13", "C13: "),
            ("R25", "U7: "),
            ("C23", "U4: the loop"),
            ("Y1", "U1: "),
            ("U2", "U1: "),
            ("D5", "D5: "),
            ("R23", "U6: "),
        ] {
            refused(&moved(part, 20.0), says);
        }
    }

    #[test]
    fn a_via_among_the_fingers_is_refused() {
        let faults = changed(|copper| {
            let mut at = copper.pad("J1", "a1").unwrap().centre;
            at.x -= nm(3.0);
            copper.vias.push(("GND".into(), at));
        });
        refused(&faults, "J1: a track or via of GND is among its fingers");
    }

    #[test]
    fn copper_that_is_missing_on_a_power_path_is_refused() {
        for way in &WAYS {
            let faults = changed(|copper| copper.filled.retain(|area| area.net != way.net));
            refused(&faults, way.net);
        }
    }

    #[test]
    fn a_pair_of_unequal_length_or_width_or_without_ground_is_refused() {
        let longer = changed(|copper| {
            let mut tracks = copper.tracks.iter_mut();
            tracks.find(|it| it.net == "USB_DP").unwrap().end.y += nm(2.0);
        });
        refused(&longer, "USB_DM: ");
        let thinner = changed(|copper| {
            for track in &mut copper.tracks {
                if track.net.starts_with("USB_D") {
                    track.width = nm(0.15);
                }
            }
        });
        refused(&thinner, "ohm");
        let bare = changed(|copper| copper.filled.retain(|area| area.layer != 1));
        refused(&bare, "the ground below it is broken");
    }

    #[test]
    fn a_track_below_the_crystal_and_feedback_at_the_switch_node_are_refused() {
        let faults = changed(|copper| {
            let mut track = copper.tracks[0].clone();
            for (net, layer, part, pad) in [("SWCLK", 3, "Y1", "3"), ("BUCK_FB", 0, "L3", "1")] {
                let at = copper.pad(part, pad).unwrap().centre;
                (track.net, track.layer) = (net.into(), layer);
                (track.start, track.end) = (at, at);
                copper.tracks.push(track.clone());
            }
        });
        refused(&faults, "SWCLK runs below it");
        refused(&faults, "BUCK_FB: ");
    }
}
