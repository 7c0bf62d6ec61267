// SPDX-License-Identifier: Apache-2.0
//! Power in: a USB-C supply asked for 20 V, or a barrel jack; an ideal diode each, one fuse, and the rack's energy.
//!
//! A source offers 5 A only through a cable with an electronic marker; through any other it is 3 A (60 W). The sink chip
//! asks for the voltage and does not tell what current was offered: the RMC must be told the supply's power, and keeps
//! the trays below it.

use super::{BARREL_IN, PD_VBUS, VIN_OR, VIN_PROT, VIN_RACK};
use crate::circuits::build::{GND, Kind, OnSheet, V3V3};
use crate::circuits::efuse::ONE_WAY;
use crate::circuits::sensors::{self, Sensor};
use crate::design::OPEN;

pub(super) fn input(on: &mut OnSheet<'_>) {
    usb_c(on);
    barrel(on);
    ideal_diodes(on);
    fuse_and_surge(on);
    sensor(on);
    for (reference, net, note) in [
        ("TP1", VIN_RACK, "20 V; 5 V before the supply is asked"),
        ("TP3", GND, "the probe's ground, at the input"),
    ] {
        on.test_point(reference, net, note);
    }
}

fn usb_c(on: &mut OnSheet<'_>) {
    let connector = Kind {
        symbol: "Connector:USB_C_Receptacle_USB2.0_16P",
        footprint: "Connector_USB:USB_C_Receptacle_GCT_USB4105-xx-A_16P_TopMnt_Horizontal",
        value: "USB-C 20 V",
        bom: Some("usb4105"),
    };
    on.part(
        "J5",
        &connector,
        "power in, 20 V by USB PD; 5 A need a cable with an electronic marker",
        &[
            ("A1", "GND", GND),
            ("A4", "VBUS", PD_VBUS),
            ("A5", "CC1", "PD_CC1"),
            ("A6", "D+", "PD_DP"),
            ("A7", "D-", "PD_DM"),
            ("A8", "SBU1", OPEN),
            ("A9", "VBUS", PD_VBUS),
            ("A12", "GND", GND),
            ("B1", "GND", GND),
            ("B4", "VBUS", PD_VBUS),
            ("B5", "CC2", "PD_CC2"),
            ("B6", "D+", "PD_DP"),
            ("B7", "D-", "PD_DM"),
            ("B8", "SBU2", OPEN),
            ("B9", "VBUS", PD_VBUS),
            ("B12", "GND", GND),
            ("S1", "SHIELD", GND),
        ],
    );
    let sink = Kind {
        symbol: "Interface_USB:CH224K",
        footprint: "Package_SO:SSOP-10-1EP_3.9x4.9mm_P1mm_EP2.1x3.3mm_ThermalVias",
        value: "CH224K",
        bom: Some("ch224k"),
    };
    on.part(
        "U5",
        &sink,
        "USB PD sink: CFG1 open asks for 20 V; terminates CC by itself",
        &[
            ("1", "VDD", "PD_VDD"),
            ("2", "CFG2", OPEN),
            ("3", "CFG3", OPEN),
            ("4", "DP", "PD_DP"),
            ("5", "DM", "PD_DM"),
            ("6", "CC2", "PD_CC2"),
            ("7", "CC1", "PD_CC1"),
            ("8", "VBUS", "PD_SENSE"),
            ("9", "CFG1", OPEN),
            ("10", "PG", "PD_GOOD_N"),
            ("11", "GND", GND),
        ],
    );
    let supply = Kind {
        symbol: "Device:R",
        footprint: "Resistor_SMD:R_1206_3216Metric",
        value: "1k",
        bom: Some("r-1k-1206"),
    };
    on.part(
        "R10",
        &supply,
        "U5's supply, clamped inside; 17 mA and 0.28 W at 20 V, hence the size",
        &[("1", "~", PD_VBUS), ("2", "~", "PD_VDD")],
    );
    on.c_of(
        "C69",
        "1u",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-1u-50v-1206",
        (PD_VBUS, GND),
        "at J5; USB asks a sink for 1 to 10 uF",
    );
    on.c("C24", "1u", ("PD_VDD", GND), "at U5, pad 1");
    on.r(
        "R11",
        "10k",
        (PD_VBUS, "PD_SENSE"),
        "U5 measures its input through it",
    );
    on.r(
        "R12",
        "10k",
        (V3V3, "PD_GOOD_N"),
        "open drain: low is 20 V agreed",
    );
    on.r("R13", "100k", (PD_VBUS, "ADC_PD"), "20 V are 1.82 V");
    on.r(
        "R14",
        "10k",
        ("ADC_PD", GND),
        "with the upper one a divider by 11",
    );
    on.decoupling("C27", "ADC_PD", "filter, 175 Hz");
}

