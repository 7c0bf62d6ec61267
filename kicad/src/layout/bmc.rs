// SPDX-License-Identifier: Apache-2.0
//! The BMC board. Power runs in a loop: from the fingers at the left through blocking MOSFET, eFuse and shunt to the right, up to
//! the converter, and back along the upper edge to the header's 5 V pins. The controller is at the right of the middle, with
//! USB at the lower edge; the always-on supply at the lower left, the bus beside its fingers.
//!
//! Millimetres from the upper left corner. KiCad's angles, against the clock.

use crate::footprints::B_CU;
use crate::pcb::build::Draft;

/// Layers by number.
const F: u8 = 0;
const IN1: u8 = 1;
const IN2: u8 = 2;
const B: u8 = 3;

/// Lays the board out.
pub fn lay_out(on: &mut Draft<'_>) {
    outline(on);
    mechanics(on);
    input(on);
    sensor(on);
    buck(on);
    always_on(on);
    controller(on);
    host(on);
    bus(on);
    planes(on);
    power(on);
    by_hand(on);
    silk(on);
}

/// HAT outline with the tab of the card edge at the left.
fn outline(on: &mut Draft<'_>) {
    let (width, height, radius) = (65.0, 56.5, 3.0);
    // The tab, from the footprint's origin: it reaches 0.65 mm beyond its first and last finger, 3.45 mm below its origin.
    let (tip, top) = (-8.0, TAB_ORIGIN.1 - 0.65);
    let (bottom, key) = (TAB_ORIGIN.1 + 19.65, TAB_ORIGIN.1 + 11.5);
    on.edge(&[(radius, 0.0), (width - radius, 0.0)]);
    on.corner((width - radius, radius), radius, -90.0);
    on.edge(&[(width, radius), (width, height - radius)]);
    on.corner((width - radius, height - radius), radius, 0.0);
    on.edge(&[(width - radius, height), (radius, height)]);
    on.corner((radius, height - radius), radius, 90.0);
    let chamfer = 0.5;
    let bay = tip + 7.45 - 0.95;
    on.edge(&[
        (0.0, height - radius),
        (0.0, bottom),
        (tip + chamfer, bottom),
        (tip, bottom - chamfer),
        (tip, key + 0.95 + chamfer),
        (tip + chamfer, key + 0.95),
        (bay, key + 0.95),
    ]);
    on.arc((bay, key + 0.95), (bay + 0.95, key), (bay, key - 0.95));
    on.edge(&[
        (bay, key - 0.95),
        (tip + chamfer, key - 0.95),
        (tip, key - 0.95 - chamfer),
        (tip, top + chamfer),
        (tip + chamfer, top),
        (0.0, top),
        (0.0, radius),
    ]);
    on.corner((radius, radius), radius, 180.0);
}

/// The origin of the card edge's footprint.
const TAB_ORIGIN: (f64, f64) = (-4.55, 18.75);

fn mechanics(on: &mut Draft<'_>) {
    on.put("J1", TAB_ORIGIN.0, TAB_ORIGIN.1, 270.0);
    // A socket below: seen from above its pins are those of the Pi.
    on.put_below("J4", 8.37, 4.77, HEADER_ANGLE);
    for (hole, x, y) in [
        ("H1", 3.5, 3.5),
        ("H2", 61.5, 3.5),
        ("H3", 3.5, 52.5),
        ("H4", 61.5, 52.5),
    ] {
        on.put(hole, x, y, 0.0);
    }
    on.put("FID1", 1.9, 9.0, 0.0);
    on.put("FID2", 62.9, 46.5, 0.0);
    on.put("FID3", 8.2, 54.6, 0.0);
}

const HEADER_ANGLE: f64 = 270.0;

fn table(on: &mut Draft<'_>, parts: &[(&str, f64, f64, f64)]) {
    for &(reference, x, y, angle) in parts {
        on.put(reference, x, y, angle);
    }
}

