// SPDX-License-Identifier: Apache-2.0
//! The BMC board's tracks that must go one way: pairs, the crystal, and the narrow places.

use super::{CHIP, Tab};
use crate::layout::{B, F, rp2350};
use crate::pcb::build::Draft;

/// Pairs, crystal and what else must go one way.
pub(super) fn all(on: &mut Draft<'_>, tab: Tab) {
    rp2350::usb(on, CHIP);
    rp2350::crystal(on, CHIP);
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
    rp2350::supplies(on, CHIP, &["20", "23", "30", "54"]);
    rp2350::regulator(on, CHIP);
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
