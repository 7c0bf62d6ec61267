// SPDX-License-Identifier: Apache-2.0
//! The network: jack at the left, its chip right of it, pairs between them.

use crate::layout::F;
use crate::pcb::build::Draft;

/// Width of the pairs' tracks, in millimetres; 0.25 mm apart, as the chip's pads are, they have 100 ohm.
const PAIR: f64 = 0.25;

pub(super) fn all(on: &mut Draft<'_>) {
    on.put_all(&[
        ("J16", 16.26, 88.06, 270.0),
        ("U13", 37.0, 92.3, 0.0),
        // The transmitter's half.
        ("R36", 24.5, 88.475, 90.0),
        ("R35", 26.1, 91.125, 270.0),
        ("C55", 22.6, 86.15, 180.0),
        // The receiver's.
        ("C57", 28.0, 93.7, 270.0),
        ("C58", 25.7, 94.3, 0.0),
        ("R37", 21.6, 92.425, 90.0),
        ("R38", 23.15, 95.075, 270.0),
        ("C56", 22.6, 99.0, 180.0),
        // The analogue supply, pad by pad.
        ("C44", 29.9, 91.5, 270.0),
        ("C45", 31.25, 94.0, 270.0),
        ("C46", 31.25, 96.0, 270.0),
        ("R31", 29.0, 97.2, 180.0),
        ("C47", 35.1, 98.7, 270.0),
        ("C48", 36.15, 98.7, 270.0),
        ("C51", 37.35, 98.7, 270.0),
        ("C49", 38.45, 98.7, 270.0),
        ("C52", 41.0, 98.7, 0.0),
        ("C50", 44.0, 94.6, 0.0),
        ("C43", 29.5, 86.4, 180.0),
        ("FB1", 29.9, 84.2, 180.0),
        // The clock.
        ("Y2", 45.6, 91.2, 0.0),
        ("C53", 45.4, 93.5, 0.0),
        ("C54", 47.2, 88.8, 0.0),
        ("R34", 44.0, 87.6, 0.0),
        ("R32", 37.0, 84.8, 0.0),
        ("R33", 40.6, 84.8, 0.0),
        ("R39", 22.6, 83.4, 180.0),
        ("R40", 22.6, 101.0, 180.0),
    ]);
    transmit(on);
    receive(on);
}

/// Chip to jack at the chip's pitch, past both resistors' pads.
fn transmit(on: &mut Draft<'_>) {
    let (n, p) = (on.pad("U13", "1"), on.pad("U13", "2"));
    let (jn, jp) = (on.pad("J16", "2"), on.pad("J16", "1"));
    on.run("ETH_TXN", F, PAIR, &[n, (jn.0 + 0.5, n.1), jn]);
    // Below the jack's second pin to the first.
    let low = jn.1 + 1.08;
    on.run(
        "ETH_TXP",
        F,
        PAIR,
        &[
            p,
            (jn.0 + 1.6, p.1),
            (jn.0 + 1.6 - (low - p.1), low),
            (jn.0 - 0.5, low),
            (jp.0 + 0.94, jp.1 + 1.24),
            jp,
        ],
    );
}

/// Chip to jack through the coupling capacitors; the negative line passes below the positive one's.
fn receive(on: &mut Draft<'_>) {
    let (n, p) = (on.pad("U13", "5"), on.pad("U13", "6"));
    let (cn_in, cp_in) = (on.pad("C58", "2"), on.pad("C57", "2"));
    let (cn, cp) = (on.pad("C58", "1"), on.pad("C57", "1"));
    let (jn, jp) = (on.pad("J16", "6"), on.pad("J16", "3"));
    let middle = f64::midpoint(cp.1, cp_in.1);
    let out = cp.0 - 0.6;
    on.run(
        "ETH_RXN",
        F,
        PAIR,
        &[
            n,
            (31.5, n.1),
            (31.5 - (middle - n.1), middle),
            (out, middle),
            (out - (cn_in.1 - middle), cn_in.1),
            cn_in,
        ],
    );
    on.run(
        "ETH_RXP",
        F,
        PAIR,
        &[p, (31.75, p.1), (31.75 - (cp_in.1 - p.1), cp_in.1), cp_in],
    );
    // Side by side again, past the resistors' pads; the positive line ends above the jack's sixth pin.
    let (above, below) = (93.5, 94.0);
    let between = jn.1 - 1.27;
    on.run(
        "ETH_RD_P",
        F,
        PAIR,
        &[
            cp,
            (24.6, cp.1),
            (24.6 - (above - cp.1), above),
            (jn.0 + 1.5, above),
            (jn.0 + 1.5 - (above - between), between),
            (jn.0 - 0.3, between),
            (jp.0 + 1.04, jp.1 + 1.33),
            (jp.0 + 0.9, jp.1 + 0.6),
            jp,
        ],
    );
    on.run(
        "ETH_RD_N",
        F,
        PAIR,
        &[cn, (cn.0 - (cn.1 - below), below), (jn.0 + 0.5, below), jn],
    );
}
