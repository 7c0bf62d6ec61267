// SPDX-License-Identifier: Apache-2.0
//! An end of the management bus, the same on both boards: transceiver and surge protection. Termination and bias are the backplane's.

use super::build::{GND, Kind, OnSheet, V3V3};

/// A transceiver's place.
pub(super) struct Transceiver {
    pub(super) part: &'static str,
    pub(super) note: &'static str,
    pub(super) capacitor: &'static str,
    /// Says which part's pad the capacitor is at.
    pub(super) capacitor_note: &'static str,
    /// Holds it listening.
    pub(super) listen: &'static str,
    /// Holds the received line idle.
    pub(super) idle: &'static str,
}

/// The THVD1450 with what is at its pads.
pub(super) fn transceiver(on: &mut OnSheet<'_>, at: &Transceiver) {
    let kind = Kind {
        symbol: "Interface_UART:THVD1450D",
        footprint: "Package_SO:SOIC-8_3.9x4.9mm_P1.27mm",
        value: "THVD1450D",
        bom: Some("thvd1450"),
    };
    on.part(
        at.part,
        &kind,
        at.note,
        &[
            ("1", "RO", "RS485_RX"),
            ("2", "~{RE}", "RS485_DE"),
            ("3", "DE", "RS485_DE"),
            ("4", "DI", "RS485_TX"),
            ("5", "GND", GND),
            ("6", "A", "RS485_A"),
            ("7", "B", "RS485_B"),
            ("8", "VCC", V3V3),
        ],
    );
    on.decoupling(at.capacitor, V3V3, at.capacitor_note);
    on.r(
        at.listen,
        "4k7",
        ("RS485_DE", GND),
        "listens in reset; below 8.2k because of erratum RP2350-E9",
    );
    on.r(
        at.idle,
        "10k",
        (V3V3, "RS485_RX"),
        "idle while the receiver is off",
    );
}

/// Surge protection of both lines.
pub(super) fn surge(on: &mut OnSheet<'_>, part: &'static str, note: &'static str) {
    let kind = Kind {
        symbol: "Diode:SM712_SOT23",
        footprint: "Package_TO_SOT_SMD:SOT-23",
        value: "SM712",
        bom: Some("sm712"),
    };
    on.part(
        part,
        &kind,
        note,
        &[
            ("1", "A1", "RS485_A"),
            ("2", "A2", "RS485_B"),
            ("3", "common", GND),
        ],
    );
}
