// SPDX-License-Identifier: Apache-2.0
//! The RMC's Ethernet: W5500 and a jack with magnetics, after WIZnet's reference schematic for jacks with transformer.

use super::ETH_AVDD;
use crate::circuits::build::{GND, Kind, OnSheet, V3V3};
use crate::design::OPEN;

const C_0402: &str = "Capacitor_SMD:C_0402_1005Metric";

pub(super) fn network(on: &mut OnSheet<'_>) {
    chip(on);
    clock(on);
    jack(on);
}

fn chip(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Interface_Ethernet:W5500",
        footprint: "Package_QFP:LQFP-48_7x7mm_P0.5mm",
        value: "W5500",
        bom: Some("w5500"),
    };
    on.part(
        "U13",
        &kind,
        "Ethernet by SPI, used as a MAC with PHY (MACRAW): IPv6 is the firmware's",
        &[
            ("1", "TXN", "ETH_TXN"),
            ("2", "TXP", "ETH_TXP"),
            ("3", "AGND", GND),
            ("4", "AVDD", ETH_AVDD),
            ("5", "RXN", "ETH_RXN"),
            ("6", "RXP", "ETH_RXP"),
            ("7", "DNC", OPEN),
            ("8", "AVDD", ETH_AVDD),
            ("9", "AGND", GND),
            ("10", "EXRES1", "ETH_EXRES"),
            ("11", "AVDD", ETH_AVDD),
            ("12", "NC", OPEN),
            ("13", "NC", OPEN),
            ("14", "AGND", GND),
            ("15", "AVDD", ETH_AVDD),
            ("16", "AGND", GND),
            ("17", "AVDD", ETH_AVDD),
            ("18", "VBG", OPEN),
            ("19", "AGND", GND),
            ("20", "TOCAP", "ETH_TOCAP"),
            ("21", "AVDD", ETH_AVDD),
            ("22", "1V2O", "ETH_1V2"),
            ("23", "RSVD", GND),
            ("24", "SPDLED", OPEN),
            ("25", "LINKLED", "ETH_LINK_N"),
            ("26", "DUPLED", OPEN),
            ("27", "ACTLED", "ETH_ACT_N"),
            ("28", "VDD", V3V3),
            ("29", "GND", GND),
            ("30", "XI/CLKIN", "ETH_XI"),
            ("31", "XO", "ETH_XO"),
            ("32", "~{SCS}", "ETH_CS_N"),
            ("33", "SCLK", "ETH_SCK"),
            ("34", "MISO", "ETH_MISO"),
            ("35", "MOSI", "ETH_MOSI"),
            ("36", "~{INT}", "ETH_INT_N"),
            ("37", "~{RST}", "ETH_RST_N"),
            ("38", "RSVD", GND),
            ("39", "RSVD", GND),
            ("40", "RSVD", GND),
            ("41", "RSVD", GND),
            ("42", "RSVD", GND),
            // Pulled up inside: 111 is automatic negotiation of everything.
            ("43", "PMODE2", OPEN),
            ("44", "PMODE1", OPEN),
            ("45", "PMODE0", OPEN),
            ("46", "NC", OPEN),
            ("47", "NC", OPEN),
            ("48", "AGND", GND),
        ],
    );
    let bead = Kind {
        symbol: "Device:FerriteBead",
        footprint: "Inductor_SMD:L_0603_1608Metric",
        value: "600R",
        bom: Some("ferrite-600"),
    };
    on.part(
        "FB1",
        &bead,
        "the analogue supply's filter, with C43",
        &[("1", "~", V3V3), ("2", "~", ETH_AVDD)],
    );
    on.c_of(
        "C43",
        "22u",
        "Capacitor_SMD:C_1206_3216Metric",
        "c-22u-16v-1206",
        (ETH_AVDD, GND),
        "the analogue supply's bulk",
    );
    for (reference, note) in [
        ("C44", "at U13, pad 4"),
        ("C45", "at U13, pad 8"),
        ("C46", "at U13, pad 11"),
        ("C47", "at U13, pad 15"),
        ("C48", "at U13, pad 17"),
        ("C49", "at U13, pad 21"),
    ] {
        on.decoupling(reference, ETH_AVDD, note);
    }
    on.decoupling("C50", V3V3, "at U13, pad 28");
    on.r(
        "R31",
        "12k4",
        ("ETH_EXRES", GND),
        "1 %: the transmitter's reference",
    );
    on.c_of(
        "C51",
        "4u7",
        C_0402,
        "c-4u7-0402",
        ("ETH_TOCAP", GND),
        "at U13, pad 20; asked for by the datasheet",
    );
    on.c("C52", "10n", ("ETH_1V2", GND), "asked for by the datasheet");
    on.r(
        "R32",
        "10k",
        ("ETH_RST_N", GND),
        "in reset until the RMC is ready; the chip has a pull-up of 77k",
    );
    on.r(
        "R33",
        "10k",
        (V3V3, "ETH_CS_N"),
        "not selected while the RMC starts",
    );
}

