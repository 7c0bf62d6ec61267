// SPDX-License-Identifier: Apache-2.0
//! The busbar's eFuse, 5 V for fans and switch, 3.3 V for the RMC.
//!
//! Only the slots are behind the eFuse: when it opens, fans, network and RMC stay, and can say so. Its numbers are those
//! of the BMC's input (TPS2663x).

use super::{BUSBAR, V5, VIN_RACK};
use crate::circuits::always_on::{Branch, always_on};
use crate::circuits::build::{GND, Kind, OnSheet, V3V3};
use crate::circuits::efuse::{self, Efuse};
use crate::design::OPEN;

const C_1206: &str = "Capacitor_SMD:C_1206_3216Metric";
const C_1210: &str = "Capacitor_SMD:C_1210_3225Metric";

pub(super) fn supply(on: &mut OnSheet<'_>) {
    efuse(on);
    five_volts(on);
    always_on(on, VIN_RACK, Branch::Backplane);
    for (reference, net, note) in [
        ("TP2", BUSBAR, "20 V once the eFuse is closed"),
        ("TP4", V5, "4.9 to 5.1 V"),
        ("TP5", V3V3, "3.2 to 3.4 V as soon as there is power or USB"),
        ("TP6", GND, "the probe's ground, at the supplies"),
    ] {
        on.test_point(reference, net, note);
    }
}

fn efuse(on: &mut OnSheet<'_>) {
    let place = Efuse {
        part: "U8",
        note: "eFuse: 8 V to 22.8 V, 5.2 A, 0.5 V/ms, tries again by itself",
        system: VIN_RACK,
        input: VIN_RACK,
        output: BUSBAR,
        // No blocking transistor: the ideal diodes are in front.
        gate: OPEN,
        drive: OPEN,
    };
    efuse::efuse(on, &place);
    on.c("C32", "100n", (VIN_RACK, GND), "at U8, pad 1");
    on.r(
        "R23",
        "422k",
        (VIN_RACK, "EFUSE_UVLO"),
        "UVLO 1.2 V * 496.8k / 74.8k = 7.97 V: nothing is drawn before USB-C agreed",
    );
    on.r(
        "R24",
        "48k7",
        ("EFUSE_UVLO", "EFUSE_OVP"),
        "middle of the divider",
    );
    on.r(
        "R25",
        "26k1",
        ("EFUSE_OVP", GND),
        "OVP 1.2 V * 496.8k / 26.1k = 22.8 V",
    );
    on.r(
        "R26",
        "3k48",
        ("EFUSE_ILIM", GND),
        "limit 18 / 3.48 = 5.17 A, 4.8 to 5.6 A, twice that for milliseconds",
    );
    on.c(
        "C33",
        "100n",
        ("EFUSE_DVDT", GND),
        "ramp 1 / (20.8 kohm * 100 nF) = 0.48 V/ms: 0.12 A into 240 uF",
    );
    on.r(
        "R27",
        "9k1",
        ("EFUSE_IMON", GND),
        "27.9 uA/A * 9.1k = 0.25 V/A; at twice the limit, 11.3 A, at most 3.2 V",
    );
    on.r(
        "R28",
        "1k",
        ("EFUSE_IMON", "ADC_EFUSE_CURRENT"),
        "filter and protection of the controller's input",
    );
    on.decoupling("C34", "ADC_EFUSE_CURRENT", "filter, 1.6 kHz");
    on.r(
        "R29",
        "10k",
        (V3V3, "EFUSE_FAULT_N"),
        "open drain: high is good",
    );
    on.small_nmos(
        "Q3",
        "EFUSE_OFF",
        GND,
        "EFUSE_SHDN_N",
        "lets the RMC open the eFuse: all trays off, or a fault cleared",
    );
    on.r(
        "R30",
        "4k7",
        ("EFUSE_OFF", GND),
        "closed while the RMC is in reset: trays outlive its updates",
    );
    on.schottky(
        "D5",
        GND,
        BUSBAR,
        "holds the busbar above -0.3 V when the eFuse opens under load",
    );
    let bulk = Kind {
        symbol: "Device:C_Polarized",
        footprint: "Capacitor_SMD:CP_Elec_8x10.5",
        value: "220u 35 V",
        bom: Some("c-220u-35v"),
    };
    on.part(
        "C35",
        &bulk,
        "damps the supply's cable against the slots' hot-plug",
        &[("1", "~", BUSBAR), ("2", "~", GND)],
    );
    for reference in ["C36", "C37"] {
        on.c_of(
            reference,
            "10u",
            C_1210,
            "c-10u-50v-1210",
            (BUSBAR, GND),
            "busbar, one at each end",
        );
    }
}

fn five_volts(on: &mut OnSheet<'_>) {
    on.c_of(
        "C38",
        "10u",
        C_1210,
        "c-10u-50v-1210",
        (VIN_RACK, GND),
        "input of U10",
    );
    on.c(
        "C39",
        "100n",
        (VIN_RACK, GND),
        "input, at U10, pad 3 and pad 4",
    );
    let buck = Kind {
        symbol: "Regulator_Switching:AP63205WU",
        footprint: "Package_TO_SOT_SMD:TSOT-23-6",
        value: "AP63205WU",
        bom: Some("ap63205"),
    };
    on.part(
        "U10",
        &buck,
        "5 V fixed, 2 A, 1.1 MHz; 1.6 A are needed",
        &[
            ("1", "FB", V5),
            ("2", "EN", VIN_RACK),
            ("3", "IN", VIN_RACK),
            ("4", "GND", GND),
            ("5", "SW", "V5_SW"),
            ("6", "BST", "V5_BST"),
        ],
    );
    on.c(
        "C40",
        "100n",
        ("V5_BST", "V5_SW"),
        "bootstrap of U10's upper switch",
    );
    on.l(
        "L3",
        "4u7",
        "Inductor_SMD:L_Coilcraft_XAL4030-XXX",
        "l-4u7-aon",
        ("V5_SW", V5),
        "ripple at 20 V: 15 * 5 / (20 * 4.7 uH * 1.1 MHz) = 0.73 A, peak 2.0 A; saturates at 4.5 A",
    );
    for reference in ["C41", "C42"] {
        on.c_of(
            reference,
            "22u",
            C_1206,
            "c-22u-16v-1206",
            (V5, GND),
            "output of U10",
        );
    }
    let fuse = Kind {
        symbol: "Device:Polyfuse",
        footprint: "Fuse:Fuse_1812_4532Metric",
        value: "1.5 A / 16 V",
        bom: Some("ptc-150"),
    };
    on.part(
        "F3",
        &fuse,
        "the switch's cable leaves the board; 0.9 A are needed, it holds 1.05 A at 60 degrees",
        &[("1", "~", V5), ("2", "~", "SWITCH_5V")],
    );
    let switch = Kind {
        symbol: "Connector_Generic:Conn_01x02",
        footprint: "Connector_JST:JST_XH_B2B-XH-A_1x02_P2.50mm_Vertical",
        value: "Switch 5 V",
        bom: Some("xh-2"),
    };
    on.part(
        "J8",
        &switch,
        "5 V, 1 A for the rack's Ethernet switch; 1 is positive",
        &[("1", "Pin_1", "SWITCH_5V"), ("2", "Pin_2", GND)],
    );
}
