// SPDX-License-Identifier: Apache-2.0
//! Ratings: what a resistor turns into heat and what a capacitor bears, from the voltages of the nets that they join.
//!
//! A net without a stated voltage is taken for 3.3 V. Below 5 V a resistor of ours cannot get hot by more than its
//! design says, and series resistors inside one domain would only be judged wrongly: those are left out.

use super::Fault;
use crate::design::{Design, OPEN, Part};
use crate::spice::values::parse;

/// A resistor may have two thirds of its rated power: the boards are warm.
const POWER_SHARE: f64 = 0.67;
/// From this difference of voltage on resistors are judged.
const RESISTORS_FROM: f64 = 5.0;

/// Rated power of a resistor's entry, in watts, at 70 degrees.
fn rated_power(bom: &str) -> Option<f64> {
    match bom {
        "r-0603" | "r-0603-01" => Some(0.1),
        "r-1k-1206" => Some(0.66),
        _ => None,
    }
}

/// Rated voltage of a capacitor's entry, in volts.
fn rated_voltage(bom: &str) -> Option<f64> {
    match bom {
        "c-100n-0402" | "c-22u-16v-1206" => Some(16.0),
        "c-4u7-0402" => Some(10.0),
        "c-220u-polymer" => Some(6.3),
        "c-220u-35v" => Some(35.0),
        "c-15p-0402" | "c-30p-0402" | "c-47p-0603" | "c-0603-50v" | "c-4u7-50v-1206"
        | "c-1u-50v-1206" | "c-10u-50v-1210" => Some(50.0),
        _ => None,
    }
}

/// How much of its rating a capacitor may see: ceramic and polymer lose value or life near it.
const VOLTAGE_SHARE: f64 = 0.85;

fn across(design: &Design, part: &Part) -> f64 {
    let volts = |index: usize| match part.pins[index].net {
        "GND" | OPEN => 0.0,
        net => design.net(net).voltage,
    };
    (volts(0) - volts(1)).abs()
}

/// Every resistor's power and every capacitor's voltage.
#[must_use]
pub fn ratings(design: &Design) -> Vec<Fault> {
    let mut faults = Vec::new();
    for part in design.parts.iter().filter(|part| part.pins.len() == 2) {
        let place = || format!("{} {}", design.name, part.reference);
        let Some(bom) = part.bom else {
            continue;
        };
        let volts = across(design, part);
        if part.symbol == "Device:R" && volts >= RESISTORS_FROM {
            let ohms = parse(&part.value).unwrap_or(0.0);
            let watts = volts * volts / ohms;
            match rated_power(bom) {
                None => faults.push(Fault::at(
                    place(),
                    format!("nothing is known of {bom}'s power"),
                )),
                Some(rated) if watts > rated * POWER_SHARE => faults.push(Fault::at(
                    place(),
                    format!("{watts:.3} W at {volts} V, rated for {rated} W"),
                )),
                Some(_) => {}
            }
        }
        if part.symbol.starts_with("Device:C") && part.reference.starts_with('C') {
            match rated_voltage(bom) {
                None => faults.push(Fault::at(
                    place(),
                    format!("nothing is known of {bom}'s voltage"),
                )),
                Some(rated) if volts > rated * VOLTAGE_SHARE => faults.push(Fault::at(
                    place(),
                    format!("{volts} V, rated for {rated} V"),
                )),
                Some(_) => {}
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits::{backplane, bmc};

    #[test]
    fn a_small_resistor_from_20_v_to_a_clamp_is_refused() {
        let mut design = backplane::design();
        part(&mut design, "R10").bom = Some("r-0603");
        assert_eq!(ratings(&design).len(), 1);
    }

    #[test]
    fn a_divider_of_too_few_ohms_is_refused() {
        let mut design = bmc::design();
        part(&mut design, "R20").value = "1k".to_owned();
        assert_eq!(ratings(&design).len(), 1);
    }

    #[test]
    fn a_capacitor_of_16_v_on_the_busbar_is_refused() {
        let mut design = bmc::design();
        part(&mut design, "C24").bom = Some("c-22u-16v-1206");
        part(&mut design, "C33").bom = Some("c-100n-0402");
        assert_eq!(ratings(&design).len(), 2);
    }
}
