// SPDX-License-Identifier: Apache-2.0
//! What "Hardware design with RP2350" asks on both boards: flash and crystal close, ground below the crystal, USB as a pair of 90 ohm.

use super::copper::Copper;
use super::distance::{close, no_longer, thermal_vias};
use super::pairs::{impedance, matched, over_ground, quiet_below};
use crate::check::Fault;

/// Where the boards differ, in millimetres.
#[derive(Debug, Clone, Copy)]
pub struct Usb {
    /// By how much the pair's lines may differ between protection and connector.
    pub differ: f64,
    /// From the protection to the connector.
    pub protection: f64,
}

/// The rules of the controller, its flash, crystal and USB.
#[must_use]
pub fn rules(copper: &Copper, usb: Usb) -> Vec<Fault> {
    let mut faults = close(copper, ("U1", "60"), ("U2", "1"), 15.0);
    faults.extend(close(copper, ("U1", "21"), ("Y1", "1"), 8.0));
    faults.extend(thermal_vias(copper, "U1", "61", 5));
    for net in ["XIN", "XOUT", "XOUT_R"] {
        faults.extend(no_longer(copper, net, 12.0));
    }
    faults.extend(quiet_below(copper, &["XOUT_R"]));
    faults.extend(matched(copper, "USB_DM", "USB_DP", 0.5));
    faults.extend(matched(copper, "USB_CONN_DM", "USB_CONN_DP", usb.differ));
    faults.extend(impedance(copper, "USB_DM", "USB_DP", 90.0));
    faults.extend(close(copper, ("U3", "4"), ("J2", "B7"), usb.protection));
    let nets = [
        "USB_DM",
        "USB_DP",
        "USB_CONN_DM",
        "USB_CONN_DP",
        "XIN",
        "XOUT_R",
    ];
    faults.extend(over_ground(copper, &nets));
    faults
}
