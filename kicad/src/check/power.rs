// SPDX-License-Identifier: Apache-2.0
//! The power budget of a whole rack: what five trays, fans, switch and controllers draw, typically and at worst, and how
//! far every part on the way is from what it may carry.
//!
//! Loads are measured by others or stated by makers, as said beside each; nothing here was measured on our boards, which
//! were never built. Worst means all trays computing at once without USB devices; what five supplies could give at their
//! limit is shown too, and is more than the input: the eFuse and the RMC are there for that.

use super::{Fault, values};
use crate::circuits::slot::{CONTACT_CURRENT, CONTACTS, Signal};
use crate::design::Design;
use std::fmt::Write as _;

/// Trays in a rack.
const TRAYS: f64 = 5.0;

/// Two values: in ordinary use, and at worst.
#[derive(Debug, Clone, Copy)]
struct Pair {
    typical: f64,
    worst: f64,
}

impl Pair {
    const fn new(typical: f64, worst: f64) -> Self {
        Self { typical, worst }
    }

    fn map(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self::new(
            with(self.typical, other.typical),
            with(self.worst, other.worst),
        )
    }

    fn plus(self, other: Self) -> Self {
        self.map(other, |a, b| a + b)
    }

    fn times(self, factor: f64) -> Self {
        Self::new(self.typical * factor, self.worst * factor)
    }

    /// Drawn from a converter's input.
    fn through(self, efficiency: Self) -> Self {
        self.map(efficiency, |watts, efficiency| watts / efficiency)
    }
}

/// Raspberry Pi 5 at its header, in watts: published measurements of light service load, and of `stress` on all cores.
const PI: Pair = Pair::new(6.0, 12.0);
/// What the 5.1 V supply can give.
const PI_LIMIT: f64 = 5.1 * 4.0;
/// BMC at 3.3 V: RP2350 0.08 W, flash, sensors and lights 0.05 W; driving the bus and writing flash at worst.
const BMC: Pair = Pair::new(0.2, 0.43);
/// RMC at 3.3 V: W5500 0.43 W (132 mA, its datasheet), RP2350, expander, lights.
const RMC: Pair = Pair::new(0.8, 1.2);
/// Two 5 V fans of 40 to 80 mm: 0.1 to 0.15 A each.
const FANS: Pair = Pair::new(0.5, 1.5);
/// A small Ethernet switch with eight gigabit ports, at 5 V.
const SWITCH: Pair = Pair::new(2.5, 4.5);

/// LMR33640 at 20 V to 5 V: its datasheet's curves, 1 A and 4 A.
const BUCK: Pair = Pair::new(0.93, 0.90);
/// AP63205 at 20 V to 5 V, 1 A.
const FIVE: Pair = Pair::new(0.90, 0.87);
/// AP63203 at 20 V to 3.3 V, below 0.3 A, with its Schottky diode.
const ALWAYS_ON: Pair = Pair::new(0.83, 0.78);

/// Tray's path at its hottest: eFuse 53, Q1 12, shunt 10, contacts 5 milliohm.
const TRAY_PATH: f64 = 0.080;
/// Backplane's path at its hottest: ideal diode 12, fuse 10, shunt 5, eFuse 53 milliohm.
const RACK_PATH: f64 = 0.080;

/// The supply's voltage at the board: USB PD allows 5 % below 20 V, the cable's loss included.
const INPUT: Pair = Pair::new(20.0, 19.0);
/// What a USB-C supply of 100 W gives, in amperes.
const SUPPLY_100: f64 = 5.0;
/// What any USB-C cable carries, and a supply of 60 W gives.
const SUPPLY_60: f64 = 3.0;
/// The least voltage a barrel supply may have.
const LEAST_INPUT: f64 = 9.0;
/// The least that the busbar has: the rack's eFuse opens at 6.8 to 8 V (`values`).
const LEAST_BUSBAR: f64 = 6.8;
/// What USB-C gives before it agreed to more, at the least.
const FIRST_5V: f64 = 4.75;
/// What a resettable fuse holds at 60 degrees, as a part of what it holds at 23 (Littelfuse's and Bourns's curves, from memory).
const WARM: f64 = 0.7;

/// A line of the budget, in watts.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Who draws it.
    pub name: &'static str,
    /// In ordinary use.
    pub typical: f64,
    /// At worst.
    pub worst: f64,
}

/// What a part carries at worst, and what it may.
#[derive(Debug, Clone, PartialEq)]
pub struct Margin {
    /// Which part.
    pub name: &'static str,
    /// What it carries, in amperes.
    pub carries: f64,
    /// What it may carry, derated, in amperes.
    pub may: f64,
    /// Where that comes from.
    pub why: &'static str,
}

/// The budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Loads, at the rack's input.
    pub lines: Vec<Line>,
    /// All of them.
    pub total: Line,
    /// Input current, in amperes.
    pub current: Line,
    /// Parts on the way.
    pub margins: Vec<Margin>,
    /// What five trays at their supplies' limit would draw, in watts.
    pub at_the_limit: f64,
    /// The lowest barrel voltage at which the rack may still run at worst, in volts.
    pub least_voltage: f64,
    /// What could not be computed.
    missing: Vec<Fault>,
}

