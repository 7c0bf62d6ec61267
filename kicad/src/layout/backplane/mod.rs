// SPDX-License-Identifier: Apache-2.0
//! The backplane. KiCad's upper side looks to the rear of the rack, away from the trays: all parts are on it, so that one side is
//! placed by machine; only the five sockets are on the other. So x counts from the case's right wall, where the connectors look out.
//!
//! Power comes in at the lower left, runs along the lower edge through ideal diodes, fuse, shunt and eFuse, and up the busbar's trunk
//! on the lower side, right of the sockets, with a branch to each. The bus runs beside the trunk. Left of the sockets are, from
//! above, the controller with its USB, the network, and the power supplies' negotiation; right of them fans and lights.
//!
//! Millimetres from the upper left corner. KiCad's angles, against the clock.

mod controller;
mod input;
mod network;
mod right;
mod slots;
mod supply;

use racklet_boards::dimensions::{self, Dimensions};

use crate::layout::{B, F, IN1, IN2};
use crate::pcb::build::Draft;

/// Copper of planes to the board's edge.
const INSET: f64 = 0.5;

/// Lays the board out.
pub fn lay_out(on: &mut Draft<'_>) {
    let board = board();
    outline(on, &board);
    mechanics(on, &board);
    planes(on, &board);
    input::all(on);
    supply::all(on);
    controller::all(on);
    network::all(on);
    slots::all(on, &sockets(&board));
    right::all(on);
    for net in ["3V3", "1V1", "GND", "USB_VBUS", "VREG_LX"] {
        on.width(net, 0.2);
    }
    silk(on, &board);
}

/// Its mechanical dimensions.
#[must_use]
pub fn board() -> Dimensions {
    dimensions::find("rp2350-rmc").expect("boards/controllers/rp2350-rmc is part of this program")
}

/// A place of the dimensions, which see the board from the trays and count upwards, as a place on this drawing.
#[must_use]
pub fn from_trays(board: &Dimensions, [x, y]: [f64; 2]) -> (f64, f64) {
    (board.size[0] - x, board.size[1] - y)
}

/// From a socket's place 1 to its middle.
pub const PLACE_1_TO_MIDDLE: f64 = 9.5;

/// Place 1 of each socket, in the middle of the card.
#[must_use]
pub fn sockets(board: &Dimensions) -> Vec<(f64, f64)> {
    let middles = board.sockets.iter().map(|at| from_trays(board, *at));
    middles.map(|(x, y)| (x - PLACE_1_TO_MIDDLE, y)).collect()
}

/// Vias in rows and columns.
fn field(on: &mut Draft<'_>, net: &str, columns: &[f64], rows: &[f64]) {
    let places: Vec<_> = rows
        .iter()
        .flat_map(|y| columns.iter().map(move |x| (*x, *y)))
        .collect();
    on.vias(net, &places);
}

/// The corners of an upright rectangle.
fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> [(f64, f64); 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}

fn outline(on: &mut Draft<'_>, board: &Dimensions) {
    let ([width, height], radius) = (board.size, board.corner);
    on.edge(&[(radius, 0.0), (width - radius, 0.0)]);
    on.corner((width - radius, radius), radius, -90.0);
    on.edge(&[(width, radius), (width, height - radius)]);
    on.corner((width - radius, height - radius), radius, 0.0);
    on.edge(&[(width - radius, height), (radius, height)]);
    on.corner((radius, height - radius), radius, 90.0);
    on.edge(&[(0.0, height - radius), (0.0, radius)]);
    on.corner((radius, radius), radius, 180.0);
}

fn mechanics(on: &mut Draft<'_>, board: &Dimensions) {
    for (hole, at) in ["H1", "H2", "H3", "H4"].into_iter().zip(&board.holes) {
        let (x, y) = from_trays(board, *at);
        on.put(hole, x, y, 0.0);
    }
    on.put("FID1", 9.5, 2.5, 0.0);
    on.put("FID2", 64.0, 9.0, 0.0);
    on.put("FID3", 10.5, 160.8, 0.0);
}

fn planes(on: &mut Draft<'_>, board: &Dimensions) {
    let [width, height] = board.size;
    let (right, bottom) = (width - INSET, height - INSET);
    let whole = rectangle(INSET, INSET, right, bottom);
    on.plane("Ground", "GND", IN1, &whole, 0);
    on.plane("Ground", "GND", IN2, &whole, 0);
    // Where 3.3 V is, ground is left as islands about its vias: without whiskers.
    if let Some(islands) = on.board.zones.last_mut() {
        islands.least = 250_000;
    }
    // Where the bus runs on the lower side there is ground beside it, and no 3.3 V is needed where power comes in.
    let (edge, from, to) = (1.0, 51.3, 54.3);
    on.plane(
        "3V3",
        "3V3",
        IN2,
        &[
            (edge, edge),
            (width - edge, edge),
            (width - edge, 140.0),
            (to, 140.0),
            (to, 12.0),
            (from, 12.0),
            (from, 131.0),
            (edge, 131.0),
        ],
        5,
    );
    on.pour("Ground", "GND", F, &whole);
    on.pour("Ground", "GND", B, &whole);
}

fn silk(on: &mut Draft<'_>, board: &Dimensions) {
    on.text("Racklet backplane  rev A", 33.0, 24.4, 0.0, 1.6, false);
    on.text("CERN-OHL-P-2.0", 33.0, 27.2, 0.0, 1.2, false);
    on.text("never fabricated yet", 33.0, 29.6, 0.0, 1.2, false);
    for (text, x, y, size) in [
        ("DISPLAY", 22.8, 2.2, 0.8),
        ("- + SCL SDA", 23.4, 9.2, 0.8),
        ("PWR", 36.0, 2.4, 0.8),
        ("STAT", 39.4, 2.4, 0.8),
        ("FAULT", 42.8, 2.4, 0.8),
        ("BUS", 46.2, 2.4, 0.8),
        ("IDENTIFY", 51.6, 1.2, 0.8),
        ("RECOVERY USB", 7.0, 52.0, 0.8),
        ("SWD", 41.0, 51.3, 0.8),
        ("BOOT", 7.0, 80.2, 0.8),
        ("RESET", 7.0, 70.2, 0.8),
        ("NETWORK", 9.0, 81.6, 1.0),
        ("FAN 1", 61.6, 80.4, 1.0),
        ("FAN 2", 61.6, 106.8, 1.0),
        ("20 V USB-C", 10.0, 113.4, 1.0),
        ("9-20 V", 4.2, 139.0, 1.0),
        ("5 V 1 A", 61.0, 155.4, 0.9),
    ] {
        on.text(text, x, y, 0.0, size, false);
    }
    on.text("centre +", 3.2, 153.6, 0.0, 0.8, false);
    on.text("+   -", 61.6, 140.6, 0.0, 0.8, false);
    for (slot, (_, y)) in (1..).zip(sockets(board)) {
        on.text(&format!("SLOT {slot}"), 49.4, y - 2.9, 0.0, 1.0, false);
        on.text(&format!("SLOT {slot}"), 33.0, y - 7.2, 0.0, 2.0, true);
    }
    for (text, y, size) in [
        ("Racklet backplane  rev A", 30.0, 2.0),
        ("never fabricated yet", 33.5, 1.5),
        ("CERN-OHL-P-2.0", 36.5, 1.2),
    ] {
        on.text(text, 33.0, y, 0.0, size, true);
    }
}