/// Fingers to eFuse.
fn input(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("D3", 2.4, 18.3, 90.0),
            ("Q1", 8.5, 23.5, 0.0),
            ("Q2", 7.5, 28.5, 180.0),
            ("C24", 8.9, 20.35, 180.0),
            ("U5", 16.0, 24.5, 0.0),
            ("R10", 10.6, 29.75, 270.0),
            ("R11", 12.25, 29.75, 270.0),
            ("R12", 13.9, 29.75, 270.0),
            ("C25", 15.55, 29.75, 270.0),
            ("R13", 17.2, 29.75, 270.0),
            ("R14", 18.85, 29.75, 270.0),
            ("D4", 20.75, 18.4, 0.0),
            ("TP1", 5.4, 20.6, 0.0),
            ("TP2", 18.3, 15.5, 0.0),
            ("TP3", 5.6, 18.0, 0.0),
            // Seated, off: what holds the eFuse open.
            ("R16", 4.6, 28.4, 90.0),
            ("R17", 1.2, 39.9, 90.0),
            ("Q3", 17.9, 33.6, 0.0),
            ("Q4", 22.2, 33.6, 0.0),
            ("R18", 21.6, 36.4, 0.0),
            ("JP1", 17.2, 36.8, 0.0),
            ("R19", 31.3, 32.8, 0.0),
            ("R15", 34.2, 34.4, 0.0),
            ("C26", 33.9, 35.8, 180.0),
            ("R20", 30.8, 34.5, 0.0),
            ("R21", 30.8, 36.2, 0.0),
            ("C28", 33.9, 37.0, 180.0),
        ],
    );
}

/// Shunt and sensor.
fn sensor(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("R22", 24.5, 25.0, 90.0),
            ("R23", 28.1, 31.2, 0.0),
            ("R24", 28.1, 29.4, 0.0),
            ("C29", 28.1, 32.9, 0.0),
            ("U6", 33.2, 30.0, 180.0),
            ("C30", 31.0, 27.1, 90.0),
            ("R41", 34.3, 26.6, 0.0),
        ],
    );
}

/// The 5.1 V converter.
fn buck(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("U7", 28.0, 12.5, 90.0),
            ("C33", 26.75, 17.2, 180.0),
            ("C31", 30.7, 19.5, 0.0),
            ("C32", 30.7, 22.8, 0.0),
            ("C34", 26.75, 7.9, 180.0),
            ("C35", 29.9, 7.9, 0.0),
            ("R26", 32.6, 10.0, 0.0),
            ("R25", 32.6, 11.7, 180.0),
            ("C41", 32.6, 13.4, 180.0),
            ("L3", 20.6, 10.6, 180.0),
            ("C36", 15.6, 9.6, 270.0),
            ("C37", 13.1, 9.6, 270.0),
            ("C38", 10.6, 9.6, 270.0),
            ("C39", 8.1, 9.6, 270.0),
            ("C40", 12.2, 15.55, 180.0),
            ("TP4", 5.4, 9.0, 0.0),
            ("C51", 30.2, 17.1, 0.0),
            ("R51", 33.2, 16.0, 180.0),
            ("R27", 36.3, 17.6, 0.0),
            ("R28", 36.3, 19.4, 0.0),
            ("R29", 33.9, 39.6, 0.0),
            ("R30", 30.6, 39.6, 180.0),
            ("C42", 33.9, 41.0, 180.0),
        ],
    );
}

fn always_on(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("F1", 2.0, 29.4, 270.0),
            ("D2", 6.2, 40.6, 0.0),
            ("U4", 14.0, 43.5, 0.0),
            ("C23", 14.0, 46.3, 0.0),
            ("C19", 14.0, 48.4, 0.0),
            ("D1", 13.5, 51.6, 0.0),
            ("C20", 17.6, 41.5, 0.0),
            ("L2", 19.7, 45.1, 0.0),
            ("C21", 23.7, 45.1, 270.0),
            ("C22", 26.3, 45.1, 270.0),
            ("TP5", 29.6, 45.1, 0.0),
            ("TP6", 31.9, 43.2, 0.0),
        ],
    );
}

