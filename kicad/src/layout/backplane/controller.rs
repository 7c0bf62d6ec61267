// SPDX-License-Identifier: Apache-2.0
//! The controller, with USB at its left to the edge, flash below, the crystal right of it.
//!
//! Places are given from the chip's middle as if it were not turned, with USB above; [`at`] turns them.

use super::{F, table};
use crate::footprints::B_CU;
use crate::pcb::build::Draft;

/// The chip's middle.
const CHIP: (f64, f64) = (24.5, 61.4);

pub(super) fn all(on: &mut Draft<'_>) {
    around(
        on,
        &[
            ("U1", 0.0, 0.0, 0.0),
            ("C4", -6.9, -2.8, 180.0),
            ("C13", -6.9, -0.8, 180.0),
            ("C5", -6.9, 1.2, 180.0),
            ("C6", -2.4, 5.7, 270.0),
            ("C15", 0.2, 6.1, 270.0),
            ("C7", 5.4, 4.4, 0.0),
            ("C8", 6.1, 0.0, 0.0),
            ("C14", 6.1, -1.1, 0.0),
            ("C10", 6.1, -2.3, 0.0),
            ("C9", 6.1, -3.35, 0.0),
            ("C3", 5.1, -5.0, 0.0),
            ("R1", 7.6, -6.6, 180.0),
            ("L1", 3.4, -7.0, 90.0),
            ("C1", 1.5, -5.7, 90.0),
            ("C2", 5.7, -8.4, 0.0),
            ("C11", -0.55, -5.3, 90.0),
            ("C12", -0.55, -7.3, 90.0),
            ("R4", 1.4, -10.25, 270.0),
            ("R3", -0.2, -10.25, 270.0),
            ("U3", 0.6, -13.9, 90.0),
            ("Y1", -0.6, 9.6, 270.0),
            ("C17", -3.6, 8.5, 180.0),
            ("C18", 2.2, 10.7, 0.0),
            ("R2", 2.0, 8.3, 270.0),
            ("U2", -9.4, -8.6, 180.0),
            ("C16", -13.2, -4.6, 180.0),
            ("J2", 0.6, -20.825, 180.0),
            ("R5", 4.0, -14.9, 180.0),
            ("R6", -2.9, -14.9, 0.0),
        ],
    );
    table(
        on,
        &[
            ("R8", 16.2, 77.4, 0.0),
            ("R7", 12.6, 77.4, 0.0),
            ("SW1", 7.0, 77.6, 0.0),
            ("SW2", 7.0, 72.8, 0.0),
            ("J3", 41.0, 55.7, 0.0),
            ("R9", 33.2, 54.8, 0.0),
            ("TP9", 13.4, 53.4, 0.0),
        ],
    );
    usb(on);
    crystal(on);
    supplies(on);
    ways_out(on);
    on.first(&[
        "1V1",
        "QSPI_SD1",
        "QSPI_SD2",
        "QSPI_SD0",
        "QSPI_SCLK",
        "QSPI_SD3",
        "QSPI_SS_N",
    ]);
}

/// A place on the board.
fn at((dx, dy): (f64, f64)) -> (f64, f64) {
    (CHIP.0 + dy, CHIP.1 - dx)
}

/// A pad's place from the chip's middle.
fn pad(on: &mut Draft<'_>, part: &str, number: &str) -> (f64, f64) {
    let (x, y) = on.pad(part, number);
    (CHIP.1 - y, x - CHIP.0)
}

/// A track on the upper side.
fn run(on: &mut Draft<'_>, net: &str, width: f64, points: &[(f64, f64)]) {
    let points: Vec<_> = points.iter().copied().map(at).collect();
    on.run(net, F, width, &points);
}

/// Parts by their place from the chip's middle.
fn around(on: &mut Draft<'_>, parts: &[(&str, f64, f64, f64)]) {
    for &(reference, dx, dy, angle) in parts {
        let (x, y) = at((dx, dy));
        on.put(reference, x, y, angle + 90.0);
    }
}

