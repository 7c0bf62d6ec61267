// SPDX-License-Identifier: Apache-2.0
//! The Raspberry Pi's header, the two UARTs through gates, and the EEPROM that tells the Pi what sits on it.
//!
//! No side may feed the other through a signal. The gate of each line is supplied by the side that listens, its input
//! bears 5.5 V at any supply and its output none when its supply is gone (Ioff, SN74LVC1G125).

use super::{PI_3V3, PI_5V};
use crate::circuits::build::{GND, Kind, OnSheet, Screw, V3V3};
use crate::design::OPEN;

/// The header: pad, the symbol's name, net.
const HEADER: [(&str, &str, &str); 40] = [
    ("1", "3V3", PI_3V3),
    ("2", "5V", PI_5V),
    ("3", "SDA_I2C1/GPIO02", OPEN),
    ("4", "5V", PI_5V),
    ("5", "SCL_I2C1/GPIO03", OPEN),
    ("6", "GND", GND),
    ("7", "GPCLK0/GPIO04", OPEN),
    ("8", "GPIO14/UART_TXD", "PI_CONSOLE_TX"),
    ("9", "GND", GND),
    ("10", "GPIO15/UART_RXD", "PI_CONSOLE_RX"),
    ("11", "GPIO17/SPI1_~{CE1}", OPEN),
    ("12", "GPIO18/SPI1_~{CE0}/PCM_CLK/PWM0", OPEN),
    ("13", "GPIO27/SDIO_DAT3", OPEN),
    ("14", "GND", GND),
    ("15", "GPIO22/SDIO_CLK", OPEN),
    ("16", "GPIO23/SDIO_CMD", OPEN),
    ("17", "3V3", PI_3V3),
    ("18", "GPIO24/SDIO_DAT0", OPEN),
    ("19", "MOSI_SPI0/GPIO10", OPEN),
    ("20", "GND", GND),
    ("21", "MISO_SPI0/GPIO09", OPEN),
    ("22", "GPIO25/SDIO_DAT1", OPEN),
    ("23", "SCLK_SPI0/GPIO11", OPEN),
    ("24", "~{CE0}_SPI0/GPIO08", OPEN),
    ("25", "GND", GND),
    ("26", "~{CE1}_SPI0/GPIO07", OPEN),
    ("27", "ID_SD_I2C0/GPIO00", "PI_ID_SD"),
    ("28", "ID_SC_I2C0/GPIO01", "PI_ID_SC"),
    ("29", "GPCLK1/GPIO05", OPEN),
    ("30", "GND", GND),
    ("31", "GPCLK2/GPIO06", OPEN),
    ("32", "GPIO12/PWM0", "PI_CONTROL_TX"),
    ("33", "GPIO13/PWM1", "PI_CONTROL_RX"),
    ("34", "GND", GND),
    ("35", "GPIO19/SPI1_MISO/PCM_FS", OPEN),
    ("36", "GPIO16/SPI1_~{CE2}", OPEN),
    ("37", "GPIO26/SDIO_DAT2", OPEN),
    ("38", "GPIO20/SPI1_MOSI/PCM_DIN/PWM1", OPEN),
    ("39", "GND", GND),
    ("40", "GPIO21/SPI1_SCLK/PCM_DOUT", OPEN),
];

pub(super) fn host(on: &mut OnSheet<'_>) {
    let header = Kind {
        symbol: "Connector:Raspberry_Pi_4",
        footprint: "Connector_PinSocket_2.54mm:PinSocket_2x20_P2.54mm_Vertical",
        value: "Raspberry Pi",
        bom: Some("socket-2x20"),
    };
    on.part(
        "J4",
        &header,
        "socket on the board's lower side, onto the Pi 4's or Pi 5's header; never power the Pi by its own USB-C as well",
        &HEADER,
    );
    gates(on);
    identification(on);
    on.r(
        "R33",
        "10k",
        (PI_3V3, "PI_ON"),
        "high while the Pi runs; limits the current into an unpowered controller to 0.3 mA",
    );
    for reference in ["H1", "H2", "H3", "H4"] {
        on.hole(reference, Screw::M25);
    }
}

fn gates(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "74xGxx:SN74LVC1G125DBV",
        footprint: "Package_TO_SOT_SMD:SOT-23-5",
        value: "SN74LVC1G125DBV",
        bom: Some("sn74lvc1g125"),
    };
    for (reference, from, to, supply, capacitor, note, near) in [
        (
            "U8",
            "PI_CONSOLE_TX",
            "CONSOLE_RX",
            V3V3,
            "C43",
            "console, from the Pi",
            "at U8, pad 5",
        ),
        (
            "U9",
            "PI_CONTROL_TX",
            "CONTROL_RX",
            V3V3,
            "C44",
            "control link, from the Pi (UART5 of a Pi 4, UART4 of a Pi 5)",
            "at U9, pad 5",
        ),
        (
            "U10",
            "CONSOLE_TX",
            "PI_CONSOLE_RX",
            PI_3V3,
            "C45",
            "console, to the Pi",
            "at U10, pad 5",
        ),
        (
            "U11",
            "CONTROL_TX",
            "PI_CONTROL_RX",
            PI_3V3,
            "C46",
            "control link, to the Pi",
            "at U11, pad 5",
        ),
    ] {
        on.part(
            reference,
            &kind,
            note,
            &[
                ("1", "~", GND),
                ("2", "~", from),
                ("3", "GND", GND),
                ("4", "~", to),
                ("5", "VCC", supply),
            ],
        );
        on.decoupling(capacitor, supply, near);
    }
    let low =
        "no floating input while the Pi is off; the Pi pulls the same way until its UART is set up";
    on.r("R31", "100k", ("PI_CONSOLE_TX", GND), low);
    on.r("R32", "100k", ("PI_CONTROL_TX", GND), low);
}

fn identification(on: &mut OnSheet<'_>) {
    let kind = Kind {
        symbol: "Memory_EEPROM:24LC32",
        footprint: "Package_SO:SOIC-8_3.9x4.9mm_P1.27mm",
        value: "24LC32",
        bom: Some("24lc32"),
    };
    on.part(
        "U12",
        &kind,
        "HAT identification: the Pi sets up the control UART without a line in config.txt; address 0x50 on the Pi's own bus",
        &[
            ("1", "A0", GND),
            ("2", "A1", GND),
            ("3", "A2", GND),
            ("4", "GND", GND),
            ("5", "SDA", "PI_ID_SD"),
            ("6", "SCL", "PI_ID_SC"),
            ("7", "WP", "EEPROM_WP"),
            ("8", "VCC", PI_3V3),
        ],
    );
    on.decoupling("C47", PI_3V3, "at U12, pad 8");
    let pull = "asked for by the HAT specification";
    on.r("R34", "3k9", (PI_3V3, "PI_ID_SD"), pull);
    on.r("R35", "3k9", (PI_3V3, "PI_ID_SC"), pull);
    on.r(
        "R36",
        "10k",
        (PI_3V3, "EEPROM_WP"),
        "forbids writing unless JP2 is closed",
    );
    on.solder_jumper(
        "JP2",
        "WRITE",
        ("EEPROM_WP", GND),
        "closed to write the identification once",
    );
}