/// The controller, turned so that USB looks to the lower edge and GPIO0 is at the lower right.
fn controller(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("U1", 44.0, 32.0, 180.0),
            ("C4", 50.4, 34.8, 0.0),
            ("C13", 50.4, 32.8, 0.0),
            ("C5", 50.4, 30.8, 0.0),
            ("C6", 46.4, 26.3, 90.0),
            ("C15", 43.8, 25.9, 90.0),
            ("C7", 40.6, 26.3, 90.0),
            ("C8", 37.9, 32.0, 180.0),
            ("C14", 37.9, 33.1, 180.0),
            ("C10", 37.9, 34.3, 180.0),
            ("C9", 37.9, 35.35, 180.0),
            ("C3", 38.9, 37.0, 180.0),
            ("R1", 36.4, 37.6, 0.0),
            ("L1", 40.6, 39.0, 270.0),
            ("C1", 42.5, 37.7, 270.0),
            ("C2", 38.3, 40.2, 180.0),
            ("C11", 44.55, 37.3, 270.0),
            ("C12", 44.55, 39.3, 270.0),
            ("R4", 42.6, 42.25, 90.0),
            ("R3", 44.2, 42.25, 90.0),
            ("U3", 43.4, 45.9, 270.0),
            ("J2", 43.4, 52.825, 0.0),
            ("R5", 40.0, 46.9, 0.0),
            ("R6", 46.9, 46.9, 180.0),
            ("Y1", 44.6, 22.4, 90.0),
            ("C17", 47.6, 23.5, 0.0),
            ("C18", 41.8, 21.3, 180.0),
            ("R2", 42.0, 23.7, 90.0),
            ("U2", 53.4, 40.6, 0.0),
            ("C16", 57.2, 36.6, 0.0),
            ("R8", 52.6, 45.6, 0.0),
            ("R7", 56.0, 45.6, 0.0),
            ("SW1", 54.0, 54.0, 0.0),
            ("SW2", 54.0, 49.4, 0.0),
            ("J3", 32.6, 49.9, 0.0),
            ("R9", 37.4, 42.6, 0.0),
        ],
    );
}

fn host(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("U8", 37.2, 9.3, 0.0),
            ("U10", 41.8, 9.3, 0.0),
            ("U9", 46.4, 9.3, 0.0),
            ("U11", 51.0, 9.3, 0.0),
            ("C43", 38.9, 6.85, 0.0),
            ("C45", 43.5, 6.85, 0.0),
            ("C44", 48.1, 6.85, 0.0),
            ("C46", 52.7, 6.85, 0.0),
            ("R31", 37.2, 12.1, 0.0),
            ("R32", 46.4, 12.1, 0.0),
            ("U12", 57.6, 10.7, 0.0),
            ("C47", 60.3, 7.15, 180.0),
            ("R34", 52.4, 14.6, 90.0),
            ("R35", 54.2, 15.6, 90.0),
            ("R36", 56.0, 15.6, 90.0),
            ("JP2", 58.2, 15.4, 90.0),
            ("R33", 53.6, 28.5, 0.0),
        ],
    );
}

fn bus(on: &mut Draft<'_>) {
    table(
        on,
        &[
            ("D5", 2.7, 34.25, 0.0),
            ("U13", 9.5, 34.25, 180.0),
            ("C48", 10.6, 37.9, 0.0),
            ("R37", 7.4, 38.0, 0.0),
            ("R38", 13.6, 38.0, 0.0),
            ("TP7", 14.6, 33.0, 0.0),
            ("TP8", 3.4, 37.6, 0.0),
            ("U14", 5.0, 46.0, 0.0),
            ("C49", 10.0, 44.0, 90.0),
            ("R42", 10.2, 47.9, 90.0),
            ("R39", 27.5, 39.6, 90.0),
            ("R40", 25.8, 39.6, 90.0),
            ("R43", 20.0, 39.2, 90.0),
            ("R44", 21.6, 39.2, 90.0),
            ("R45", 24.2, 37.4, 90.0),
            ("TP9", 36.3, 44.4, 0.0),
            ("D6", 62.2, 16.4, 0.0),
            ("D7", 62.2, 19.4, 0.0),
            ("D8", 62.2, 22.4, 0.0),
            ("D9", 62.2, 25.4, 0.0),
            ("R47", 58.4, 18.6, 180.0),
            ("R48", 58.4, 20.3, 180.0),
            ("R49", 58.4, 22.4, 180.0),
            ("R50", 58.4, 25.4, 180.0),
            ("SW3", 62.4, 35.0, 90.0),
            ("R46", 59.0, 31.0, 0.0),
            ("C50", 59.2, 33.0, 0.0),
        ],
    );
}

