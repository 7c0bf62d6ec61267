// SPDX-License-Identifier: Apache-2.0
//! Supplies: every supply pad of an integrated circuit has a ceramic capacitor of its own in the netlist. Which pad a
//! capacitor belongs to is said by its note (`at U9, pad 6`); whether it also stands there is judged of the board, with
//! [`assigned`].

use super::Fault;
use crate::design::{Design, Part};
use crate::spice::values::parse;

/// Names of supply pads in the symbols that we use.
const SUPPLY_PADS: [&str; 15] = [
    "IOVDD",
    "DVDD",
    "ADC_AVDD",
    "VREG_AVDD",
    "VREG_VIN",
    "USB_OTP_VDD",
    "QSPI_IOVDD",
    "VCC",
    "VDD",
    "AVDD",
    "VS",
    "V+",
    "VIN",
    "IN",
    "TOCAP",
];

/// The largest value that still is a decoupling capacitor and not the supply's bulk, in farads.
const LARGEST: f64 = 10e-6;

/// Whether the part is an integrated circuit.
fn is_chip(part: &Part) -> bool {
    part.reference
        .strip_prefix('U')
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The supply pads of a part as (number, net). Pads of one name and net that are one terminal, such as three of an input,
/// count once; of the controllers' and the network chip's, each counts.
#[must_use]
pub fn supply_pads(part: &Part) -> Vec<(&'static str, &'static str)> {
    let mut pads: Vec<(&str, &str)> = Vec::new();
    let mut terminals = Vec::new();
    for pin in part
        .pins
        .iter()
        .filter(|pin| SUPPLY_PADS.contains(&pin.name))
    {
        let terminal = (pin.name, pin.net);
        if pin.name == "IN" && terminals.contains(&terminal) {
            continue;
        }
        terminals.push(terminal);
        pads.push((pin.number, pin.net));
    }
    pads
}

/// Capacitors from a net to ground that can decouple.
#[must_use]
pub fn capacitors<'d>(design: &'d Design, net: &str) -> Vec<&'d Part> {
    design
        .parts
        .iter()
        .filter(|part| {
            let on = |net: &str| part.pins.iter().any(|pin| pin.net == net);
            part.symbol == "Device:C"
                && on(net)
                && on("GND")
                && parse(&part.value).is_some_and(|farads| farads <= LARGEST * 1.001)
        })
        .collect()
}

/// A capacitor and the pad that it has to stand beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The capacitor.
    pub capacitor: &'static str,
    /// The part.
    pub part: &'static str,
    /// The pad's number.
    pub pad: &'static str,
    /// The net that both are on.
    pub net: &'static str,
}

/// The part and pad that a note names: `..., at U9, pad 6: ...`.
fn place(note: &str) -> Option<(&str, &str)> {
    let (_, rest) = note.split_once("at U")?;
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (number, rest) = rest.split_at(digits(rest));
    let rest = rest.strip_prefix(", pad ")?;
    let (pad, _) = rest.split_at(digits(rest));
    (!number.is_empty() && !pad.is_empty()).then_some((number, pad))
}

/// All capacitors whose note names a pad on their own net.
#[must_use]
pub fn assigned(design: &Design) -> Vec<Assigned> {
    let find = |capacitor: &Part| {
        let (number, pad) = place(capacitor.note)?;
        let part = design
            .parts
            .iter()
            .find(|part| part.reference.strip_prefix('U') == Some(number))?;
        let pin = part.pins.iter().find(|pin| pin.number == pad)?;
        let shared = capacitor.pins.iter().any(|it| it.net == pin.net);
        (shared && pin.net != "GND").then_some(Assigned {
            capacitor: capacitor.reference,
            part: part.reference,
            pad: pin.number,
            net: pin.net,
        })
    };
    design
        .parts
        .iter()
        .filter(|part| part.symbol == "Device:C")
        .filter_map(find)
        .collect()
}

/// Every supply pad has a capacitor of its own that can decouple it, and every capacitor that names a pad shares its net.
#[must_use]
pub fn decoupling(design: &Design) -> Vec<Fault> {
    let assigned = assigned(design);
    let mut faults = Vec::new();
    for part in design.parts.iter().filter(|part| is_chip(part)) {
        for (number, net) in supply_pads(part) {
            let good = capacitors(design, net).iter().any(|capacitor| {
                assigned.iter().any(|it| {
                    (it.capacitor, it.part, it.pad) == (capacitor.reference, part.reference, number)
                })
            });
            if !good {
                faults.push(Fault::at(
                    format!("{} {}", design.name, part.reference),
                    format!("no capacitor for pad {number} on {net}"),
                ));
            }
        }
    }
    for part in &design.parts {
        let named = part.symbol == "Device:C" && place(part.note).is_some();
        if named && !assigned.iter().any(|it| it.capacitor == part.reference) {
            faults.push(Fault::at(
                format!("{} {}", design.name, part.reference),
                format!("is not on the net of its pad: {}", part.note),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{pad, part};
    use crate::circuits::bmc;

    #[test]
    fn one_capacitor_less_is_refused() {
        for capacitor in ["C13", "C3", "C9", "C16", "C23", "C24", "C33", "C48"] {
            let mut design = bmc::design();
            design.parts.retain(|part| part.reference != capacitor);
            assert_eq!(decoupling(&design).len(), 1, "{capacitor}");
        }
    }

    #[test]
    fn a_capacitor_on_another_net_than_its_pad_s_is_refused() {
        let mut design = bmc::design();
        pad(&mut design, "C13", "1").net = "3V3";
        let said: Vec<_> = decoupling(&design)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "bmc U1: no capacitor for pad 6 on 1V1",
                "bmc C13: is not on the net of its pad: at U1, pad 6 (DVDD)"
            ]
        );
    }

    #[test]
    fn a_large_capacitor_is_no_decoupling() {
        let mut design = bmc::design();
        part(&mut design, "C3").value = "100u".to_owned();
        assert_eq!(decoupling(&design).len(), 1);
    }

    #[test]
    fn three_pads_of_one_input_count_once() {
        let design = bmc::design();
        assert_eq!(supply_pads(design.part("U5").unwrap()), [("1", "EFUSE_IN")]);
    }
}