/// The budget of a rack of these boards.
#[must_use]
pub fn budget(bmc: &Design, backplane: &Design) -> Budget {
    let mut missing = Vec::new();
    let mut limit = |design: &Design| {
        values::efuse_limit(design).map_or_else(
            |error| {
                missing.push(Fault::at(design.name, error.to_string()));
                0.0
            },
            |range| range.least,
        )
    };
    let (tray_limit, rack_limit) = (limit(bmc), limit(backplane));
    let tray = |pi: Pair| {
        let input = pi.through(BUCK).plus(BMC.through(ALWAYS_ON));
        input.map(INPUT, |watts, volts| {
            watts + (watts / volts).powi(2) * TRAY_PATH
        })
    };
    let loads = [
        ("5 trays: Raspberry Pi 5 and BMC", tray(PI).times(TRAYS)),
        ("fans, through the 5 V supply", FANS.through(FIVE)),
        ("switch, through the 5 V supply", SWITCH.through(FIVE)),
        ("RMC, through the 3.3 V supply", RMC.through(ALWAYS_ON)),
    ];
    let rack = |loads: Pair| {
        loads.map(INPUT, |watts, volts| {
            watts + (watts / volts).powi(2) * RACK_PATH
        })
    };
    let sum = loads
        .iter()
        .fold(Pair::new(0.0, 0.0), |sum, (_, load)| sum.plus(*load));
    let total = rack(sum);
    let current = total.map(INPUT, |watts, volts| watts / volts);
    let others = sum.worst - loads[0].1.worst;
    let full = tray(Pair::new(PI_LIMIT, PI_LIMIT)).times(TRAYS).worst + others;
    let line = |name, pair: Pair| Line {
        name,
        typical: pair.typical,
        worst: pair.worst,
    };
    let lines: Vec<_> = loads
        .iter()
        .map(|&(name, load)| line(name, load))
        .chain([line(
            "diodes, fuse, eFuse",
            total.map(sum, |all, part| all - part),
        )])
        .collect();
    Budget {
        lines,
        total: line("in all, at the input", total),
        current: line("input current at 20 V and 19 V (A)", current),
        margins: margins(bmc, backplane, current, tray_limit, rack_limit),
        at_the_limit: rack(Pair::new(full, full)).worst,
        least_voltage: total.worst / rack_limit,
        missing,
    }
}

/// What a fuse's value says that it carries, in amperes: `7 A`, `0.5 A / 30 V`.
fn holds(design: &Design, fuse: &str) -> f64 {
    let value = design.part(fuse).map(|part| part.value.as_str());
    let amperes = value.and_then(|value| value.split(' ').next()?.parse().ok());
    amperes.unwrap_or(0.0)
}

fn margins(
    bmc: &Design,
    backplane: &Design,
    current: Pair,
    tray_limit: f64,
    rack_limit: f64,
) -> Vec<Margin> {
    let busbar_fingers = CONTACTS
        .iter()
        .filter(|contact| contact.signal == Signal::Busbar)
        .count() as f64;
    let tray_at_least = (PI.worst / BUCK.worst + BMC.worst / ALWAYS_ON.worst) / LEAST_INPUT;
    let margin = |name, carries, may, why| Margin {
        name,
        carries,
        may,
        why,
    };
    vec![
        margin(
            "100 W supply",
            current.worst,
            SUPPLY_100,
            "5 A, with a cable with a marker",
        ),
        margin(
            "60 W supply, ordinary use",
            current.typical,
            SUPPLY_60,
            "3 A, with any cable",
        ),
        margin(
            "USB-C receptacle",
            current.worst,
            5.0,
            "GCT USB4105: 5 A over its four VBUS contacts",
        ),
        margin(
            "barrel jack",
            current.worst,
            8.0 * 0.8,
            "CUI PJ-063AH: 8 A, to 80 %",
        ),
        margin(
            "fuse F2",
            current.worst,
            holds(backplane, "F2") * 0.75 * 0.92,
            "Littelfuse: continuously to 75 % of its rating, at 60 degrees to 92 % of that",
        ),
        margin(
            "rack's eFuse",
            current.worst,
            rack_limit,
            "its lowest limit",
        ),
        margin(
            "tray's eFuse at 9 V",
            tray_at_least,
            tray_limit,
            "its lowest limit",
        ),
        margin(
            "a slot's busbar contacts at 9 V",
            tray_at_least,
            busbar_fingers * CONTACT_CURRENT * 0.5,
            "PCI Express: 1.1 A each, to 50 % since they share unevenly",
        ),
        margin(
            "a 5 V contact of the Pi's header, at the supply's limit",
            PI_LIMIT / 5.1 / 2.0,
            3.0 * 0.8,
            "3 A each, to 80 %",
        ),
        margin(
            "5 V supply",
            (FANS.worst + SWITCH.worst) / 5.0,
            2.0 * 0.8,
            "AP63205: 2 A, to 80 %",
        ),
        margin(
            "fuse F3, switch",
            SWITCH.worst / 5.0,
            holds(backplane, "F3") * WARM,
            "holds 1.5 A at 23 degrees, 70 % of it at 60",
        ),
        margin(
            "BMC's fuse F1 at 6.8 V, where the rack's eFuse has opened",
            BMC.worst / ALWAYS_ON.worst / LEAST_BUSBAR,
            holds(bmc, "F1") * WARM,
            "holds 0.12 A at 23 degrees, 70 % of it at 60",
        ),
        margin(
            "RMC's fuse F1 at USB-C's first 4.75 V",
            RMC.worst / ALWAYS_ON.worst / FIRST_5V,
            holds(backplane, "F1") * WARM,
            "holds 0.5 A at 23 degrees, 70 % of it at 60",
        ),
    ]
}