/// The board within its clearance to the edge; the inner planes end before the fingers' bevel.
fn inset() -> Vec<(f64, f64)> {
    let (top, bottom) = (TAB_ORIGIN.1 - 0.25, TAB_ORIGIN.1 + 19.25);
    let (key_top, key_bottom) = (TAB_ORIGIN.1 + 10.1, TAB_ORIGIN.1 + 12.9);
    vec![
        (1.5, 0.5),
        (63.5, 0.5),
        (64.5, 1.5),
        (64.5, 55.0),
        (63.5, 56.0),
        (1.5, 56.0),
        (0.5, 55.0),
        (0.5, bottom),
        (-1.9, bottom),
        (-1.9, key_bottom),
        (0.2, key_bottom),
        (0.2, key_top),
        (-1.9, key_top),
        (-1.9, top),
        (0.5, top),
        (0.5, 1.5),
    ]
}

fn planes(on: &mut Draft<'_>) {
    let whole = inset();
    on.plane("Ground", "GND", IN1, &whole, 0);
    on.plane("Ground", "GND", IN2, &whole, 0);
    on.plane(
        "3V3",
        "3V3",
        IN2,
        &[
            (34.0, 6.4),
            (64.0, 6.4),
            (64.0, 55.0),
            (63.0, 55.5),
            (2.0, 55.5),
            (1.0, 54.5),
            (1.0, 32.0),
            (34.0, 32.0),
        ],
        5,
    );
    // Outside, ground ends below the header, whose pins must be solderable; elsewhere it joins without spokes.
    let mut below: Vec<_> = whole;
    for point in &mut below {
        point.1 = point.1.max(6.4);
    }
    on.pour("Ground", "GND", F, &below);
    on.pour("Ground", "GND", B, &below);
}

