// SPDX-License-Identifier: Apache-2.0
//! Supplies: every supply pad of an integrated circuit has a ceramic capacitor of its own in the netlist. Whether it also
//! stands beside the pad is judged of the board.

use super::Fault;
use crate::design::{Design, Part};
use crate::spice::values::parse;
use std::collections::BTreeMap;

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

/// Every supply net has at least as many capacitors as integrated circuits have pads on it.
#[must_use]
pub fn decoupling(design: &Design) -> Vec<Fault> {
    let mut needed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for part in design.parts.iter().filter(|part| is_chip(part)) {
        for (number, net) in supply_pads(part) {
            let pad = format!("{}.{number}", part.reference);
            needed.entry(net).or_default().push(pad);
        }
    }
    needed
        .into_iter()
        .filter_map(|(net, pads)| {
            let there = capacitors(design, net).len();
            (there < pads.len()).then(|| {
                Fault::at(
                    format!("{} {net}", design.name),
                    format!("{there} capacitors for the pads {}", pads.join(", ")),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits::bmc;

    #[test]
    fn one_capacitor_less_is_refused() {
        for (capacitor, net) in [("C13", "1V1"), ("C3", "VREG_AVDD"), ("C9", "3V3")] {
            let mut design = bmc::design();
            while capacitors(&design, net).len()
                >= design
                    .parts
                    .iter()
                    .filter(|part| is_chip(part))
                    .flat_map(supply_pads)
                    .filter(|(_, on)| *on == net)
                    .count()
            {
                let last = capacitors(&design, net).last().unwrap().reference;
                design.parts.retain(|part| part.reference != last);
            }
            let faults = decoupling(&design);
            assert_eq!(faults.len(), 1, "{capacitor} {net}");
            assert!(faults[0].to_string().contains(net));
        }
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
