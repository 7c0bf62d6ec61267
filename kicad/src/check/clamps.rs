// SPDX-License-Identifier: Apache-2.0
//! Surge clamps: none conducts at a voltage that its net may have for long, and none conducts backwards where a reversed supply
//! must find nothing that does.
//!
//! In front of a transistor that blocks, a clamp of one direction is a diode from ground to the input: whoever swaps the wires
//! has a short in it, and the transistor blocks nothing.

use super::Fault;
use crate::design::{Design, Part};

/// The transistor that lets current through one way only: its pads 1 to 3 are its source, which looks to the input.
const ONE_WAY: &str = "Transistor_FET:CSD18543Q3A";

/// What a clamp is, from its data sheet.
struct Clamp {
    /// It conducts no more than microamperes up to this, in volts.
    stands_off: f64,
    /// It does so both ways.
    two_way: bool,
}

/// A clamp from a supply to ground, by its entry of the bill of materials (Littelfuse, SMAJ series).
fn clamp(bom: &str) -> Option<Clamp> {
    let (stands_off, two_way) = match bom {
        "smaj24a" => (24.0, false),
        "smaj24ca" => (24.0, true),
        _ => return None,
    };
    Some(Clamp {
        stands_off,
        two_way,
    })
}

/// The net that a two-pad part joins with ground.
fn against_ground(part: &Part) -> Option<&'static str> {
    let [first, second] = &part.pins[..] else {
        return None;
    };
    match (first.net, second.net) {
        (net, "GND") | ("GND", net) => Some(net),
        _ => None,
    }
}

/// Whether a transistor that blocks has its source on this net: what is connected to it sees a reversed input.
fn may_be_reversed(design: &Design, net: &str) -> bool {
    let mut blocking = design.parts.iter().filter(|part| part.symbol == ONE_WAY);
    blocking.any(|part| {
        let mut pads = part.pins.iter();
        pads.any(|pin| pin.name == "S" && pin.net == net)
    })
}

/// All clamps of a board.
#[must_use]
pub fn clamps(design: &Design) -> Vec<Fault> {
    let mut faults = Vec::new();
    for part in &design.parts {
        let Some(net) = against_ground(part) else {
            continue;
        };
        let place = || format!("{} {}", design.name, part.reference);
        let known = part.bom.and_then(clamp);
        if let Some(Clamp { stands_off, .. }) = known {
            let volts = design.net(net).voltage;
            if volts > stands_off {
                faults.push(Fault::at(
                    place(),
                    format!("stands off {stands_off} V, {net} may have {volts} V"),
                ));
            }
        }
        let is_diode = part.symbol.starts_with("Diode:");
        let two_way = known.is_some_and(|it| it.two_way);
        if is_diode && !two_way && may_be_reversed(design, net) {
            faults.push(Fault::at(
                place(),
                format!("conducts when {net} is reversed, in front of what blocks that"),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits::{backplane, bmc};

    fn said(design: &Design) -> Vec<String> {
        clamps(design).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_clamp_of_one_direction_in_front_of_what_blocks_is_refused() {
        for (mut design, reference, net) in [
            (bmc::design(), "D3", "BUSBAR"),
            (backplane::design(), "D4", "BARREL_IN"),
        ] {
            let name = design.name;
            part(&mut design, reference).bom = Some("smaj24a");
            assert_eq!(
                said(&design),
                [format!(
                    "{name} {reference}: conducts when {net} is reversed, in front of what blocks that"
                )]
            );
        }
    }

    #[test]
    fn a_clamp_that_conducts_at_what_its_net_may_have_is_refused() {
        let mut design = backplane::design();
        let net = design.nets.get_mut("VIN_PROT").unwrap();
        net.voltage = 25.0;
        assert_eq!(
            said(&design),
            ["backplane D3: stands off 24 V, VIN_PROT may have 25 V"]
        );
    }
}