/// What carries amperes.
fn power(on: &mut Draft<'_>) {
    let busbar = [
        (-2.8, 21.35),
        (1.2, 21.35),
        (1.2, 19.2),
        (3.6, 19.2),
        (3.6, 21.35),
        (7.6, 21.35),
        (7.55, 23.95),
        (6.2, 23.95),
        (5.4, 25.3),
        (3.2, 25.3),
        (3.2, 28.6),
        (0.8, 28.6),
        (0.8, 25.15),
        (-2.8, 25.15),
    ];
    on.area("Busbar", "BUSBAR", F, &busbar);
    on.area(
        "Busbar",
        "BUSBAR",
        B,
        &[(-2.8, 21.35), (6.4, 21.35), (6.4, 25.15), (-2.8, 25.15)],
    );
    let mut vias = Vec::new();
    for x in [-1.4, -0.2, 1.0, 2.2, 3.4, 4.6] {
        for y in [22.3, 23.3, 24.3] {
            vias.push((x, y));
        }
    }
    on.vias("BUSBAR", &vias);
    on.area(
        "eFuse in",
        "EFUSE_IN",
        F,
        &[
            (8.6, 19.3),
            (11.3, 19.3),
            (11.3, 20.4),
            (13.95, 20.4),
            (13.95, 23.15),
            (12.1, 23.15),
            (11.4, 23.3),
            (11.4, 24.6),
            (10.6, 25.0),
            (8.0, 25.0),
            (8.0, 21.5),
            (8.6, 21.5),
        ],
    );
    on.area(
        "Fused",
        "VIN_FUSED",
        F,
        &[
            (17.2, 17.4),
            (19.9, 17.4),
            (19.9, 20.2),
            (22.6, 20.2),
            (22.6, 22.4),
            (23.8, 22.4),
            (23.8, 26.6),
            (24.9, 26.6),
            (24.9, 29.2),
            (20.8, 29.2),
            (20.8, 24.8),
            (20.0, 23.7),
            (20.0, 23.15),
            (17.2, 23.15),
        ],
    );
    on.area(
        "Converter in",
        "VIN_BUCK",
        F,
        &[
            (24.1, 20.4),
            (26.8, 18.4),
            (26.8, 14.8),
            (27.95, 14.8),
            (27.95, 17.9),
            (30.0, 17.9),
            (30.0, 24.4),
            (26.8, 24.4),
            (26.8, 23.4),
            (24.1, 23.4),
        ],
    );
    on.area(
        "Switch node",
        "BUCK_SW",
        F,
        &[
            (21.8, 7.8),
            (23.5, 7.8),
            (24.6, 7.4),
            (26.5, 7.4),
            (26.5, 10.4),
            (25.4, 10.6),
            (23.5, 13.4),
            (21.8, 13.4),
        ],
    );
    on.area(
        "5 V",
        "PI_5V",
        F,
        &[
            (6.3, 1.0),
            (11.9, 1.0),
            (14.0, 5.9),
            (17.6, 6.9),
            (19.5, 7.6),
            (19.5, 13.6),
            (16.95, 16.9),
            (13.3, 16.9),
            (13.3, 15.1),
            (17.5, 13.0),
            (17.5, 9.25),
            (4.8, 9.25),
            (4.8, 7.6),
            (6.3, 6.6),
        ],
    );
    // The header's pins 2 and 4 are behind pins 1 to 5: three layers share the gaps between those. Below, pin 1 gets out.
    let right = [
        (12.0, 1.0),
        (14.0, 5.9),
        (19.4, 6.6),
        (19.4, 13.4),
        (17.7, 13.4),
        (17.7, 9.2),
    ];
    let mut inner = vec![(6.6, 9.2), (6.6, 4.0), (6.9, 1.0)];
    inner.extend(right);
    on.area("5 V", "PI_5V", IN2, &inner);
    let mut below = vec![
        (9.0, 9.2),
        (9.0, 6.3),
        (9.55, 5.6),
        (9.55, 3.8),
        (7.3, 3.4),
        (7.3, 1.0),
    ];
    below.extend(right);
    on.area("5 V", "PI_5V", B, &below);
    let mut vias = vec![(16.9, 7.2), (18.2, 7.3), (19.0, 7.3)];
    for x in [6.9, 9.4, 11.85, 14.35] {
        for y in [6.7, 8.1] {
            if x > 9.0 || y > 7.0 {
                vias.push((x, y));
            }
        }
    }
    on.vias("PI_5V", &vias);
    on.area(
        "3V3 out",
        "3V3",
        F,
        &[
            (20.3, 43.2),
            (28.4, 43.2),
            (28.4, 44.7),
            (21.5, 44.6),
            (21.5, 47.0),
            (20.3, 47.0),
        ],
    );
    on.vias(
        "3V3",
        &[(25.0, 43.6), (25.0, 44.3), (27.9, 43.6), (27.9, 44.3)],
    );
    on.area(
        "Always-on switch node",
        "AON_SW",
        F,
        &[
            (14.5, 43.1),
            (17.2, 43.1),
            (17.9, 41.0),
            (18.9, 41.0),
            (19.0, 46.8),
            (17.9, 46.8),
            (17.9, 43.9),
            (14.5, 43.9),
        ],
    );
}

