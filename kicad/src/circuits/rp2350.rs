// SPDX-License-Identifier: Apache-2.0
//! The controller that both boards have: RP2350A with flash, crystal, USB and debug port, after Raspberry Pi's "Hardware
//! design with RP2350" (minimal design). U1 to U3, Y1, J2, J3, SW1, SW2, L1, C1 to C18 and R1 to R9 on either board.

use super::build::{GND, Kind, OnSheet, V3V3};
use crate::design::OPEN;
use racklet_boards::pins::Controller;

/// The core's supply, made by the chip's own switching regulator.
pub(super) const V1V1: &str = "1V1";
/// 5 V of the USB connector.
pub(super) const USB_VBUS: &str = "USB_VBUS";
/// Pulled low to reset the controller.
pub(super) const RUN: &str = "RUN";

/// The GPIOs' pads as (GPIO, pad's number, symbol's name).
const GPIO_PADS: [(u8, &str, &str); 30] = [
    (0, "2", "GPIO0"),
    (1, "3", "GPIO1"),
    (2, "4", "GPIO2"),
    (3, "5", "GPIO3"),
    (4, "7", "GPIO4"),
    (5, "8", "GPIO5"),
    (6, "9", "GPIO6"),
    (7, "10", "GPIO7"),
    (8, "12", "GPIO8"),
    (9, "13", "GPIO9"),
    (10, "14", "GPIO10"),
    (11, "15", "GPIO11"),
    (12, "16", "GPIO12"),
    (13, "17", "GPIO13"),
    (14, "18", "GPIO14"),
    (15, "19", "GPIO15"),
    (16, "27", "GPIO16"),
    (17, "28", "GPIO17"),
    (18, "29", "GPIO18"),
    (19, "31", "GPIO19"),
    (20, "32", "GPIO20"),
    (21, "33", "GPIO21"),
    (22, "34", "GPIO22"),
    (23, "35", "GPIO23"),
    (24, "36", "GPIO24"),
    (25, "37", "GPIO25"),
    (26, "40", "GPIO26/ADC0"),
    (27, "41", "GPIO27/ADC1"),
    (28, "42", "GPIO28/ADC2"),
    (29, "43", "GPIO29/ADC3"),
];

/// Puts the controller on a sheet.
pub(super) fn controller(on: &mut OnSheet<'_>, pins: &Controller) {
    chip(on, pins);
    core_supply(on);
    decoupling(on);
    flash(on);
    crystal(on);
    usb(on);
    debug(on);
}

fn chip(on: &mut OnSheet<'_>, pins: &Controller) {
    let mut pads = vec![
        ("1", "IOVDD", V3V3),
        ("6", "DVDD", V1V1),
        ("11", "IOVDD", V3V3),
        ("20", "IOVDD", V3V3),
        ("21", "XIN", "XIN"),
        ("22", "XOUT", "XOUT"),
        ("23", "DVDD", V1V1),
        ("24", "SWCLK", "SWCLK"),
        ("25", "SWDIO", "SWDIO"),
        ("26", "RUN", RUN),
        ("30", "IOVDD", V3V3),
        ("38", "IOVDD", V3V3),
        ("39", "DVDD", V1V1),
        ("44", "ADC_AVDD", V3V3),
        ("45", "IOVDD", V3V3),
        ("46", "VREG_AVDD", "VREG_AVDD"),
        ("47", "VREG_PGND", GND),
        ("48", "VREG_LX", "VREG_LX"),
        ("49", "VREG_VIN", V3V3),
        ("50", "VREG_FB", V1V1),
        ("51", "USB_DM", "USB_DM"),
        ("52", "USB_DP", "USB_DP"),
        ("53", "USB_OTP_VDD", V3V3),
        ("54", "QSPI_IOVDD", V3V3),
        ("55", "QSPI_SD3", "QSPI_SD3"),
        ("56", "QSPI_SCLK", "QSPI_SCLK"),
        ("57", "QSPI_SD0", "QSPI_SD0"),
        ("58", "QSPI_SD2", "QSPI_SD2"),
        ("59", "QSPI_SD1", "QSPI_SD1"),
        ("60", "~{QSPI_SS}", "QSPI_SS_N"),
        ("61", "GND", GND),
    ];
    for (gpio, number, name) in GPIO_PADS {
        pads.push((number, name, pins.net(gpio).unwrap_or(OPEN)));
    }
    pads.sort_by_key(|(number, ..)| number.parse::<u8>().expect("pads are numbered"));
    let kind = Kind {
        symbol: "MCU_RaspberryPi:RP2350A",
        footprint: "Package_DFN_QFN:QFN-60-1EP_7x7mm_P0.4mm_EP3.4x3.4mm_ThermalVias",
        value: "RP2350A",
        bom: Some("rp2350a"),
    };
    on.part(
        pins.part,
        &kind,
        "controller; GPIOs as in boards/*/pins.toml",
        &pads,
    );
}

