// SPDX-License-Identifier: Apache-2.0
//! What is close to an RP2350A on both boards: USB as a pair, the crystal, the supplies' capacitors and the core regulator.
//!
//! Places are given from the chip's middle as if it were not turned, with USB above; a [`Frame`] turns them.

use crate::footprints::B_CU;
use crate::layout::F;
use crate::pcb::build::Draft;

/// Where the chip is and how it is turned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    middle: (f64, f64),
    quarters: u8,
}

impl Frame {
    /// A chip with its middle there, turned so many quarters against the clock.
    pub(super) const fn new(middle: (f64, f64), quarters: u8) -> Self {
        Self { middle, quarters }
    }

    /// Cosine and sine of its turn.
    fn turn(self) -> (f64, f64) {
        match self.quarters % 4 {
            0 => (1.0, 0.0),
            1 => (0.0, 1.0),
            2 => (-1.0, 0.0),
            _ => (0.0, -1.0),
        }
    }

    /// A place on the board.
    pub(super) fn at(self, (dx, dy): (f64, f64)) -> (f64, f64) {
        let (cosine, sine) = self.turn();
        (
            self.middle.0 + dx * cosine + dy * sine,
            self.middle.1 - dx * sine + dy * cosine,
        )
    }

    /// A pad's place from the chip's middle.
    pub(super) fn pad(self, on: &mut Draft<'_>, part: &str, number: &str) -> (f64, f64) {
        let (x, y) = on.pad(part, number);
        let (x, y) = (x - self.middle.0, y - self.middle.1);
        let (cosine, sine) = self.turn();
        (x * cosine - y * sine, x * sine + y * cosine)
    }

    /// A track on the upper side.
    pub(super) fn run(self, on: &mut Draft<'_>, net: &str, width: f64, points: &[(f64, f64)]) {
        let points: Vec<_> = points.iter().map(|point| self.at(*point)).collect();
        on.run(net, F, width, &points);
    }

    /// A via.
    pub(super) fn via(self, on: &mut Draft<'_>, net: &str, place: (f64, f64)) {
        on.vias(net, &[self.at(place)]);
    }

    /// Parts on the upper side.
    pub(super) fn put_all(self, on: &mut Draft<'_>, parts: &[(&str, f64, f64, f64)]) {
        for &(reference, dx, dy, angle) in parts {
            let (x, y) = self.at((dx, dy));
            on.put(reference, x, y, angle + 90.0 * f64::from(self.quarters));
        }
    }
}

/// Straight, 0.25 mm wide and 0.15 mm apart (90 ohm, see the layout's checks).
pub(super) fn usb(on: &mut Draft<'_>, chip: Frame) {
    let out = -4.2;
    for (net, number, resistor) in [("USB_DM", "51", "R4"), ("USB_DP", "52", "R3")] {
        let (from, to) = (chip.pad(on, "U1", number), chip.pad(on, resistor, "2"));
        chip.run(on, net, 0.2, &[from, (from.0, out)]);
        chip.run(on, net, 0.25, &[(from.0, out), (from.0, to.1 + 0.6), to]);
    }
    for (net, pads) in [
        ("USB_CONN_DM", [("R4", "1"), ("U3", "3"), ("U3", "4")]),
        ("USB_CONN_DP", [("R3", "1"), ("U3", "1"), ("U3", "6")]),
    ] {
        let points = pads.map(|(part, number)| chip.pad(on, part, number));
        chip.run(on, net, 0.25, &points);
    }
    let [a6, a7, b6, b7] = ["A6", "A7", "B6", "B7"].map(|number| chip.pad(on, "J2", number));
    let (dm, dp) = (chip.pad(on, "U3", "4"), chip.pad(on, "U3", "6"));
    chip.run(on, "USB_CONN_DM", 0.2, &[dm, (b7.0, dm.1 - 0.6), b7]);
    let front = b7.1 + 0.85;
    chip.run(on, "USB_CONN_DM", 0.2, &[(b7.0, front), (a7.0, front), a7]);
    chip.run(on, "USB_CONN_DP", 0.2, &[dp, (b6.0, dp.1 - 0.6), b6]);
    let rear = a6.1 - 0.95;
    let around = [a6, (a6.0, rear), (b6.0, rear), b6];
    chip.run(on, "USB_CONN_DP", 0.2, &around);
}

