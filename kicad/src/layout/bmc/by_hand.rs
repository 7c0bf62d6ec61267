// SPDX-License-Identifier: Apache-2.0
//! The BMC board's tracks that must go one way: pairs, the crystal, and the narrow places.

use super::{B, F, Tab};
use crate::footprints::B_CU;
use crate::pcb::build::Draft;

/// Pairs, crystal and what else must go one way.
pub(super) fn all(on: &mut Draft<'_>, tab: Tab) {
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
    let root = tab.tip + 5.3;
    on.run("RS485_A", B, 0.25, &[(root, a.1), (0.1, a.1), (0.5, da.1)]);
    on.run("RS485_B", B, 0.25, &[(root, b.1), (0.1, b.1), (0.5, db.1)]);
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
    efuse(on);
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

/// What leaves the eFuse's left side between the input's area and the parts below it.
fn efuse(on: &mut Draft<'_>) {
    let (gate, drive, sense) = (on.pad("U5", "4"), on.pad("U5", "5"), on.pad("U5", "6"));
    // The blocking MOSFET's gate and the driver of what holds it: down at once.
    let (gate_via, drive_via) = ((gate.0 - 1.19, gate.1), (drive.0 - 1.19, gate.1 + 0.8));
    on.run("EFUSE_BGATE", F, 0.15, &[gate, gate_via]);
    on.run(
        "EFUSE_DRV",
        F,
        0.15,
        &[drive, (drive.0 - 0.9, drive.1), drive_via],
    );
    on.vias("EFUSE_BGATE", &[gate_via]);
    on.vias("EFUSE_DRV", &[drive_via]);
    // The supply that tells a reversed input, to the busbar's area; out of its pad's lower half, away from the drive's via.
    let (area, low) = ((5.3, 24.4), 26.0);
    let leaves = (sense.0 - 1.03, sense.1 + 0.09);
    on.run(
        "BUSBAR",
        F,
        0.15,
        &[
            (sense.0, leaves.1),
            leaves,
            (leaves.0 + leaves.1 - low, low),
            (area.0 + low - area.1, low),
            area,
        ],
    );
}