fn core_supply(on: &mut OnSheet<'_>) {
    on.l(
        "L1",
        "3u3",
        "racklet:L_Abracon_AOTA-B201610",
        "l-3u3-core",
        ("VREG_LX", V1V1),
        "core regulator: the guide asks for this very part; its mark lies at 1V1, as on a Pico 2, not at VREG_LX",
    );
    let four_u7 = |on: &mut OnSheet<'_>, reference, net, note| {
        on.c_of(
            reference,
            "4u7",
            "Capacitor_SMD:C_0402_1005Metric",
            "c-4u7-0402",
            (net, GND),
            note,
        );
    };
    four_u7(
        on,
        "C1",
        V3V3,
        "core regulator's input, at U1, pad 49 and pad 47",
    );
    four_u7(on, "C2", V1V1, "core regulator's output, at L1");
    four_u7(
        on,
        "C3",
        "VREG_AVDD",
        "core regulator's quiet supply, at U1, pad 46",
    );
    four_u7(
        on,
        "C15",
        V1V1,
        "core supply, at U1, pad 23, the one farthest from L1",
    );
    on.r(
        "R1",
        "33R",
        (V3V3, "VREG_AVDD"),
        "filter of the core regulator's quiet supply",
    );
}

fn decoupling(on: &mut OnSheet<'_>) {
    for (reference, net, note) in [
        ("C4", V3V3, "at U1, pad 1 (IOVDD)"),
        ("C5", V3V3, "at U1, pad 11 (IOVDD)"),
        ("C6", V3V3, "at U1, pad 20 (IOVDD)"),
        ("C7", V3V3, "at U1, pad 30 (IOVDD)"),
        ("C8", V3V3, "at U1, pad 38 (IOVDD)"),
        ("C9", V3V3, "at U1, pad 45 (IOVDD)"),
        ("C10", V3V3, "at U1, pad 44 (ADC_AVDD)"),
        ("C11", V3V3, "at U1, pad 53 (USB_OTP_VDD)"),
        ("C12", V3V3, "at U1, pad 54 (QSPI_IOVDD)"),
        ("C13", V1V1, "at U1, pad 6 (DVDD)"),
        ("C14", V1V1, "at U1, pad 39 (DVDD)"),
    ] {
        on.decoupling(reference, net, note);
    }
}

fn flash(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Memory_Flash:W25Q128JVS",
        footprint: "Package_SO:SOIC-8_5.3x5.3mm_P1.27mm",
        value: "W25Q128JVS",
        bom: Some("w25q128jvs"),
    };
    on.part(
        "U2",
        &kind,
        "16 MiB: two signed images, keys' vault, console's ring, floors",
        &[
            ("1", "~{CS}", "QSPI_SS_N"),
            ("2", "DO/IO_{1}", "QSPI_SD1"),
            ("3", "~{WP}/IO_{2}", "QSPI_SD2"),
            ("4", "GND", GND),
            ("5", "DI/IO_{0}", "QSPI_SD0"),
            ("6", "CLK", "QSPI_SCLK"),
            ("7", "~{HOLD}/~{RESET}/IO_{3}", "QSPI_SD3"),
            ("8", "VCC", V3V3),
        ],
    );
    on.decoupling("C16", V3V3, "at U2, pad 8");
    on.r(
        "R8",
        "10k",
        (V3V3, "QSPI_SS_N"),
        "flash stays deselected while the controller starts",
    );
    on.r(
        "R7",
        "1k",
        ("QSPI_SS_N", "BOOTSEL_N"),
        "lets SW1 pull, yet the controller drive",
    );
    on.button(
        "SW1",
        "BOOTSEL",
        ("BOOTSEL_N", GND),
        "held while reset is released: USB recovery",
    );
}

