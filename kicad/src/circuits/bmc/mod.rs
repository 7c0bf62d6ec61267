// SPDX-License-Identifier: Apache-2.0
//! The BMC board: a HAT that powers, measures and talks to one Raspberry Pi.

mod bus;
mod host;
mod input;
mod supply;

use super::always_on::AON_IN;
use super::build::{OnSheet, V3V3, carries};
use super::rp2350::{self, USB_VBUS, V1V1};
use crate::design::{Design, Sheet};
use racklet_boards::pins::rp2350_bmc::CONTROLLER;

/// 9 to 20 V from the backplane, before the eFuse.
pub(crate) const BUSBAR: &str = "BUSBAR";
/// Behind the eFuse.
pub(crate) const VIN_FUSED: &str = "VIN_FUSED";
/// Behind the current sensor.
pub(crate) const VIN_BUCK: &str = "VIN_BUCK";
/// The Pi's supply.
pub(crate) const PI_5V: &str = "PI_5V";
/// The Pi's own 3.3 V: only the gates towards the Pi and the HAT's EEPROM live on it.
pub(crate) const PI_3V3: &str = "PI_3V3";

/// The whole board.
#[must_use]
pub fn design() -> Design {
    let mut design = Design::new("bmc", "Racklet BMC", "A");
    design.sheets = [
        ("input", "Busbar input, eFuse and energy sensor"),
        ("supply", "5.1 V for the tray, 3.3 V always on"),
        ("controller", "RP2350A, flash, USB, debug"),
        ("host", "Raspberry Pi header, UART gates, identification"),
        ("bus", "RS-485, temperature, lights, button"),
    ]
    .into_iter()
    .map(|(name, title)| Sheet { name, title })
    .collect();
    nets(&mut design);
    input::input(&mut OnSheet::new(&mut design, "input"));
    supply::supply(&mut OnSheet::new(&mut design, "supply"));
    rp2350::controller(&mut OnSheet::new(&mut design, "controller"), &CONTROLLER);
    host::host(&mut OnSheet::new(&mut design, "host"));
    bus::bus(&mut OnSheet::new(&mut design, "bus"));
    design
}

fn nets(design: &mut Design) {
    // The eFuse's highest limit, 18 V / 6.04 kohm + 8 %, is what the input must bear without end.
    let limit = 3.3;
    carries(design, BUSBAR, limit, 24.0);
    carries(design, "EFUSE_IN", limit, 24.0);
    carries(design, VIN_FUSED, limit, 24.0);
    carries(design, VIN_BUCK, limit, 24.0);
    // The 5.1 V supply: 4 A, and its inductor's ripple on top at the switching node.
    carries(design, "BUCK_SW", 4.0, 24.0);
    carries(design, PI_5V, 4.0, 5.3);
    // All of the tray's current comes back through it; it is a plane, the class is for what is drawn as a track.
    carries(design, "GND", 4.0, 0.0);
    carries(design, V3V3, 0.5, 3.4);
    carries(design, V1V1, 0.5, 1.15);
    carries(design, "VREG_LX", 0.5, 3.4);
    carries(design, "AON_SW", 0.5, 24.0);
    carries(design, AON_IN, 0.3, 24.0);
    carries(design, "AON_FUSED", 0.2, 24.0);
    carries(design, USB_VBUS, 0.3, 5.5);
    carries(design, PI_3V3, 0.1, 3.4);
    // Gates and sense lines at the busbar's voltage, without its current.
    for (net, voltage) in [
        ("EFUSE_BGATE", 34.0),
        ("EFUSE_DRV", 34.0),
        ("SHUNT_P", 24.0),
        ("SHUNT_N", 24.0),
        ("ISENSE_P", 24.0),
        ("ISENSE_N", 24.0),
        ("BUCK_BOOT", 29.0),
        ("AON_BST", 29.0),
    ] {
        carries(design, net, 0.1, voltage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_net_joins_at_least_two_pads() {
        let lonely: Vec<_> = design()
            .connections()
            .into_iter()
            .filter(|(_, pads)| pads.len() < 2)
            .collect();
        assert!(lonely.is_empty(), "{lonely:?}");
    }
}
