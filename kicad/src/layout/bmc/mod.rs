// SPDX-License-Identifier: Apache-2.0
//! The BMC board. Power runs in a loop: from the fingers at the left through blocking MOSFET, eFuse and shunt to the right, up to
//! the converter, and back along the upper edge to the header's 5 V pins. The controller is at the right of the middle, with
//! USB at the lower edge; the always-on supply at the lower left, the bus beside its fingers.
//!
//! Millimetres from the upper left corner. KiCad's angles, against the clock.

mod by_hand;
mod copper;
mod places;

use racklet_boards::dimensions::{self, Dimensions};

use crate::footprints::ALL;
use crate::layout::rp2350::Frame;
use crate::pcb::build::Draft;

/// The controller, with USB towards the lower edge.
const CHIP: Frame = Frame::new((44.0, 32.0), 2);

/// Lays the board out.
pub fn lay_out(on: &mut Draft<'_>) {
    let board = dimensions::find("rp2350-bmc")
        .expect("boards/controllers/rp2350-bmc is part of this program");
    let tab = Tab::of(&board);
    outline(on, &board, tab);
    mechanics(on, &board, tab);
    places::all(on);
    copper::planes(on, tab);
    copper::power(on);
    by_hand::all(on, tab);
    silk(on);
}

/// The card edge's tab. The footprint's origin is 0.65 mm from its upper end and 3.45 mm from its tip, 19.65 mm from its lower end.
#[derive(Clone, Copy)]
struct Tab {
    tip: f64,
    top: f64,
    bottom: f64,
    /// The middle of the key.
    key: f64,
    /// Of the footprint.
    origin: (f64, f64),
}

impl Tab {
    /// The dimensions count y upwards.
    fn of(board: &Dimensions) -> Self {
        let edge = board.edge.expect("the BMC board has a card edge");
        let (tip, top) = (edge.low[0], board.size[1] - edge.high[1]);
        let origin = (tip + 3.45, top + 0.65);
        Self {
            tip,
            top,
            bottom: board.size[1] - edge.low[1],
            key: origin.1 + 11.5,
            origin,
        }
    }
}

/// HAT outline with the tab of the card edge at the left.
fn outline(on: &mut Draft<'_>, board: &Dimensions, tab: Tab) {
    let ([width, height], radius) = (board.size, board.corner);
    on.edge(&[(radius, 0.0), (width - radius, 0.0)]);
    on.corner((width - radius, radius), radius, -90.0);
    on.edge(&[(width, radius), (width, height - radius)]);
    on.corner((width - radius, height - radius), radius, 0.0);
    on.edge(&[(width - radius, height), (radius, height)]);
    on.corner((radius, height - radius), radius, 90.0);
    let (chamfer, half) = (0.5, 0.95);
    let bay = tab.tip + 7.45 - half;
    on.edge(&[
        (0.0, height - radius),
        (0.0, tab.bottom),
        (tab.tip + chamfer, tab.bottom),
        (tab.tip, tab.bottom - chamfer),
        (tab.tip, tab.key + half + chamfer),
        (tab.tip + chamfer, tab.key + half),
        (bay, tab.key + half),
    ]);
    on.arc(
        (bay, tab.key + half),
        (bay + half, tab.key),
        (bay, tab.key - half),
    );
    on.edge(&[
        (bay, tab.key - half),
        (tab.tip + chamfer, tab.key - half),
        (tab.tip, tab.key - half - chamfer),
        (tab.tip, tab.top + chamfer),
        (tab.tip + chamfer, tab.top),
        (0.0, tab.top),
        (0.0, radius),
    ]);
    on.corner((radius, radius), radius, 180.0);
}

fn mechanics(on: &mut Draft<'_>, board: &Dimensions, tab: Tab) {
    on.put("J1", tab.origin.0, tab.origin.1, 270.0);
    // Fingers get neither holes nor tracks beside them: they are bevelled and slide along contacts.
    let root = tab.tip + 5.0;
    on.keep_out(
        "Fingers",
        ALL,
        &[
            (tab.tip, tab.top),
            (root, tab.top),
            (root, tab.bottom),
            (tab.tip, tab.bottom),
        ],
        false,
    );
    // A socket below: seen from above its pins are those of the Pi.
    on.put_below("J4", 8.37, 4.77, 270.0);
    for (index, [x, y]) in board.holes.iter().enumerate() {
        on.put(&format!("H{}", index + 1), *x, board.size[1] - y, 0.0);
    }
    on.put("FID1", 1.9, 9.0, 0.0);
    on.put("FID2", 62.9, 46.5, 0.0);
    on.put("FID3", 8.2, 54.6, 0.0);
}

fn silk(on: &mut Draft<'_>) {
    on.text("Racklet BMC  rev A", 22.5, 54.7, 0.0, 1.2, false);
    on.text("CERN-OHL-P-2.0", 45.5, 18.0, 0.0, 0.8, false);
    on.text("never fabricated yet", 55.2, 26.9, 0.0, 0.8, false);
    for (text, x, y, angle) in [
        ("BOOT", 58.3, 54.0, 0.0),
        ("RESET", 58.8, 49.4, 0.0),
        ("POWER", 60.0, 36.2, 90.0),
        ("SWD", 34.6, 54.4, 0.0),
        ("USB", 49.95, 54.6, 0.0),
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