fn barrel(on: &mut OnSheet<'_>) {
    let jack = Kind {
        symbol: "Connector:Barrel_Jack_MountingPin",
        footprint: "Connector_BarrelJack:BarrelJack_CUI_PJ-063AH_Horizontal",
        value: "9-20 V",
        bom: Some("barrel-jack"),
    };
    on.part(
        "J6",
        &jack,
        "power in, 9 to 20 V, 2.1 mm, centre positive, 8 A contacts",
        &[
            ("1", "~", BARREL_IN),
            ("2", "~", GND),
            ("MP", "MountPin", GND),
        ],
    );
    let surge = Kind {
        symbol: "Diode:SMAJ24CA",
        footprint: "Diode_SMD:D_SMA",
        value: "SMAJ24CA",
        bom: Some("smaj24ca"),
    };
    on.part(
        "D4",
        &surge,
        "bidirectional, because a barrel jack can be wired the wrong way round",
        &[("1", "A1", BARREL_IN), ("2", "A2", GND)],
    );
    on.c_of(
        "C70",
        "1u",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-1u-50v-1206",
        (BARREL_IN, GND),
        "at J6",
    );
    on.r("R15", "100k", (BARREL_IN, "ADC_BARREL"), "20 V are 1.82 V");
    on.r(
        "R16",
        "10k",
        ("ADC_BARREL", GND),
        "with the upper one a divider by 11",
    );
    on.decoupling("C28", "ADC_BARREL", "filter, 175 Hz");
}

fn ideal_diodes(on: &mut OnSheet<'_>) {
    let controller = Kind {
        symbol: "Power_Management:LM74700",
        footprint: "Package_TO_SOT_SMD:SOT-23-6",
        value: "LM74700",
        bom: Some("lm74700"),
    };
    for (chip, fet, capacitor, source, gate, vcap, note, near) in [
        (
            "U6",
            "Q1",
            "C25",
            PD_VBUS,
            "PD_GATE",
            "PD_VCAP",
            "ideal diode of USB-C: 20 mV instead of 0.5 V, 2.3 W less at 5 A",
            "at U6: gate supply, pad 1 to pad 6",
        ),
        (
            "U7",
            "Q2",
            "C26",
            BARREL_IN,
            "BARREL_GATE",
            "BARREL_VCAP",
            "ideal diode of the barrel jack; blocks reverse polarity",
            "at U7: gate supply, pad 1 to pad 6",
        ),
    ] {
        on.part(
            chip,
            &controller,
            note,
            &[
                ("1", "VCAP", vcap),
                ("2", "GND", GND),
                ("3", "EN", source),
                ("4", "CATHODE", VIN_OR),
                ("5", "GATE", gate),
                ("6", "ANODE", source),
            ],
        );
        on.part(
            fet,
            &ONE_WAY,
            "8.1 mohm: 0.2 W at 5 A",
            &[
                ("1", "S", source),
                ("2", "S", source),
                ("3", "S", source),
                ("4", "G", gate),
                ("5", "D", VIN_OR),
            ],
        );
        on.c(capacitor, "100n", (vcap, source), near);
    }
}

fn fuse_and_surge(on: &mut OnSheet<'_>) {
    let fuse = Kind {
        symbol: "Device:Fuse",
        footprint: "Fuse:Fuse_Littelfuse-NANO2-451_453",
        value: "7 A",
        bom: Some("fuse-7a"),
    };
    on.part(
        "F2",
        &fuse,
        "against fire, not overload: 5 A are 71 % of it, the eFuse acts first",
        &[("1", "~", VIN_OR), ("2", "~", VIN_PROT)],
    );
    let surge = Kind {
        symbol: "Diode:SMAJ24A",
        footprint: "Diode_SMD:D_SMA",
        value: "SMAJ24A",
        bom: Some("smaj24a"),
    };
    on.part(
        "D3",
        &surge,
        "nothing below 24 V, 38.9 V at 10 A, below the current sensor's 40 V; a supply cannot be reversed behind Q1 and Q2",
        &[("1", "A1", VIN_PROT), ("2", "A2", GND)],
    );
    on.c_of(
        "C29",
        "4u7",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-4u7-50v-1206",
        (VIN_PROT, GND),
        "input; USB allows 10 uF before a contract",
    );
}

fn sensor(on: &mut OnSheet<'_>) {
    let shunt = Kind {
        symbol: "Device:R_Shunt",
        footprint: "Resistor_SMD:R_Shunt_Vishay_WSK2512_6332Metric_T1.19mm",
        value: "5m 1%",
        bom: Some("shunt-5m"),
    };
    on.part(
        "R17",
        &shunt,
        "28 mV and 0.16 W at 5.6 A",
        &[
            ("1", "~", VIN_PROT),
            ("2", "~", "SHUNT_P"),
            ("3", "~", "SHUNT_N"),
            ("4", "~", VIN_RACK),
        ],
    );
    on.r("R18", "10R", ("SHUNT_P", "ISENSE_P"), "filter with C30");
    on.r("R19", "10R", ("SHUNT_N", "ISENSE_N"), "filter with C30");
    on.c("C30", "100n", ("ISENSE_P", "ISENSE_N"), "filter, 80 kHz");
    sensors::energy(
        on,
        &Sensor {
            part: "U9",
            note: "the whole rack's voltage, current and energy; I2C address 0x40",
            decoupling: ("C31", "at U9, pad 6"),
            pull_up: "R20",
        },
        VIN_RACK,
    );
    on.r("R21", "4k7", (V3V3, "I2C_SDA"), "the bus's only pull-up");
    on.r("R22", "4k7", (V3V3, "I2C_SCL"), "the bus's only pull-up");
}
