// SPDX-License-Identifier: Apache-2.0
//! What both boards have in front of the busbar: the eFuse and the transistor that lets current through one way only.

use super::build::{GND, Kind, OnSheet};
use crate::design::OPEN;

/// 60 V, 8.1 mohm; its pads are source 1 to 3, gate 4, drain 5.
pub(super) const ONE_WAY: Kind = Kind {
    symbol: "Transistor_FET:CSD18543Q3A",
    footprint: "Package_SON:VSON-8_3.3x3.3mm_P0.65mm_NexFET",
    value: "CSD18543Q3A",
    bom: Some("csd18543q3a"),
};

/// An eFuse's place.
pub(super) struct Efuse {
    pub(super) part: &'static str,
    pub(super) note: &'static str,
    /// What feeds the chip itself, in front of a transistor that blocks.
    pub(super) system: &'static str,
    pub(super) input: &'static str,
    pub(super) output: &'static str,
    /// To that transistor: its gate, and the drive of the one that opens it.
    pub(super) gate: &'static str,
    pub(super) drive: &'static str,
}

/// The TPS26631 with its pads; thresholds, limit and ramp are each board's own.
pub(super) fn efuse(on: &mut OnSheet<'_>, at: &Efuse) {
    let kind = Kind {
        symbol: "Power_Management:TPS26631PWP",
        footprint: "Package_SO:HTSSOP-20-1EP_4.4x6.5mm_P0.65mm_EP3.4x6.5mm_Mask2.96x2.96mm_ThermalVias",
        value: "TPS26631PWP",
        bom: Some("tps26631"),
    };
    on.part(
        at.part,
        &kind,
        at.note,
        &[
            ("1", "IN", at.input),
            ("2", "IN", at.input),
            ("3", "IN", at.input),
            ("4", "B_GATE", at.gate),
            ("5", "DRV", at.drive),
            ("6", "IN_SYS", at.system),
            ("7", "UVLO", "EFUSE_UVLO"),
            ("8", "OVP", "EFUSE_OVP"),
            ("9", "GND", GND),
            ("10", "dVdT", "EFUSE_DVDT"),
            ("11", "ILIM", "EFUSE_ILIM"),
            // Ground: tries again after a fault; open would latch, and a rack far away would need a hand.
            ("12", "MODE", GND),
            ("13", "~{SHDN}", "EFUSE_SHDN_N"),
            ("14", "IMON", "EFUSE_IMON"),
            ("15", "~{FLT}", "EFUSE_FAULT_N"),
            // Power good is judged by the controller from the sensor's voltage.
            ("16", "PGTH", GND),
            ("17", "PGOOD", OPEN),
            ("18", "OUT", at.output),
            ("19", "OUT", at.output),
            ("20", "OUT", at.output),
            ("21", "GND", GND),
        ],
    );
}
