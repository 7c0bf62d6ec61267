// SPDX-License-Identifier: Apache-2.0
//! I2C: every part on a bus is known to the firmware by the address that its straps give, no two share one, and each line
//! has one pull-up.

use super::Fault;
use crate::design::{Design, OPEN, Part};
use crate::spice::values::parse;
use racklet_boards::pins::{Controller, Function, I2c};
use std::collections::BTreeMap;

const SUPPLY: &str = "3V3";

/// All buses of a controller.
#[must_use]
pub fn buses(design: &Design, controller: &Controller) -> Vec<Fault> {
    controller
        .i2c
        .iter()
        .flat_map(|bus| one(design, controller, bus))
        .collect()
}

fn one(design: &Design, controller: &Controller, bus: &I2c) -> Vec<Fault> {
    let name = format!("{} I2C{}", design.name, bus.controller);
    let line = |function| controller.with(function).map_or(OPEN, |pin| pin.net);
    let sda = line(Function::I2cSda(bus.controller));
    let scl = line(Function::I2cScl(bus.controller));
    let mut faults = Vec::new();
    for net in [sda, scl] {
        faults.extend(pull_up(design, net));
    }
    let mut addresses = BTreeMap::new();
    for part in design.parts.iter().filter(|part| {
        part.reference.starts_with('U')
            && part.reference != controller.part
            && part.pins.iter().any(|pin| pin.net == sda || pin.net == scl)
    }) {
        let at = |name: &str| {
            part.pins
                .iter()
                .any(|pin| pin.name == name && pin.net == sda)
        };
        let clock = part
            .pins
            .iter()
            .any(|pin| pin.name == "SCL" && pin.net == scl);
        if !at("SDA") || !clock {
            faults.push(Fault::at(
                part.reference,
                "has data and clock not on their lines",
            ));
        }
        let address = match strapped(part) {
            Ok(address) => address,
            Err(what) => {
                faults.push(Fault::at(part.reference, what));
                continue;
            }
        };
        if let Some(other) = addresses.insert(address, part.reference) {
            faults.push(Fault::at(
                &name,
                format!(
                    "{other} and {} both answer to {address:#04x}",
                    part.reference
                ),
            ));
        }
        match bus
            .devices
            .iter()
            .find(|device| device.part == part.reference)
        {
            None => faults.push(Fault::at(part.reference, "is unknown to pins.toml")),
            Some(device) if device.address != address => faults.push(Fault::at(
                part.reference,
                format!(
                    "is strapped to {address:#04x}, pins.toml says {:#04x}",
                    device.address
                ),
            )),
            Some(device) if !part.value.starts_with(device.kind) => faults.push(Fault::at(
                part.reference,
                format!("is a {}, pins.toml says {}", part.value, device.kind),
            )),
            Some(_) => {}
        }
    }
    for device in bus.devices {
        if !addresses
            .values()
            .any(|reference| *reference == device.part)
        {
            faults.push(Fault::at(&name, format!("{} is not on it", device.part)));
        }
    }
    faults
}

/// One resistor from the line to the supply, 1 to 10 kohm (NXP UM10204, 7.1, for 100 pF and 400 kHz at 3.3 V).
fn pull_up(design: &Design, net: &str) -> Option<Fault> {
    let values: Vec<_> = design
        .parts
        .iter()
        .filter(|part| {
            let on = |net| part.pins.iter().any(|pin| pin.net == net);
            part.reference.starts_with('R') && on(net) && on(SUPPLY)
        })
        .map(|part| parse(&part.value).unwrap_or(0.0))
        .collect();
    match values[..] {
        [ohms] if (1e3..=10e3).contains(&ohms) => None,
        [ohms] => Some(Fault::at(net, format!("is pulled up by {ohms} ohm"))),
        _ => Some(Fault::at(net, format!("has {} pull-ups", values.len()))),
    }
}

/// The address that the part's pads select, by its datasheet.
fn strapped(part: &Part) -> Result<u8, String> {
    let bit = |name: &str| {
        let net = part
            .pins
            .iter()
            .find(|pin| pin.name == name)
            .map(|pin| pin.net);
        match net {
            Some("GND") => Ok(0),
            Some(SUPPLY) => Ok(1),
            other => Err(format!("address pad {name} is on {other:?}")),
        }
    };
    match part.symbol {
        // INA226, table 2: A1 and A0 each choose of GND, VS, SDA, SCL; we use the first two.
        "Sensor_Energy:INA226" => Ok(0x40 | bit("A1")? << 2 | bit("A0")?),
        // TMP1075, table 8-2, of the packages with three address pads.
        "Sensor_Temperature:TMP1075D" => Ok(0x48 | bit("A2")? << 2 | bit("A1")? << 1 | bit("A0")?),
        "Interface_Expansion:TCA9555PWR" => {
            Ok(0x20 | bit("A2")? << 2 | bit("A1")? << 1 | bit("A0")?)
        }
        other => Err(format!("nothing is known of the address of {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{pad, part};
    use crate::circuits::backplane::design;
    use racklet_boards::pins::rp2350_rmc::CONTROLLER;

    fn faults(spoil: impl Fn(&mut Design)) -> Vec<String> {
        let mut design = design();
        spoil(&mut design);
        buses(&design, &CONTROLLER)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_strap_that_gives_another_address_than_the_firmware_s_is_refused() {
        assert_eq!(
            faults(|design| pad(design, "U9", "2").net = "3V3"),
            ["U9: is strapped to 0x41, pins.toml says 0x40"]
        );
    }

    #[test]
    fn two_parts_of_one_address_are_refused() {
        let faults = faults(|design| {
            let mut twin = part(design, "U11").clone();
            twin.reference = "U99";
            design.parts.push(twin);
        });
        assert!(faults.iter().any(|it| it.contains("both answer to 0x48")));
        assert!(faults.iter().any(|it| it.contains("U99: is unknown")));
    }

    #[test]
    fn a_second_pull_up_and_none_are_refused() {
        assert_eq!(
            faults(|design| pad(design, "R58", "2").net = "I2C_SDA"),
            ["I2C_SDA: has 2 pull-ups", "DISPLAY_SDA: has 0 pull-ups"]
        );
    }

    #[test]
    fn data_and_clock_exchanged_are_refused() {
        let faults = faults(|design| {
            pad(design, "U11", "1").net = "I2C_SCL";
            pad(design, "U11", "2").net = "I2C_SDA";
        });
        assert_eq!(faults.len(), 1);
    }
}