/// With nothing below but ground.
pub(super) fn crystal(on: &mut Draft<'_>, chip: Frame) {
    let (xin, xout) = (chip.pad(on, "U1", "21"), chip.pad(on, "U1", "22"));
    let (y_in, y_out) = (chip.pad(on, "Y1", "1"), chip.pad(on, "Y1", "3"));
    let (r_in, r_out) = (chip.pad(on, "R2", "1"), chip.pad(on, "R2", "2"));
    let (c_in, c_out) = (chip.pad(on, "C17", "1"), chip.pad(on, "C18", "1"));
    let knees = [xin, (xin.0, y_in.1 - 0.9), (y_in.0, y_in.1 - 0.3), y_in];
    chip.run(on, "XIN", 0.15, &knees);
    chip.run(on, "XIN", 0.15, &[y_in, c_in]);
    let knees = [xout, (xout.0, r_in.1 - 0.4), (xout.0 + 0.4, r_in.1), r_in];
    chip.run(on, "XOUT", 0.15, &knees);
    let knees = [r_out, (y_out.0 + 0.6, y_out.1 - 0.5), y_out];
    chip.run(on, "XOUT_R", 0.15, &knees);
    chip.run(on, "XOUT_R", 0.15, &[y_out, c_out]);
    let corners = [(-2.6, 7.4), (1.4, 7.4), (1.4, 11.4), (-2.6, 11.4)];
    on.keep_out("Crystal", B_CU, &corners.map(|it| chip.at(it)), false);
}

/// Each supply pad straight to its capacitor; out of the row first and then aside from those in `aside`.
pub(super) fn supplies(on: &mut Draft<'_>, chip: Frame, aside: &[&str]) {
    for (number, capacitor) in [
        ("1", "C4"),
        ("6", "C13"),
        ("11", "C5"),
        ("20", "C6"),
        ("23", "C15"),
        ("30", "C7"),
        ("38", "C8"),
        ("39", "C14"),
        ("44", "C10"),
        ("45", "C9"),
        ("54", "C11"),
    ] {
        let (from, to) = (chip.pad(on, "U1", number), chip.pad(on, capacitor, "1"));
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let knee = if aside.contains(&number) {
            (from.0, to.1 - dx.abs() * dy.signum())
        } else {
            (to.0 - dy.abs() * dx.signum(), from.1)
        };
        let core = matches!(capacitor, "C13" | "C14" | "C15");
        let net = if core { "1V1" } else { "3V3" };
        chip.run(on, net, 0.2, &[from, knee, to]);
    }
    // The pads of two capacitors share a via; the core supply joins below the chip.
    chip.via(on, "3V3", (4.9, -2.6));
    for (number, dx, dy) in [("6", 1.1, 0.0), ("50", 0.0, 1.1)] {
        below(on, chip, number, (dx, dy));
    }
}

/// The core supply from a pad down to what joins it below the chip.
pub(super) fn below(on: &mut Draft<'_>, chip: Frame, number: &str, (dx, dy): (f64, f64)) {
    let from = chip.pad(on, "U1", number);
    let to = (from.0 + dx, from.1 + dy);
    chip.run(on, "1V1", 0.2, &[from, to]);
    chip.via(on, "1V1", to);
}

/// The core regulator to its coil.
pub(super) fn regulator(on: &mut Draft<'_>, chip: Frame) {
    let (lx, l1) = (chip.pad(on, "U1", "48"), chip.pad(on, "L1", "1"));
    let knees = [lx, (lx.0, -4.3), (l1.0 - 0.6, l1.1 + 0.3), l1];
    chip.run(on, "VREG_LX", 0.2, &knees);
}