fn crystal(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Device:Crystal_GND24",
        footprint: "Crystal:Crystal_SMD_3225-4Pin_3.2x2.5mm",
        value: "12 MHz",
        bom: Some("crystal-12m"),
    };
    on.part(
        "Y1",
        &kind,
        "ABM8-272-T3: 10 pF load, 50 ohm at most; the part the chip's start-up is tuned for",
        &[
            ("1", "1", "XIN"),
            ("2", "G", GND),
            ("3", "3", "XOUT_R"),
            ("4", "G", GND),
        ],
    );
    for (reference, net) in [("C17", "XIN"), ("C18", "XOUT_R")] {
        on.c_of(
            reference,
            "15p",
            "Capacitor_SMD:C_0402_1005Metric",
            "c-15p-0402",
            (net, GND),
            "load: 2 x (10 pF - 2.5 pF of the board)",
        );
    }
    on.r(
        "R2",
        "1k",
        ("XOUT", "XOUT_R"),
        "keeps the drive of the crystal within 100 uW",
    );
}

fn usb(on: &mut OnSheet<'_>) {
    let connector = Kind {
        symbol: "Connector:USB_C_Receptacle_USB2.0_16P",
        footprint: "Connector_USB:USB_C_Receptacle_GCT_USB4105-xx-A_16P_TopMnt_Horizontal",
        value: "USB-C",
        bom: Some("usb4105"),
    };
    on.part(
        "J2",
        &connector,
        "recovery: firmware and console by USB, with the tray out of its rack",
        &[
            ("A1", "GND", GND),
            ("A4", "VBUS", USB_VBUS),
            ("A5", "CC1", "USB_CC1"),
            ("A6", "D+", "USB_CONN_DP"),
            ("A7", "D-", "USB_CONN_DM"),
            ("A8", "SBU1", OPEN),
            ("A9", "VBUS", USB_VBUS),
            ("A12", "GND", GND),
            ("B1", "GND", GND),
            ("B4", "VBUS", USB_VBUS),
            ("B5", "CC2", "USB_CC2"),
            ("B6", "D+", "USB_CONN_DP"),
            ("B7", "D-", "USB_CONN_DM"),
            ("B8", "SBU2", OPEN),
            ("B9", "VBUS", USB_VBUS),
            ("B12", "GND", GND),
            ("S1", "SHIELD", GND),
        ],
    );
    on.r("R5", "5k1", ("USB_CC1", GND), "says: a sink, 5 V");
    on.r("R6", "5k1", ("USB_CC2", GND), "says: a sink, 5 V");
    let protection = Kind {
        symbol: "Power_Protection:USBLC6-2SC6",
        footprint: "Package_TO_SOT_SMD:SOT-23-6",
        value: "USBLC6-2SC6",
        bom: Some("usblc6"),
    };
    on.part(
        "U3",
        &protection,
        "static discharge at the USB connector; each pair of pads is one node, the tracks pass through",
        &[
            ("1", "I/O1", "USB_CONN_DP"),
            ("2", "GND", GND),
            ("3", "I/O2", "USB_CONN_DM"),
            ("4", "I/O2", "USB_CONN_DM"),
            ("5", "VBUS", USB_VBUS),
            ("6", "I/O1", "USB_CONN_DP"),
        ],
    );
    on.r(
        "R3",
        "27R",
        ("USB_CONN_DP", "USB_DP"),
        "series termination, at U1",
    );
    on.r(
        "R4",
        "27R",
        ("USB_CONN_DM", "USB_DM"),
        "series termination, at U1",
    );
}

fn debug(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Connector:Conn_ARM_JTAG_SWD_10",
        footprint: "Connector_PinHeader_1.27mm:PinHeader_2x05_P1.27mm_Vertical_SMD",
        value: "SWD",
        bom: Some("swd-header"),
    };
    on.part(
        "J3",
        &kind,
        "Cortex debug, 10 pins",
        &[
            ("1", "VTref", V3V3),
            ("2", "SWDIO/TMS", "SWDIO"),
            ("3", "GND", GND),
            ("4", "SWCLK/TCK", "SWCLK"),
            ("5", "GND", GND),
            ("6", "SWO/TDO", OPEN),
            ("7", "KEY", OPEN),
            ("8", "NC/TDI", OPEN),
            ("9", "GNDDetect", GND),
            ("10", "~{RESET}", RUN),
        ],
    );
    on.r("R9", "10k", (V3V3, RUN), "runs unless told to reset");
    on.button("SW2", "RESET", (RUN, GND), "resets the controller");
}