/// Pairs, crystal and what else must go one way.
fn by_hand(on: &mut Draft<'_>) {
    // USB: straight, 0.25 mm wide and 0.15 mm apart (90 ohm, see the layout's checks).
    let (dm, dp) = (on.pad("U1", "51"), on.pad("U1", "52"));
    let (dm_end, dp_end) = (on.pad("R4", "2"), on.pad("R3", "2"));
    on.run("USB_DM", F, 0.2, &[dm, (dm.0, 36.2)]);
    on.run("USB_DP", F, 0.2, &[dp, (dp.0, 36.2)]);
    on.run(
        "USB_DM",
        F,
        0.25,
        &[(dm.0, 36.2), (dm.0, dm_end.1 - 0.6), dm_end],
    );
    on.run(
        "USB_DP",
        F,
        0.25,
        &[(dp.0, 36.2), (dp.0, dp_end.1 - 0.6), dp_end],
    );
    for (net, pads) in [
        ("USB_CONN_DM", [("R4", "1"), ("U3", "3"), ("U3", "4")]),
        ("USB_CONN_DP", [("R3", "1"), ("U3", "1"), ("U3", "6")]),
    ] {
        let points = pads.map(|(part, pad)| on.pad(part, pad));
        on.run(net, F, 0.25, &points);
    }
    let (a6, a7, b6, b7) = (
        on.pad("J2", "A6"),
        on.pad("J2", "A7"),
        on.pad("J2", "B6"),
        on.pad("J2", "B7"),
    );
    let (dm, dp) = (on.pad("U3", "4"), on.pad("U3", "6"));
    on.run("USB_CONN_DM", F, 0.2, &[dm, (b7.0, dm.1 + 0.6), b7]);
    on.run(
        "USB_CONN_DM",
        F,
        0.2,
        &[(b7.0, b7.1 - 0.85), (a7.0, b7.1 - 0.85), a7],
    );
    on.run("USB_CONN_DP", F, 0.2, &[dp, (b6.0, dp.1 + 0.6), b6]);
    on.run(
        "USB_CONN_DP",
        F,
        0.2,
        &[a6, (a6.0, a6.1 + 0.95), (b6.0, a6.1 + 0.95), b6],
    );
    // The crystal, with nothing below but ground.
    let (xin, xout) = (on.pad("U1", "21"), on.pad("U1", "22"));
    let (y_in, y_out) = (on.pad("Y1", "1"), on.pad("Y1", "3"));
    let (r_in, r_out) = (on.pad("R2", "1"), on.pad("R2", "2"));
    on.run(
        "XIN",
        F,
        0.15,
        &[xin, (xin.0, y_in.1 + 0.9), (y_in.0, y_in.1 + 0.3), y_in],
    );
    let (c_in, c_out) = (on.pad("C17", "1"), on.pad("C18", "1"));
    on.run("XIN", F, 0.15, &[y_in, c_in]);
    on.run(
        "XOUT",
        F,
        0.15,
        &[xout, (xout.0, r_in.1 + 0.4), (xout.0 - 0.4, r_in.1), r_in],
    );
    on.run(
        "XOUT_R",
        F,
        0.15,
        &[r_out, (y_out.0 - 0.6, y_out.1 + 0.5), y_out],
    );
    on.run("XOUT_R", F, 0.15, &[y_out, c_out]);
    on.keep_out(
        "Crystal",
        B_CU,
        &[(42.6, 20.6), (46.6, 20.6), (46.6, 24.6), (42.6, 24.6)],
        false,
    );
    // RS-485: from the fingers past the surge protection to the transceiver.
    let (a, b) = (on.pad("J1", "a14"), on.pad("J1", "a15"));
    let (da, db) = (on.pad("D5", "1"), on.pad("D5", "2"));
    let (ua, ub) = (on.pad("U13", "6"), on.pad("U13", "7"));
    on.run("RS485_A", B, 0.25, &[a, (0.1, a.1), (0.5, da.1)]);
    on.run("RS485_B", B, 0.25, &[b, (0.1, b.1), (0.5, db.1)]);
    on.vias("RS485_A", &[(0.5, da.1)]);
    on.vias("RS485_B", &[(0.5, db.1)]);
    on.run(
        "RS485_A",
        F,
        0.25,
        &[(0.5, da.1), da, (4.5, da.1), (5.0, ua.1), ua],
    );
    on.run(
        "RS485_B",
        F,
        0.25,
        &[(0.5, db.1), db, (4.5, db.1), (5.0, ub.1), ub],
    );
    // Each supply pad straight to its capacitor.
    for (pad, capacitor, pull) in [
        ("1", "C4", 0.0),
        ("6", "C13", 0.0),
        ("11", "C5", 0.0),
        ("20", "C6", 0.6),
        ("23", "C15", 0.6),
        ("30", "C7", 0.6),
        ("38", "C8", 0.0),
        ("39", "C14", 0.0),
        ("44", "C10", 0.0),
        ("45", "C9", 0.0),
        ("54", "C11", 0.6),
    ] {
        let (from, to) = (on.pad("U1", pad), on.pad(capacitor, "1"));
        let net = if matches!(capacitor, "C13" | "C14" | "C15") {
            "1V1"
        } else {
            "3V3"
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let knee = if pull > 0.0 {
            // Out of the row first, then aside.
            (from.0, to.1 - dx.abs() * dy.signum())
        } else {
            (to.0 - dy.abs() * dx.signum(), from.1)
        };
        on.run(net, F, 0.2, &[from, knee, to]);
    }
    // The pads of two capacitors share a via; the core supply joins below the chip.
    on.vias("3V3", &[(39.1, 34.6)]);
    for (pad, dx, dy) in [("6", -1.1, 0.0), ("50", 0.0, -1.1)] {
        let from = on.pad("U1", pad);
        let to = (from.0 + dx, from.1 + dy);
        on.run("1V1", F, 0.2, &[from, to]);
        on.vias("1V1", &[to]);
    }
    // Core regulator.
    let (lx, l1) = (on.pad("U1", "48"), on.pad("L1", "1"));
    on.run(
        "VREG_LX",
        F,
        0.2,
        &[lx, (lx.0, 36.3), (l1.0 + 0.6, l1.1 - 0.3), l1],
    );
    // The eFuse's gate lines leave between the input's area and the busbar's sense line: down at once.
    let (gate, drive) = (on.pad("U5", "4"), on.pad("U5", "5"));
    let (gate_via, drive_via) = ((gate.0 - 1.19, gate.1), (drive.0 - 1.19, gate.1 + 0.8));
    on.run("EFUSE_BGATE", F, 0.15, &[gate, gate_via]);
    on.run(
        "EFUSE_DRV",
        F,
        0.15,
        &[drive, (drive.0 - 0.9, drive.1), drive_via],
    );
    let sense = on.pad("U5", "6");
    // In the lower half of its pad, away from the drive's via.
    let leaves = (sense.0 - 1.03, sense.1 + 0.09);
    let below = (sense.0 - 1.36, sense.1 + 0.33);
    on.run("BUSBAR", F, 0.15, &[(sense.0, leaves.1), leaves, below]);
    on.vias("EFUSE_BGATE", &[gate_via]);
    on.vias("EFUSE_DRV", &[drive_via]);
    for net in ["3V3", "1V1", "GND", "VIN_BUCK", "VREG_LX", "USB_VBUS"] {
        on.width(net, 0.2);
    }
    on.first(&[
        "1V1",
        "EFUSE_BGATE",
        "EFUSE_DRV",
        "SHUNT_P",
        "SHUNT_N",
        "ISENSE_P",
        "ISENSE_N",
        "BUCK_FB",
        "BUCK_BOOT",
        "BUCK_VCC",
        "SLOT_ID1",
        "RS485_DE",
        "RS485_TX",
        "SLOT_ID2",
    ]);
}

fn silk(on: &mut Draft<'_>) {
    on.text("Racklet BMC  rev A", 22.5, 54.7, 0.0, 1.2, false);
    on.text("CERN-OHL-P-2.0", 45.5, 18.0, 0.0, 0.8, false);
    on.text("never fabricated yet", 55.2, 26.9, 0.0, 0.8, false);
    for (text, x, y, angle) in [
        ("BOOT", 58.3, 54.0, 0.0),
        ("RESET", 58.8, 49.4, 0.0),
        ("POWER", 60.0, 36.2, 90.0),
        ("PWR", 62.2, 14.9, 0.0),
        ("STAT", 62.2, 17.9, 0.0),
        ("FAULT", 62.2, 20.9, 0.0),
        ("TRAY", 62.2, 23.9, 0.0),
    ] {
        on.text(text, x, y, angle, 0.8, false);
    }
    for (text, y, size) in [
        ("Racklet BMC  rev A", 38.0, 2.0),
        ("never fabricated yet", 41.5, 1.5),
        ("CERN-OHL-P-2.0", 44.5, 1.2),
        ("J4: socket on this side", 10.5, 1.2),
    ] {
        on.text(text, 34.0, y, 0.0, size, true);
    }
}
