// SPDX-License-Identifier: Apache-2.0
//! The backplane's sheets.

use super::{CONTROLLER, Section, section};

/// All of them.
#[must_use]
pub fn sections() -> Vec<Section> {
    [BEFORE, CONTROLLER, AFTER].concat()
}

/// Before the controller.
const BEFORE: &[Section] = &[
    section("input", "USB-C, asks for 20 V", &[("J5", 0), ("U5", 0)]),
    section("input", "Barrel jack, 9 to 20 V", &[("J6", 0), ("D4", 0)]),
    section("input", "Ideal diode of USB-C", &[("Q1", 3), ("U6", 0)]),
    section(
        "input",
        "Ideal diode of the barrel jack",
        &[("Q2", 3), ("U7", 0)],
    ),
    section("input", "Fuse and surge", &[("F2", 0), ("D3", 0)]),
    section(
        "input",
        "The rack's current, voltage, energy",
        &[("R17", 1), ("U9", 0)],
    ),
    section(
        "input",
        "What the sources give, test points",
        &[("R13", 0), ("R15", 0)],
    ),
    section(
        "supply",
        "Busbar's eFuse: only the slots are behind it",
        &[("Q3", 0), ("U8", 0), ("D5", 0), ("C35", 0)],
    ),
    section("supply", "5 V for fans and switch", &[("U10", 0)]),
    section(
        "supply",
        "3.3 V for the RMC, always on",
        &[("F1", 0), ("D1", 0), ("U4", 0)],
    ),
    section("supply", "The rack's Ethernet switch", &[("J8", 0)]),
    section("supply", "Test points", &[("TP2", 0)]),
];

/// Behind the controller.
const AFTER: &[Section] = &[
    section("network", "Jack with transformer", &[("J16", 0)]),
    section("network", "Clock", &[("Y2", 0)]),
    section("network", "Ethernet controller", &[("U13", 0)]),
    section("network", "Analogue supply, decoupling", &[("FB1", 0)]),
    section("slots", "Management bus", &[("U14", 0), ("D6", 0)]),
    section("slots", "Presence and lights of the slots", &[("U12", 0)]),
    section("slots", "Slot 1", &[("J11", 0)]),
    section("slots", "Slot 2", &[("J12", 0)]),
    section("slots", "Slot 3", &[("J13", 0)]),
    section("slots", "Slot 4", &[("J14", 0)]),
    section("slots", "Slot 5", &[("J15", 0)]),
    section("slots", "At the slots; test point", &[("C60", 0)]),
    section("fans", "Fan 1", &[("Q4", 0), ("J9", 0)]),
    section("fans", "Fan 2", &[("Q5", 0), ("J10", 0)]),
    section("fans", "Display", &[("J7", 0)]),
    section("fans", "Temperature", &[("U11", 0)]),
    section(
        "fans",
        "Lights",
        &[("R61", 0), ("R62", 0), ("R63", 0), ("R64", 0)],
    ),
    section("fans", "The rack's button; holes, marks", &[("SW3", 0)]),
];