impl Budget {
    /// Parts that carry more than they may, and an input above 100 W.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let over = self.margins.iter().filter(|it| it.carries > it.may);
        let mut faults = self.missing.clone();
        faults.extend(over.map(|it| {
            Fault::at(
                it.name,
                format!(
                    "carries {:.2} A, may carry {:.2} A: {}",
                    it.carries, it.may, it.why
                ),
            )
        }));
        if self.total.worst > 100.0 {
            let watts = self.total.worst;
            faults.push(Fault::at("rack", format!("draws {watts:.1} W of 100 W")));
        }
        faults
    }

    /// The loads as Markdown, for people.
    #[must_use]
    pub fn loads(&self) -> String {
        let mut out = String::from("| Load, at the input | typical | worst |\n|---|---:|---:|\n");
        for line in self.lines.iter().chain([&self.total]) {
            writeln!(
                out,
                "| {} | {:.1} W | {:.1} W |",
                line.name, line.typical, line.worst
            )
            .expect("strings grow");
        }
        writeln!(
            out,
            "| input current | {:.2} A at 20 V | {:.2} A at 19 V |",
            self.current.typical, self.current.worst
        )
        .expect("strings grow");
        writeln!(
            out,
            "| all trays at their supplies' limit | | {:.0} W |",
            self.at_the_limit
        )
        .expect("strings grow");
        writeln!(
            out,
            "| least barrel voltage for the worst case | | {:.0} V |",
            self.least_voltage.ceil()
        )
        .expect("strings grow");
        out
    }

    /// What parts on the way carry, as Markdown.
    #[must_use]
    pub fn parts(&self) -> String {
        let mut out =
            String::from("| Part | carries | may carry | because |\n|---|---:|---:|---|\n");
        for it in &self.margins {
            writeln!(
                out,
                "| {} | {:.2} A | {:.2} A | {} |",
                it.name, it.carries, it.may, it.why
            )
            .expect("strings grow");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits::{backplane, bmc};

    #[test]
    fn the_worst_case_fits_into_100_watts_and_ordinary_use_into_60() {
        let budget = budget(&bmc::design(), &backplane::design());
        assert!(budget.faults().is_empty(), "{:?}", budget.faults());
        assert!((70.0..95.0).contains(&budget.total.worst), "{budget:?}");
        assert!((30.0..57.0).contains(&budget.total.typical), "{budget:?}");
        assert!(budget.at_the_limit > 100.0, "then the text would be wrong");
    }

    #[test]
    fn the_cases_air_was_computed_with_this_power() {
        let total = budget(&bmc::design(), &backplane::design()).total;
        let heat = racklet_boards::dimensions::rack().air.heat;
        for (is, stated) in [(total.typical, heat.typical), (total.worst, heat.worst)] {
            assert!(
                (is - stated).abs() < 0.1,
                "{is} W, boards/rack.toml says {stated} W"
            );
        }
    }

    #[test]
    fn a_smaller_fuse_and_a_lower_limit_are_refused() {
        let mut design = backplane::design();
        part(&mut design, "F2").value = "5 A".to_owned();
        part(&mut design, "R26").value = "4k53".to_owned();
        let said: Vec<_> = budget(&bmc::design(), &design)
            .faults()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("fuse F2") && said[1].starts_with("rack's eFuse"));
    }

    #[test]
    fn a_resettable_fuse_that_opens_in_warm_air_is_refused() {
        for (fuse, value, says) in [
            (
                "F1",
                "0.3 A / 30 V",
                "RMC's fuse F1 at USB-C's first 4.75 V",
            ),
            ("F3", "1.1 A / 16 V", "fuse F3, switch"),
        ] {
            let mut design = backplane::design();
            part(&mut design, fuse).value = value.to_owned();
            let said = budget(&bmc::design(), &design).faults();
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].to_string().starts_with(says), "{said:?}");
        }
    }

    #[test]
    fn the_document_has_the_tables_of_today() {
        let budget = budget(&bmc::design(), &backplane::design());
        let document = include_str!("../../../docs/hardware/power.md");
        for table in [budget.loads(), budget.parts()] {
            assert!(
                document.contains(&table),
                "run `cargo run -p racklet-kicad --bin hardware tables` for docs/hardware/power.md:\n{table}"
            );
        }
    }
}