fn clock(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Device:Crystal_GND24",
        footprint: "Crystal:Crystal_SMD_3225-4Pin_3.2x2.5mm",
        value: "25 MHz",
        bom: Some("crystal-25m"),
    };
    on.part(
        "Y2",
        &kind,
        "+-30 ppm, 18 pF load as the W5500 asks for",
        &[
            ("1", "1", "ETH_XI"),
            ("2", "G", GND),
            ("3", "3", "ETH_XO"),
            ("4", "G", GND),
        ],
    );
    for (reference, net) in [("C53", "ETH_XI"), ("C54", "ETH_XO")] {
        on.c_of(
            reference,
            "30p",
            C_0402,
            "c-30p-0402",
            (net, GND),
            "load: 2 x (18 pF - 3 pF of chip and board)",
        );
    }
    on.r("R34", "1M", ("ETH_XI", "ETH_XO"), "starts the oscillator");
}

fn jack(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Connector:RJ45_Hanrun_HR911105A_Horizontal",
        footprint: "Connector_RJ:RJ45_Hanrun_HR911105A_Horizontal",
        value: "HR911105A",
        bom: Some("hr911105a"),
    };
    on.part(
        "J16",
        &kind,
        "the management network; transformer and the cable's termination are inside",
        &[
            ("1", "TD+", "ETH_TXP"),
            ("2", "TD-", "ETH_TXN"),
            ("3", "RD+", "ETH_RD_P"),
            ("4", "TCT", ETH_AVDD),
            ("5", "RCT", "ETH_RCT"),
            ("6", "RD-", "ETH_RD_N"),
            ("7", "NC", OPEN),
            ("8", "", GND),
            ("9", "", "LED_LINK_A"),
            ("10", "", "ETH_LINK_N"),
            ("11", "", "ETH_ACT_N"),
            ("12", "", "LED_ACT_A"),
            ("SH", "", GND),
        ],
    );
    let half = "half of the line's 100 ohm";
    on.r("R35", "49R9", ("ETH_TXP", ETH_AVDD), half);
    on.r("R36", "49R9", ("ETH_TXN", ETH_AVDD), half);
    on.c(
        "C55",
        "22n",
        (ETH_AVDD, GND),
        "at the transmitter's centre tap",
    );
    on.r("R37", "49R9", ("ETH_RD_P", "ETH_RCT"), half);
    on.r("R38", "49R9", ("ETH_RD_N", "ETH_RCT"), half);
    on.c(
        "C56",
        "10n",
        ("ETH_RCT", GND),
        "the receiver's centre tap to ground",
    );
    let coupling = "the chip biases its receiver itself";
    on.c("C57", "6n8", ("ETH_RD_P", "ETH_RXP"), coupling);
    on.c("C58", "6n8", ("ETH_RD_N", "ETH_RXN"), coupling);
    on.r("R39", "1k", (V3V3, "LED_LINK_A"), "1.2 mA");
    on.r("R40", "1k", (V3V3, "LED_ACT_A"), "1.2 mA");
}
