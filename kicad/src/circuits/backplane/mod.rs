// SPDX-License-Identifier: Apache-2.0
//! The backplane: power in, five slots, the management bus, and the RMC with its network, fans and lights.

mod input;
mod network;
mod slots;
mod supply;

use super::build::{OnSheet, V3V3, carries};
use super::rp2350::{self, USB_VBUS, V1V1};
use crate::design::{Design, Sheet};
use racklet_boards::pins::rp2350_rmc::CONTROLLER;

/// From the USB-C supply: 5 V first, then 20 V.
pub(crate) const PD_VBUS: &str = "PD_VBUS";
/// From the barrel jack.
pub(crate) const BARREL_IN: &str = "BARREL_IN";
/// The higher of both.
pub(crate) const VIN_OR: &str = "VIN_OR";
/// Behind the fuse.
pub(crate) const VIN_PROT: &str = "VIN_PROT";
/// Behind the rack's current sensor: everything in the rack is fed from here.
pub(crate) const VIN_RACK: &str = "VIN_RACK";
/// To the slots.
pub(crate) const BUSBAR: &str = "BUSBAR";
/// Fans and the rack's switch.
pub(crate) const V5: &str = "5V";
/// The network chip's analogue supply.
pub(crate) const ETH_AVDD: &str = "ETH_AVDD";

/// The whole board.
#[must_use]
pub fn design() -> Design {
    let mut design = Design::new("backplane", "Racklet backplane", "A");
    design.sheets = [
        ("input", "USB-C PD, barrel jack, fuse, rack's energy"),
        ("supply", "Busbar's eFuse, 5 V, 3.3 V always on"),
        ("controller", "RP2350A, flash, USB, debug"),
        ("network", "Ethernet"),
        ("slots", "Five slots, RS-485, presence"),
        ("fans", "Fans, lights, display, temperature"),
    ]
    .into_iter()
    .map(|(name, title)| Sheet { name, title })
    .collect();
    nets(&mut design);
    input::input(&mut OnSheet::new(&mut design, "input"));
    supply::supply(&mut OnSheet::new(&mut design, "supply"));
    rp2350::controller(&mut OnSheet::new(&mut design, "controller"), &CONTROLLER);
    network::network(&mut OnSheet::new(&mut design, "network"));
    slots::slots(&mut OnSheet::new(&mut design, "slots"));
    slots::fans(&mut OnSheet::new(&mut design, "fans"));
    design
}

fn nets(design: &mut Design) {
    // USB-C gives 5 A at most; the eFuse's highest limit is 5.6 A.
    for net in [PD_VBUS, BARREL_IN, VIN_OR, VIN_PROT, VIN_RACK, BUSBAR] {
        carries(design, net, 5.6, 24.0);
    }
    carries(design, "GND", 5.6, 0.0);
    carries(design, V5, 1.6, 5.3);
    carries(design, "SWITCH_5V", 1.5, 5.3);
    carries(design, "V5_SW", 1.6, 24.0);
    carries(design, V3V3, 0.5, 3.4);
    carries(design, V1V1, 0.5, 1.15);
    carries(design, ETH_AVDD, 0.2, 3.4);
    carries(design, "VREG_LX", 0.5, 3.4);
    carries(design, "AON_SW", 0.5, 24.0);
    carries(design, "AON_IN", 0.5, 24.0);
    carries(design, "AON_FUSED", 0.5, 24.0);
    carries(design, USB_VBUS, 0.3, 5.5);
    for (net, voltage) in [
        ("PD_GATE", 34.0),
        ("PD_VCAP", 34.0),
        ("BARREL_GATE", 34.0),
        ("BARREL_VCAP", 34.0),
        ("PD_SENSE", 24.0),
        ("SHUNT_P", 24.0),
        ("SHUNT_N", 24.0),
        ("ISENSE_P", 24.0),
        ("ISENSE_N", 24.0),
        ("AON_BST", 29.0),
        ("V5_BST", 29.0),
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
