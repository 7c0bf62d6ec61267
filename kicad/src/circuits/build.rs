// SPDX-License-Identifier: Apache-2.0
//! How the circuits are written down: a sheet being filled, with short forms for the parts that come in dozens.

use super::classes::class_for;
use crate::design::{Design, Net, Part, Pin};

pub(super) const GND: &str = "GND";
pub(super) const V3V3: &str = "3V3";

const R_0603: &str = "Resistor_SMD:R_0603_1608Metric";
const C_0402: &str = "Capacitor_SMD:C_0402_1005Metric";
const C_0603: &str = "Capacitor_SMD:C_0603_1608Metric";

/// A sheet of a design that parts are put on.
pub(super) struct OnSheet<'d> {
    design: &'d mut Design,
    sheet: &'static str,
}

/// What a part is, apart from its pads.
pub(super) struct Kind {
    pub(super) symbol: &'static str,
    pub(super) footprint: &'static str,
    pub(super) value: &'static str,
    pub(super) bom: Option<&'static str>,
}

impl<'d> OnSheet<'d> {
    pub(super) fn new(design: &'d mut Design, sheet: &'static str) -> Self {
        Self { design, sheet }
    }

    /// Any part; pads as (number, name, net).
    pub(super) fn part(
        &mut self,
        reference: &'static str,
        kind: &Kind,
        note: &'static str,
        pads: &[(&'static str, &'static str, &'static str)],
    ) {
        assert!(
            self.design.part(reference).is_none(),
            "{reference} is there twice"
        );
        self.design.parts.push(Part {
            reference,
            symbol: kind.symbol,
            footprint: kind.footprint,
            value: kind.value.to_owned(),
            bom: kind.bom,
            sheet: self.sheet,
            note,
            pins: pads
                .iter()
                .map(|&(number, name, net)| Pin { number, name, net })
                .collect(),
        });
    }

    /// A part with two pads called 1 and 2 without names.
    fn two(
        &mut self,
        reference: &'static str,
        kind: &Kind,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        self.part(
            reference,
            kind,
            note,
            &[("1", "~", nets.0), ("2", "~", nets.1)],
        );
    }

    /// A resistor, 1 %, 0603, 0.1 W.
    pub(super) fn r(
        &mut self,
        reference: &'static str,
        value: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        self.r_of(reference, value, "r-0603", nets, note);
    }

    /// A resistor of another family in 0603, such as 0.1 %.
    pub(super) fn r_of(
        &mut self,
        reference: &'static str,
        value: &'static str,
        bom: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Device:R",
            footprint: R_0603,
            value,
            bom: Some(bom),
        };
        self.two(reference, &kind, nets, note);
    }

    /// 100 nF, 16 V, X7R, 0402, from a supply to ground.
    pub(super) fn decoupling(
        &mut self,
        reference: &'static str,
        net: &'static str,
        note: &'static str,
    ) {
        self.c_of(reference, "100n", C_0402, "c-100n-0402", (net, GND), note);
    }

    /// A small ceramic capacitor of the 50 V family in 0603.
    pub(super) fn c(
        &mut self,
        reference: &'static str,
        value: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        self.c_of(reference, value, C_0603, "c-0603-50v", nets, note);
    }

    /// Any other ceramic capacitor.
    pub(super) fn c_of(
        &mut self,
        reference: &'static str,
        value: &'static str,
        footprint: &'static str,
        bom: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Device:C",
            footprint,
            value,
            bom: Some(bom),
        };
        self.two(reference, &kind, nets, note);
    }

