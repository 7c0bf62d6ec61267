// SPDX-License-Identifier: Apache-2.0
//! 5.1 V, 4 A for the Raspberry Pi, switched by the controller; and 3.3 V for the controller, always on.
//!
//! U7's numbers (LMR33640 datasheet): reference 1.0 V +-1.5 %, 400 kHz, enable 1.23 V rising.

use super::{BUSBAR, PI_5V, VIN_BUCK};
use crate::circuits::always_on::{Branch, always_on};
use crate::circuits::build::{GND, Kind, OnSheet, V3V3};

const C_1206: &str = "Capacitor_SMD:C_1206_3216Metric";
const C_1210: &str = "Capacitor_SMD:C_1210_3225Metric";

pub(super) fn supply(on: &mut OnSheet<'_>) {
    buck(on);
    always_on(on, BUSBAR, Branch::Bmc);
    for (reference, net, note) in [
        (
            "TP4",
            PI_5V,
            "5.03 to 5.20 V while the tray is on, 0 V while it is off",
        ),
        (
            "TP5",
            V3V3,
            "3.2 to 3.4 V as soon as there is busbar or USB",
        ),
        ("TP6", GND, "the probe's ground, at the supplies"),
    ] {
        on.test_point(reference, net, note);
    }
}

fn buck(on: &mut OnSheet<'_>) {
    for reference in ["C31", "C32"] {
        on.c_of(
            reference,
            "10u",
            C_1210,
            "c-10u-50v-1210",
            (VIN_BUCK, GND),
            "input of U7; 2 A of ripple at 9 V; about 6 uF each at 20 V",
        );
    }
    on.c(
        "C33",
        "220n",
        (VIN_BUCK, GND),
        "at U7, pad 2 and pad 1: the loop of the switching edge",
    );
    let kind = Kind {
        symbol: "Regulator_Switching:LMR33640ADDA",
        footprint: "Package_SO:Texas_HSOP-8-1EP_3.9x4.9mm_P1.27mm_ThermalVias",
        value: "LMR33640ADDA",
        bom: Some("lmr33640a"),
    };
    on.part(
        "U7",
        &kind,
        "synchronous buck, 4 A, 400 kHz",
        &[
            ("1", "GND", GND),
            ("2", "VIN", VIN_BUCK),
            ("3", "EN", "BUCK_EN"),
            ("4", "PG", "PI_POWER_GOOD"),
            ("5", "FB", "BUCK_FB"),
            ("6", "VCC", "BUCK_VCC"),
            ("7", "BOOT", "BUCK_BOOT"),
            ("8", "SW", "BUCK_SW"),
            ("9", "GND", GND),
        ],
    );
    on.r(
        "R27",
        "4k7",
        ("PI_POWER_EN", GND),
        "off in reset; below 8.2k because of erratum RP2350-E9",
    );
    on.r(
        "R51",
        "220k",
        ("PI_POWER_EN", "BUCK_EN"),
        "with C51: the tray stays on for 0.8 s while the controller restarts, such as for an update",
    );
    on.c_of(
        "C51",
        "4u7",
        "Capacitor_SMD:C_0402_1005Metric",
        "c-4u7-0402",
        ("BUCK_EN", GND),
        "at U7, pad 3; holds EN, whose input may not exceed VIN, by little charge",
    );
    on.r(
        "R28",
        "10k",
        (V3V3, "PI_POWER_GOOD"),
        "open drain: high is good",
    );
    on.c(
        "C34",
        "100n",
        ("BUCK_BOOT", "BUCK_SW"),
        "bootstrap of U7's upper switch",
    );
    on.c(
        "C35",
        "1u",
        ("BUCK_VCC", GND),
        "at U7, pad 6: its internal 5 V",
    );
    on.l(
        "L3",
        "6u8",
        "Inductor_SMD:L_Coilcraft_XAL6060-XXX",
        "l-6u8-buck",
        ("BUCK_SW", PI_5V),
        "ripple at 20 V: 14.9 * 5.1 / (20 * 6.8 uH * 400 kHz) = 1.40 A, peak 4.7 A; saturates at 9.2 A",
    );
    for reference in ["C36", "C37", "C38", "C39"] {
        on.c_of(
            reference,
            "22u",
            C_1206,
            "c-22u-16v-1206",
            (PI_5V, GND),
            "output of U7; about 14 uF each at 5 V",
        );
    }
    let bulk = Kind {
        symbol: "Device:C_Polarized",
        footprint: "Capacitor_SMD:CP_Elec_6.3x5.8",
        value: "220u",
        bom: Some("c-220u-polymer"),
    };
    on.part(
        "C40",
        &bulk,
        "polymer, 15 mohm: the Pi's steps of load",
        &[("1", "~", PI_5V), ("2", "~", GND)],
    );
    on.r_of(
        "R25",
        "100k 0.1%",
        "r-0603-01",
        (PI_5V, "BUCK_FB"),
        "1.0 V * (1 + 100k / 24.3k) = 5.115 V; 5.03 to 5.20 V in all, the Pi takes 4.75 to 5.25 V",
    );
    on.r_of(
        "R26",
        "24k3 0.1%",
        "r-0603-01",
        ("BUCK_FB", GND),
        "lower half of the divider",
    );
    on.c_of(
        "C41",
        "47p",
        "Capacitor_SMD:C_0603_1608Metric",
        "c-47p-0603",
        (PI_5V, "BUCK_FB"),
        "feed-forward: zero at 34 kHz, below the limit of 250 pF",
    );
    on.r(
        "R29",
        "10k",
        (PI_5V, "ADC_PI_5V"),
        "5.1 V are 2.55 V at the controller",
    );
    on.r("R30", "10k", ("ADC_PI_5V", GND), "with R29 a divider by 2");
    on.decoupling("C42", "ADC_PI_5V", "filter, 320 Hz");
}
