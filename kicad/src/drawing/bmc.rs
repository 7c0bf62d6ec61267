// SPDX-License-Identifier: Apache-2.0
//! The BMC board's sheets.

use super::{CONTROLLER, Section, section};

/// All of them.
#[must_use]
pub fn sections() -> Vec<Section> {
    [BEFORE, CONTROLLER, AFTER].concat()
}

/// Before the controller.
const BEFORE: &[Section] = &[
    section(
        "input",
        "Slot: ground meets first, then busbar, signals, presence",
        &[("J1", 0), ("D3", 0)],
    ),
    section(
        "input",
        "eFuse: reverse polarity, inrush, short",
        &[("Q1", 3), ("Q2", 0), ("U5", 0), ("D4", 0)],
    ),
    section(
        "input",
        "Open until seated, or told so by the controller",
        &[("Q3", 0), ("Q4", 0)],
    ),
    section(
        "input",
        "Current, voltage, energy",
        &[("R22", 1), ("U6", 0)],
    ),
    section("input", "Busbar's voltage, test points", &[("R20", 0)]),
    section(
        "supply",
        "5.1 V, 4 A for the tray",
        &[("U7", 0), ("C40", 0)],
    ),
    section(
        "supply",
        "3.3 V for the controller, always on",
        &[("F1", 0), ("D1", 0), ("U4", 0)],
    ),
    section("supply", "The tray's voltage, test points", &[("R29", 0)]),
];

/// Behind the controller.
const AFTER: &[Section] = &[
    section("host", "Raspberry Pi", &[("J4", 0)]),
    section(
        "host",
        "UARTs: no side feeds the other (each gate lives on the listener's supply)",
        &[("U8", 0), ("U9", 0), ("U10", 0), ("U11", 0)],
    ),
    section("host", "HAT identification", &[("U12", 0)]),
    section("host", "Whether the Pi runs; mounting holes", &[("R33", 0)]),
    section("bus", "Management bus", &[("U13", 0), ("D5", 0)]),
    section("bus", "Temperature, I2C", &[("U14", 0)]),
    section(
        "bus",
        "Lights",
        &[("R47", 0), ("R48", 0), ("R49", 0), ("R50", 0)],
    ),
    section("bus", "Power button", &[("SW3", 0)]),
    section(
        "bus",
        "Slot's number, marks",
        &[("R43", 0), ("R44", 0), ("R45", 0)],
    ),
];