    /// An inductor.
    pub(super) fn l(
        &mut self,
        reference: &'static str,
        value: &'static str,
        footprint: &'static str,
        bom: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Device:L",
            footprint,
            value,
            bom: Some(bom),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "1", nets.0), ("2", "2", nets.1)],
        );
    }

    /// A Schottky diode SS14 (40 V, 1 A), from anode to cathode.
    pub(super) fn schottky(
        &mut self,
        reference: &'static str,
        anode: &'static str,
        cathode: &'static str,
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Diode:SS14",
            footprint: "Diode_SMD:D_SMA",
            value: "SS14",
            bom: Some("ss14"),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "K", cathode), ("2", "A", anode)],
        );
    }

    /// A small N-channel MOSFET 2N7002: its threshold of up to 2.5 V is enough where microamperes are sunk.
    pub(super) fn small_nmos(
        &mut self,
        reference: &'static str,
        gate: &'static str,
        source: &'static str,
        drain: &'static str,
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Transistor_FET:2N7002",
            footprint: "Package_TO_SOT_SMD:SOT-23",
            value: "2N7002",
            bom: Some("2n7002"),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "G", gate), ("2", "S", source), ("3", "D", drain)],
        );
    }

    /// A small N-channel MOSFET BSS138 that 3.3 V open wide.
    pub(super) fn logic_nmos(
        &mut self,
        reference: &'static str,
        gate: &'static str,
        source: &'static str,
        drain: &'static str,
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Transistor_FET:BSS138",
            footprint: "Package_TO_SOT_SMD:SOT-23",
            value: "BSS138",
            bom: Some("bss138"),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "G", gate), ("2", "S", source), ("3", "D", drain)],
        );
    }

    /// A light with its cathode towards ground.
    pub(super) fn led(
        &mut self,
        reference: &'static str,
        colour: &'static str,
        (anode, cathode): (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Device:LED",
            footprint: "LED_SMD:LED_0603_1608Metric",
            value: colour,
            bom: Some(match colour {
                "red" => "led-red",
                "blue" => "led-blue",
                "amber" => "led-amber",
                _ => "led-green",
            }),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "K", cathode), ("2", "A", anode)],
        );
    }

    /// A small push button between two nets.
    pub(super) fn button(
        &mut self,
        reference: &'static str,
        value: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Switch:SW_Push",
            footprint: "Button_Switch_SMD:SW_SPST_B3U-1000P",
            value,
            bom: Some("button"),
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "1", nets.0), ("2", "2", nets.1)],
        );
    }

    /// A jumper to be closed with solder.
    pub(super) fn solder_jumper(
        &mut self,
        reference: &'static str,
        value: &'static str,
        nets: (&'static str, &'static str),
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Jumper:SolderJumper_2_Open",
            footprint: "Jumper:SolderJumper-2_P1.3mm_Open_RoundedPad1.0x1.5mm",
            value,
            bom: None,
        };
        self.part(
            reference,
            &kind,
            note,
            &[("1", "A", nets.0), ("2", "B", nets.1)],
        );
    }

    /// A pad for a probe.
    pub(super) fn test_point(
        &mut self,
        reference: &'static str,
        net: &'static str,
        note: &'static str,
    ) {
        let kind = Kind {
            symbol: "Connector:TestPoint",
            footprint: "TestPoint:TestPoint_Pad_D1.0mm",
            value: net,
            bom: None,
        };
        self.part(reference, &kind, note, &[("1", "1", net)]);
    }

    /// A mark for the placement machine.
    pub(super) fn fiducial(&mut self, reference: &'static str) {
        let kind = Kind {
            symbol: "Mechanical:Fiducial",
            footprint: "Fiducial:Fiducial_1mm_Mask2mm",
            value: "Fiducial",
            bom: None,
        };
        self.part(reference, &kind, "mark for the placement machine", &[]);
    }

    /// A hole for a screw, not connected.
    pub(super) fn hole(&mut self, reference: &'static str, screw: Screw) {
        let (footprint, value, note) = match screw {
            Screw::M25 => (
                "MountingHole:MountingHole_2.7mm_M2.5",
                "M2.5",
                "screw M2.5, kept clear of copper",
            ),
            Screw::M3 => (
                "MountingHole:MountingHole_3.2mm_M3",
                "M3",
                "screw M3, kept clear of copper",
            ),
        };
        let kind = Kind {
            symbol: "Mechanical:MountingHole",
            footprint,
            value,
            bom: None,
        };
        self.part(reference, &kind, note, &[]);
    }
}

/// A mounting screw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Screw {
    /// Of a HAT.
    M25,
    /// Of the backplane.
    M3,
}

/// States what a net carries: continuous current in amperes and the highest voltage against ground in volts.
pub(super) fn carries(design: &mut Design, net: &'static str, current: f64, voltage: f64) {
    let class = class_for(current, voltage);
    let earlier = design.nets.insert(
        net,
        Net {
            class,
            current,
            voltage,
        },
    );
    assert!(earlier.is_none(), "{net} is described twice");
}