/// Straight, 0.25 mm wide and 0.15 mm apart (90 ohm, see the layout's checks).
fn usb(on: &mut Draft<'_>) {
    let out = -4.2;
    for (net, number, resistor) in [("USB_DM", "51", "R4"), ("USB_DP", "52", "R3")] {
        let (from, to) = (pad(on, "U1", number), pad(on, resistor, "2"));
        run(on, net, 0.2, &[from, (from.0, out)]);
        run(on, net, 0.25, &[(from.0, out), (from.0, to.1 + 0.6), to]);
    }
    for (net, pads) in [
        ("USB_CONN_DM", [("R4", "1"), ("U3", "3"), ("U3", "4")]),
        ("USB_CONN_DP", [("R3", "1"), ("U3", "1"), ("U3", "6")]),
    ] {
        let points = pads.map(|(part, number)| pad(on, part, number));
        run(on, net, 0.25, &points);
    }
    let [a6, a7, b6, b7] = ["A6", "A7", "B6", "B7"].map(|number| pad(on, "J2", number));
    let (dm, dp) = (pad(on, "U3", "4"), pad(on, "U3", "6"));
    run(on, "USB_CONN_DM", 0.2, &[dm, (b7.0, dm.1 - 0.6), b7]);
    let front = b7.1 + 0.85;
    run(on, "USB_CONN_DM", 0.2, &[(b7.0, front), (a7.0, front), a7]);
    run(on, "USB_CONN_DP", 0.2, &[dp, (b6.0, dp.1 - 0.6), b6]);
    let rear = a6.1 - 0.95;
    run(
        on,
        "USB_CONN_DP",
        0.2,
        &[a6, (a6.0, rear), (b6.0, rear), b6],
    );
}

/// With nothing below but ground.
fn crystal(on: &mut Draft<'_>) {
    let (xin, xout) = (pad(on, "U1", "21"), pad(on, "U1", "22"));
    let (y_in, y_out) = (pad(on, "Y1", "1"), pad(on, "Y1", "3"));
    let (r_in, r_out) = (pad(on, "R2", "1"), pad(on, "R2", "2"));
    let (c_in, c_out) = (pad(on, "C17", "1"), pad(on, "C18", "1"));
    let knees = [xin, (xin.0, y_in.1 - 0.9), (y_in.0, y_in.1 - 0.3), y_in];
    run(on, "XIN", 0.15, &knees);
    run(on, "XIN", 0.15, &[y_in, c_in]);
    let knees = [xout, (xout.0, r_in.1 - 0.4), (xout.0 + 0.4, r_in.1), r_in];
    run(on, "XOUT", 0.15, &knees);
    run(
        on,
        "XOUT_R",
        0.15,
        &[r_out, (y_out.0 + 0.6, y_out.1 - 0.5), y_out],
    );
    run(on, "XOUT_R", 0.15, &[y_out, c_out]);
    let corners = super::rectangle(-2.6, 7.4, 1.4, 11.4).map(at);
    on.keep_out("Crystal", B_CU, &corners, false);
}

/// Each supply pad straight to its capacitor.
fn supplies(on: &mut Draft<'_>) {
    for (number, capacitor, pull) in [
        ("1", "C4", false),
        ("6", "C13", false),
        ("11", "C5", false),
        ("20", "C6", true),
        ("23", "C15", true),
        ("30", "C7", false),
        ("38", "C8", false),
        ("39", "C14", false),
        ("44", "C10", false),
        ("45", "C9", false),
        ("54", "C11", true),
    ] {
        let (from, to) = (pad(on, "U1", number), pad(on, capacitor, "1"));
        let core = matches!(capacitor, "C13" | "C14" | "C15");
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let knee = if pull {
            // Out of the row first, then aside.
            (from.0, to.1 - dx.abs() * dy.signum())
        } else {
            (to.0 - dy.abs() * dx.signum(), from.1)
        };
        let net = if core { "1V1" } else { "3V3" };
        run(on, net, 0.2, &[from, knee, to]);
    }
    // The pads of two capacitors share a via; the core supply joins below the chip.
    on.vias("3V3", &[at((4.9, -2.6))]);
    for (number, dx, dy) in [("6", 1.1, 0.0), ("50", 0.0, 1.1), ("39", -1.1, 0.1)] {
        let from = pad(on, "U1", number);
        let to = (from.0 + dx, from.1 + dy);
        run(on, "1V1", 0.2, &[from, to]);
        on.vias("1V1", &[at(to)]);
    }
    // Two pads beside each other.
    let (one, two) = (pad(on, "U1", "53"), pad(on, "U1", "54"));
    run(on, "3V3", 0.2, &[one, (one.0, -4.05), (two.0, -4.05)]);
    let (lx, l1) = (pad(on, "U1", "48"), pad(on, "L1", "1"));
    run(
        on,
        "VREG_LX",
        0.2,
        &[lx, (lx.0, -4.3), (l1.0 - 0.6, l1.1 + 0.3), l1],
    );
}

