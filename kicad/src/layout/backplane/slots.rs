// SPDX-License-Identifier: Apache-2.0
//! The five sockets on the trays' side, the busbar's trunk with its branches, and the bus.

use super::{field, rectangle};
use crate::layout::{B, F};
use crate::pcb::build::Draft;

/// The trunk of the busbar on the lower side.
const TRUNK: (f64, f64) = (46.6, 51.0);
/// The bus's lines on the lower side.
const BUS: (f64, f64) = (52.2, 53.0);
/// From a socket's middle down to where each line leaves it.
const STUBS: (f64, f64) = (4.9, 4.2);

/// What is beside a slot.
const BESIDE: [[&str; 4]; 5] = [
    ["J11", "C60", "D11", "R47"],
    ["J12", "C61", "D12", "R48"],
    ["J13", "C62", "D13", "R49"],
    ["J14", "C63", "D14", "R50"],
    ["J15", "C64", "D15", "R51"],
];

pub(super) fn all(on: &mut Draft<'_>, sockets: &[(f64, f64)]) {
    for ([socket, capacitor, light, resistor], &(x, y)) in BESIDE.into_iter().zip(sockets) {
        on.put_below(socket, x, y, 0.0);
        on.put(capacitor, x + 2.3, y - 5.6, 180.0);
        on.put(light, 49.4, y - 0.9, 0.0);
        on.put(resistor, 49.4, y + 0.9, 180.0);
    }
    let (&(x, top), &(_, bottom)) = (
        sockets.first().expect("five"),
        sockets.last().expect("five"),
    );
    let below = 144.5;
    trunk(on, x, sockets, bottom, below);
    bus(on, top, bottom);
    expander(on);
}

fn trunk(on: &mut Draft<'_>, x: f64, sockets: &[(f64, f64)], bottom: f64, below: f64) {
    let (left, right) = TRUNK;
    let first = sockets[0].1 - 10.0;
    // Along the trunk, branch by branch with the socket's contacts, and back along its other side.
    let mut outline = vec![(left, first)];
    for &(_, y) in &sockets[..4] {
        outline.extend([
            (left, y - 6.5),
            (x + 2.4, y - 6.5),
            (x + 2.4, y + 3.9),
            (x + 6.6, y + 3.9),
            (x + 6.6, y - 4.1),
            (left, y - 4.1),
        ]);
    }
    outline.extend([
        (left, below - 3.8),
        (x + 6.6, below - 3.8),
        (x + 6.6, bottom - 6.5),
        (x + 2.4, bottom - 6.5),
        (x + 2.4, below - 3.8),
        (x, below - 3.8),
        (x, below),
        (right, below),
        (right, first),
    ]);
    on.area("Trunk", "BUSBAR", B, &outline);
    on.area(
        "Busbar, C37",
        "BUSBAR",
        F,
        &rectangle(47.0, 7.8, 54.2, 10.6),
    );
    field(on, "BUSBAR", &[47.6, 48.6, 49.6], &[8.6, 9.8]);
}

/// From slot 1, with the transceiver, to slot 5, with the termination.
fn bus(on: &mut Draft<'_>, top: f64, bottom: f64) {
    on.put_all(&[
        ("U14", 59.6, 30.0, 180.0),
        ("C65", 59.0, 33.6, 180.0),
        ("R41", 59.0, 26.0, 0.0),
        ("R42", 62.2, 26.0, 0.0),
        ("D6", 56.9, 22.4, 270.0),
        ("TP7", 56.0, 35.6, 0.0),
        ("TP8", 58.4, 37.4, 0.0),
        ("R43", 55.9, 136.0, 0.0),
        ("R44", 55.9, 134.2, 180.0),
        ("R45", 55.9, 137.8, 0.0),
    ]);
    for (net, x, stub) in [("RS485_A", BUS.0, STUBS.0), ("RS485_B", BUS.1, STUBS.1)] {
        on.run(net, B, 0.25, &[(x, top + stub), (x, bottom + stub)]);
    }
    for socket in BESIDE.map(|it| it[0]) {
        let (a, b) = (on.pad(socket, "a14"), on.pad(socket, "a15"));
        let middle = a.1 - 3.25;
        let (low_a, low_b) = (middle + STUBS.0, middle + STUBS.1);
        on.run(
            "RS485_A",
            F,
            0.25,
            &[a, (a.0, low_a - 0.3), (a.0 + 0.3, low_a), (BUS.0, low_a)],
        );
        on.run(
            "RS485_B",
            F,
            0.25,
            &[b, (b.0, low_b - 0.3), (b.0 + 0.3, low_b), (BUS.1, low_b)],
        );
        on.vias("RS485_A", &[(BUS.0, low_a)]);
        on.vias("RS485_B", &[(BUS.1, low_b)]);
    }
    let (a, b) = (on.pad("U14", "6"), on.pad("U14", "7"));
    on.run("RS485_A", F, 0.25, &[a, (BUS.0, a.1)]);
    on.run("RS485_B", F, 0.25, &[b, (BUS.1, b.1)]);
    on.vias("RS485_A", &[(BUS.0, a.1)]);
    on.vias("RS485_B", &[(BUS.1, b.1)]);
}

fn expander(on: &mut Draft<'_>) {
    on.put_all(&[
        ("U12", 41.5, 66.0, 0.0),
        ("C66", 44.6, 60.8, 0.0),
        ("R46", 39.4, 60.8, 0.0),
    ]);
}
