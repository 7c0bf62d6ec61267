// SPDX-License-Identifier: Apache-2.0
//! The management bus, and what a person or the rack sees of the board: temperature, slot, lights, button.

use super::PI_5V;
use crate::circuits::build::{GND, OnSheet, V3V3};
use crate::circuits::rs485::{self, Transceiver};
use crate::circuits::sensors::{self, Sensor};

pub(super) fn bus(on: &mut OnSheet<'_>) {
    transceiver(on);
    temperature(on);
    slot(on);
    lights(on);
    on.button("SW3", "POWER", ("BUTTON_N", GND), "the tray's power button");
    on.r("R46", "10k", (V3V3, "BUTTON_N"), "high unless pressed");
    on.decoupling("C50", "BUTTON_N", "with R46: bounces below 1 ms vanish");
    for (reference, net, note) in [
        ("TP7", "RS485_A", "0.2 V above B while the bus is idle"),
        ("TP8", "RS485_B", "0.2 V below A while the bus is idle"),
        ("TP9", "1V1", "1.1 V, the controller's core"),
    ] {
        on.test_point(reference, net, note);
    }
    for reference in ["FID1", "FID2", "FID3"] {
        on.fiducial(reference);
    }
}

fn transceiver(on: &mut OnSheet<'_>) {
    let place = Transceiver {
        part: "U13",
        note: "RS-485, 3.3 V, fail-safe; 1/8 unit load, does not disturb the bus while unpowered",
        capacitor: "C48",
        capacitor_note: "at U13, pad 8",
        listen: "R37",
        idle: "R38",
    };
    rs485::transceiver(on, &place);
    rs485::surge(
        on,
        "D5",
        "discharge at the fingers, at J1; terminated on the backplane only",
    );
}

fn temperature(on: &mut OnSheet<'_>) {
    sensors::temperature(
        on,
        &Sensor {
            part: "U14",
            note: "the board's temperature, away from U7; I2C address 0x48",
            decoupling: ("C49", "at U14, pad 8"),
            pull_up: "R42",
        },
    );
    on.r("R39", "4k7", (V3V3, "I2C_SDA"), "the bus's only pull-up");
    on.r("R40", "4k7", (V3V3, "I2C_SCL"), "the bus's only pull-up");
}

fn slot(on: &mut OnSheet<'_>) {
    for (reference, net) in [
        ("R43", "SLOT_ID0"),
        ("R44", "SLOT_ID1"),
        ("R45", "SLOT_ID2"),
    ] {
        on.r(reference, "10k", (V3V3, net), "1 where the slot is open");
    }
}

fn lights(on: &mut OnSheet<'_>) {
    for (light, colour, resistor, value, from, anode, note) in [
        (
            "D6",
            "green",
            "R47",
            "1k",
            V3V3,
            "LED_POWER_A",
            "the controller has power",
        ),
        (
            "D7",
            "blue",
            "R48",
            "470R",
            "LED_STATUS",
            "LED_STATUS_A",
            "the controller's state, and `find me`",
        ),
        (
            "D8",
            "red",
            "R49",
            "1k",
            "LED_FAULT",
            "LED_FAULT_A",
            "something needs a person",
        ),
        (
            "D9",
            "green",
            "R50",
            "2k2",
            PI_5V,
            "LED_TRAY_A",
            "the tray has power",
        ),
    ] {
        on.led(light, colour, (anode, GND), note);
        on.r(resistor, value, (from, anode), "1 to 2 mA");
    }
}