/// What is near the chip would close the ways out of its middle pads: these go down at once, by turns inside and outside its rows.
fn ways_out(on: &mut Draft<'_>) {
    // Pad, its net, and the via; inside, the track leaves the row of pads before it turns.
    for (number, net, dx, dy) in [
        ("2", "FAN1_PWM", -4.6, -2.25),
        ("3", "FAN1_TACH", -2.35, -2.3),
        ("4", "FAN2_PWM", -2.35, -1.55),
        ("5", "FAN2_TACH", -4.6, -1.35),
        ("7", "EFUSE_OFF", -4.6, -0.25),
        ("8", "EFUSE_FAULT_N", -2.35, -0.05),
        ("9", "LED_STATUS", -2.35, 0.7),
        ("10", "LED_FAULT", -4.6, 0.65),
        ("12", "RS485_TX", -4.6, 1.75),
        ("13", "RS485_RX", -2.35, 1.5),
        ("14", "RS485_DE", -2.35, 2.35),
        ("15", "BUTTON_N", -4.6, 2.65),
        ("40", "ADC_EFUSE_CURRENT", 4.35, -0.96),
        ("41", "ADC_PD", 2.35, -1.4),
        ("42", "ADC_BARREL", 4.65, -1.7),
    ] {
        let from = pad(on, "U1", number);
        let inside = f64::abs(dx) < 3.0;
        let knee = f64::signum(dx) * if inside { -0.65 } else { 0.75 };
        run(on, net, 0.15, &[from, (from.0 + knee, from.1), (dx, dy)]);
        on.vias(net, &[at((dx, dy))]);
    }
    for (number, net, ways) in [
        (
            "18",
            "DISPLAY_SDA",
            [(-2.0, 2.85), (-1.75, 2.5), (-1.55, 2.22)],
        ),
        (
            "19",
            "DISPLAY_SCL",
            [(-1.6, 2.85), (-1.3, 2.75), (-0.75, 2.3)],
        ),
    ] {
        let from = pad(on, "U1", number);
        let [first, second, via] = ways;
        run(on, net, 0.15, &[from, first, second, via]);
        on.vias(net, &[at(via)]);
    }
    // Side by side until there is room.
    for (number, net) in [
        ("31", "ETH_MOSI"),
        ("32", "ETH_INT_N"),
        ("33", "ETH_RST_N"),
        ("34", "SENSE_ALERT_N"),
        ("35", "TEMP_ALERT_N"),
        ("36", "SLOTS_INT_N"),
    ] {
        let from = pad(on, "U1", number);
        run(on, net, 0.15, &[from, (6.8, from.1)]);
    }
    for (number, net, turn) in [
        ("29", "ETH_SCK", 4.8),
        ("28", "ETH_CS_N", 4.95),
        ("27", "ETH_MISO", 5.1),
    ] {
        let from = pad(on, "U1", number);
        let further = 4.6 - from.0;
        run(
            on,
            net,
            0.15,
            &[from, (from.0, turn), (4.6, turn + further)],
        );
    }
    let from = pad(on, "U1", "26");
    run(on, "RUN", 0.15, &[from, (1.2, 2.35)]);
    on.vias("RUN", &[at((1.2, 2.35))]);
}
