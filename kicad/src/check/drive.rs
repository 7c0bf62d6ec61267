// SPDX-License-Identifier: Apache-2.0
//! What the controller drives with 3.3 V: transistors that have to switch on and, in its reset, to stay off; and the transceiver of the
//! management bus, which must be silent then.

use super::Fault;
use crate::design::{Design, Part};
use crate::spice::values::parse;
use racklet_boards::pins::Controller;

/// The controller's supply at its lowest, in volts.
const SUPPLY: f64 = 3.2;
/// What a pad of an RP2350 in reset may give, in amperes: erratum RP2350-E9.
const LEAK: f64 = 0.12e-3;
/// Below this a transceiver sees a 0 (THVD1450), in volts.
const LOW: f64 = 0.8;
/// A transistor that sinks milliamperes wants more than its threshold, by this many volts.
const OVERDRIVE: f64 = 1.0;
/// One that must stay off gets less than its lowest threshold, by this many volts: it falls by 2 mV/K with warmth.
const MARGIN: f64 = 0.2;

/// A transistor's threshold, from its data sheet.
struct Threshold {
    /// Lowest, in volts.
    least: f64,
    /// Highest, in volts.
    most: f64,
    /// The drain current that defines it, in amperes.
    at: f64,
}

fn threshold(bom: &str) -> Option<Threshold> {
    let (least, most, at) = match bom {
        // onsemi, 2N7002.
        "2n7002" => (1.0, 2.5, 0.25e-3),
        // onsemi, BSS138.
        "bss138" => (0.8, 1.5, 1e-3),
        _ => return None,
    };
    Some(Threshold { least, most, at })
}

/// What a drain has to sink, in amperes.
fn sinks(net: &str) -> f64 {
    match net {
        // The eFuse's own pull-up, 10 uA (TPS2663x), and as much again.
        "EFUSE_SHDN_N" => 20e-6,
        // A fan's pull-up: Intel's specification of 4-wire fans allows 5 mA.
        "FAN1_PWM_N" | "FAN2_PWM_N" => 5e-3,
        // Unknown: more than any threshold is defined at.
        _ => 10e-3,
    }
}

fn net<'p>(part: &'p Part, name: &str) -> &'p str {
    let pin = part.pins.iter().find(|pin| pin.name == name);
    pin.map_or("", |pin| pin.net)
}

/// The smallest resistor between two nets, in ohms.
fn resistor(design: &Design, first: &str, second: &str) -> Option<f64> {
    let joins = |part: &&Part| {
        let on = |net: &str| part.pins.iter().any(|pin| pin.net == net);
        part.symbol == "Device:R" && on(first) && on(second)
    };
    let found = design.parts.iter().filter(joins);
    found.filter_map(|part| parse(&part.value)).reduce(f64::min)
}

/// Transistors with their gate at the controller.
#[must_use]
pub fn gates(design: &Design, controller: &Controller) -> Vec<Fault> {
    let mut faults = Vec::new();
    for part in &design.parts {
        let gate = net(part, "G");
        if !part.reference.starts_with('Q') || !controller.pins.iter().any(|pin| pin.net == gate) {
            continue;
        }
        let mut say = |what: String| {
            faults.push(Fault::at(
                format!("{} {}", design.name, part.reference),
                what,
            ))
        };
        let Some(threshold) = part.bom.and_then(threshold) else {
            say("nothing is known of its threshold".to_owned());
            continue;
        };
        let amperes = sinks(net(part, "D"));
        let overdrive = if amperes > threshold.at {
            OVERDRIVE
        } else {
            0.0
        };
        let wants = threshold.most + overdrive;
        if SUPPLY < wants {
            say(format!(
                "wants {wants:.1} V at its gate for {:.1} mA, has {SUPPLY} V",
                amperes * 1e3
            ));
        }
        let idle = resistor(design, gate, "GND").map(|ohms| ohms * 1.01 * LEAK);
        if idle.is_none_or(|volts| volts > threshold.least - MARGIN) {
            say(format!(
                "has {:.2} V at its gate in reset, may begin to conduct at {} V",
                idle.unwrap_or(SUPPLY),
                threshold.least
            ));
        }
    }
    faults
}

/// Transceivers of a bus, which must not drive it while the controller is in reset.
#[must_use]
pub fn transceivers(design: &Design) -> Vec<Fault> {
    let drivers = design
        .parts
        .iter()
        .filter(|part| !net(part, "DE").is_empty());
    drivers
        .filter_map(|part| {
            let idle = resistor(design, net(part, "DE"), "GND").map(|ohms| ohms * 1.01 * LEAK);
            let silent = idle.is_some_and(|volts| volts < LOW);
            (!silent).then(|| {
                let volts = idle.unwrap_or(SUPPLY);
                Fault::at(
                    format!("{} {}", design.name, part.reference),
                    format!("has {volts:.2} V at DE in reset, is silent below {LOW} V"),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits::{backplane, bmc};
    use racklet_boards::pins::{rp2350_bmc, rp2350_rmc};

    fn said(faults: &[Fault]) -> Vec<String> {
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_transistor_that_3_3_v_does_not_open_wide_is_refused() {
        let mut design = backplane::design();
        part(&mut design, "Q4").bom = Some("2n7002");
        assert_eq!(
            said(&gates(&design, &rp2350_rmc::CONTROLLER)),
            ["backplane Q4: wants 3.5 V at its gate for 5.0 mA, has 3.2 V"]
        );
    }

    #[test]
    fn a_transistor_that_a_leaking_pad_opens_is_refused() {
        let mut design = bmc::design();
        part(&mut design, "R18").value = "10k".to_owned();
        assert_eq!(
            said(&gates(&design, &rp2350_bmc::CONTROLLER)),
            ["bmc Q4: has 1.21 V at its gate in reset, may begin to conduct at 1 V"]
        );
    }

    #[test]
    fn a_bus_that_would_be_driven_in_reset_is_refused() {
        let mut design = backplane::design();
        assert_eq!(transceivers(&design), []);
        part(&mut design, "R41").value = "10k".to_owned();
        assert_eq!(
            said(&transceivers(&design)),
            ["backplane U14: has 1.21 V at DE in reset, is silent below 0.8 V"]
        );
        design.parts.retain(|part| part.reference != "R41");
        assert_eq!(transceivers(&design).len(), 1);
    }
}
