// SPDX-License-Identifier: Apache-2.0
//! The controller's own supply, the same on both boards: 3.3 V from the busbar or, on the bench, from USB. F1, D1, D2, U4,
//! L2, C19 to C23 on either board.
//!
//! It is taken in front of the eFuse, behind its own resettable fuse: a tray whose eFuse tripped must still be able to
//! say so. The two Schottky diodes choose the higher of busbar and USB and let neither feed the other; D2 also is the
//! reverse polarity protection of this branch.

use super::build::{GND, Kind, OnSheet, V3V3};
use super::rp2350::USB_VBUS;

/// The input of the 3.3 V supply, behind both diodes.
pub(super) const AON_IN: &str = "AON_IN";

/// Whose supply it is: what the resettable fuse has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    /// 0.13 A at 3.3 V: 56 mA from 9 V.
    Bmc,
    /// 0.36 A at 3.3 V at worst, the network chip included: 0.18 A from 9 V, 0.33 A from USB-C's first 4.75 V.
    Backplane,
}

/// Puts the supply on a sheet, fed from `source`.
pub(super) fn always_on(on: &mut OnSheet<'_>, source: &'static str, branch: Branch) {
    let (fuse, note) = match branch {
        Branch::Bmc => (
            Kind {
                symbol: "Device:Polyfuse",
                footprint: "Fuse:Fuse_1206_3216Metric",
                value: "0.12 A / 30 V",
                bom: Some("ptc-012"),
            },
            "56 mA are needed at 9 V; its 1.4 ohm also limit the inrush of C19",
        ),
        Branch::Backplane => (
            Kind {
                symbol: "Device:Polyfuse",
                footprint: "Fuse:Fuse_1812_4532Metric",
                value: "0.5 A / 30 V",
                bom: Some("ptc-050"),
            },
            "0.33 A are needed from USB-C's first 4.75 V, 0.18 A at 9 V; it holds 0.35 A at 60 degrees",
        ),
    };
    on.part(
        "F1",
        &fuse,
        note,
        &[("1", "~", source), ("2", "~", "AON_FUSED")],
    );
    on.schottky(
        "D2",
        "AON_FUSED",
        AON_IN,
        "from the busbar; blocks reverse polarity",
    );
    on.schottky(
        "D1",
        USB_VBUS,
        AON_IN,
        "from USB on the bench; the busbar cannot feed USB",
    );
    on.c_of(
        "C19",
        "4u7",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-4u7-50v-1206",
        (AON_IN, GND),
        "input of U4",
    );
    on.c(
        "C23",
        "100n",
        (AON_IN, GND),
        "input, at U4, pad 3 and pad 4",
    );
    let buck = Kind {
        symbol: "Regulator_Switching:AP63203WU",
        footprint: "Package_TO_SOT_SMD:TSOT-23-6",
        value: "AP63203WU",
        bom: Some("ap63203"),
    };
    on.part(
        "U4",
        &buck,
        "3.3 V fixed, 1.1 MHz, 3.8 to 32 V in (40 V for 400 ms)",
        &[
            ("1", "FB", V3V3),
            ("2", "EN", AON_IN),
            ("3", "IN", AON_IN),
            ("4", "GND", GND),
            ("5", "SW", "AON_SW"),
            ("6", "BST", "AON_BST"),
        ],
    );
    on.c(
        "C20",
        "100n",
        ("AON_BST", "AON_SW"),
        "bootstrap of U4's upper switch",
    );
    on.l(
        "L2",
        "4u7",
        "Inductor_SMD:L_Coilcraft_XAL4030-XXX",
        "l-4u7-aon",
        ("AON_SW", V3V3),
        "ripple at 20 V: (20 - 3.3) * 3.3 / (20 * 4.7 uH * 1.1 MHz) = 0.53 A",
    );
    for reference in ["C21", "C22"] {
        on.c_of(
            reference,
            "22u",
            "Capacitor_SMD:C_1206_3216Metric",
            "c-22u-16v-1206",
            (V3V3, GND),
            "output of U4",
        );
    }
}
