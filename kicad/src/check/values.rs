// SPDX-License-Identifier: Apache-2.0
//! Dividers and limits: the voltages and currents that the resistors give, with all tolerances at their worst, against
//! what they have to be.

use super::Fault;
use crate::design::Design;
use crate::spice::values::{Passive, ValueError, one};

/// Tolerance of the ordinary resistors.
const ONE_PERCENT: f64 = 0.01;

/// A range, smallest and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
}

impl Range {
    const fn new(least: f64, most: f64) -> Self {
        Self { least, most }
    }

    fn within(self, allowed: Self) -> bool {
        self.least >= allowed.least && self.most <= allowed.most
    }
}

/// The input voltage at which a divider of `upper` and `lower` gives the threshold, both resistors at opposite ends of
/// their tolerance.
fn divided(threshold: Range, upper: f64, lower: f64, tolerance: f64) -> Range {
    let ratio =
        |sign: f64| 1.0 + upper * (1.0 + sign * tolerance) / (lower * (1.0 - sign * tolerance));
    Range::new(threshold.least * ratio(-1.0), threshold.most * ratio(1.0))
}

/// LMR33640: reference 1.0 V +-1.5 % over temperature.
const BUCK_REFERENCE: Range = Range::new(0.985, 1.015);
/// TPS2663x: UVLO and OVP rising, 1.2 V +-2 %.
const EFUSE_THRESHOLD: Range = Range::new(1.176, 1.224);
/// TPS2663x: UVLO falling.
const EFUSE_FALLING: Range = Range::new(1.09, 1.15);
/// TPS2663x: limit 18 V / R +-8 %.
const LIMIT_TOLERANCE: f64 = 0.08;

/// What a Raspberry Pi takes at its header: 5 V +-5 %.
pub const PI_SUPPLY: Range = Range::new(4.75, 5.25);

struct Checked {
    what: &'static str,
    found: Result<Range, ValueError>,
    allowed: Range,
}

fn faults(design: &Design, checks: Vec<Checked>) -> Vec<Fault> {
    checks
        .into_iter()
        .filter_map(|check| {
            let place = format!("{} {}", design.name, check.what);
            match check.found {
                Err(error) => Some(Fault::at(place, error.to_string())),
                Ok(found) if found.within(check.allowed) => None,
                Ok(found) => Some(Fault::at(
                    place,
                    format!(
                        "{:.3} to {:.3}, allowed are {} to {}",
                        found.least, found.most, check.allowed.least, check.allowed.most
                    ),
                )),
            }
        })
        .collect()
}

/// The eFuse's divider: the voltages at which it closes, opens again, and refuses.
fn efuse_divider(
    design: &Design,
    input: &'static str,
) -> Result<(Range, Range, Range), ValueError> {
    let top = one(design, Passive::Resistor, input, "EFUSE_UVLO")?;
    let middle = one(design, Passive::Resistor, "EFUSE_UVLO", "EFUSE_OVP")?;
    let bottom = one(design, Passive::Resistor, "EFUSE_OVP", "GND")?;
    Ok((
        divided(EFUSE_THRESHOLD, top, middle + bottom, ONE_PERCENT),
        divided(EFUSE_FALLING, top, middle + bottom, ONE_PERCENT),
        divided(EFUSE_THRESHOLD, top + middle, bottom, ONE_PERCENT),
    ))
}

/// The eFuse's limit, in amperes.
///
/// # Errors
/// [`ValueError`] when the resistor is not there.
pub fn efuse_limit(design: &Design) -> Result<Range, ValueError> {
    let amperes = 18e3 / one(design, Passive::Resistor, "EFUSE_ILIM", "GND")?;
    let off = LIMIT_TOLERANCE + ONE_PERCENT;
    Ok(Range::new(amperes * (1.0 - off), amperes * (1.0 + off)))
}

/// The tray's supply, in volts.
///
/// # Errors
/// [`ValueError`] when a resistor is not there.
pub fn tray_voltage(bmc: &Design) -> Result<Range, ValueError> {
    let upper = one(bmc, Passive::Resistor, "PI_5V", "BUCK_FB")?;
    let lower = one(bmc, Passive::Resistor, "BUCK_FB", "GND")?;
    Ok(divided(BUCK_REFERENCE, upper, lower, 0.001))
}

/// TPS2663x: amperes out of the current monitor for each that passes.
const MONITOR: Range = Range::new(25.66e-6, 30.14e-6);
/// For the first milliseconds of an overload this variant of the eFuse passes twice its limit.
const PULSE: f64 = 2.0;

/// What the controller's converter sees of the eFuse's current while it passes all that it ever does, in volts.
fn monitored(design: &Design) -> Result<Range, ValueError> {
    let ohms = one(design, Passive::Resistor, "EFUSE_IMON", "GND")?;
    let limit = efuse_limit(design)?;
    Ok(Range::new(
        PULSE * limit.least * MONITOR.least * ohms * (1.0 - ONE_PERCENT),
        PULSE * limit.most * MONITOR.most * ohms * (1.0 + ONE_PERCENT),
    ))
}

fn efuse(design: &Design, input: &'static str, limit: Range) -> Vec<Checked> {
    let divider = efuse_divider(design, input);
    let part = |pick: fn(&(Range, Range, Range)) -> Range| {
        divider.as_ref().map(pick).map_err(Clone::clone)
    };
    vec![
        // Closed at 9 V less 0.3 V of cable; open while USB-C still gives 5 V.
        Checked {
            what: "eFuse closes (V)",
            found: part(|it| it.0),
            allowed: Range::new(6.5, 8.7),
        },
        // The converters behind need 7 V to hold 5.1 V.
        Checked {
            what: "eFuse opens (V)",
            found: part(|it| it.1),
            allowed: Range::new(6.8, 8.0),
        },
        // 20 V +5 % must pass; 25 V electrolytic and ceramic parts, and sources that gave too much, must not.
        Checked {
            what: "eFuse refuses (V)",
            found: part(|it| it.2),
            allowed: Range::new(21.2, 24.5),
        },
        Checked {
            what: "eFuse limit (A)",
            found: efuse_limit(design),
            allowed: limit,
        },
        // The pad bears its supply; below half of that bits are wasted.
        Checked {
            what: "eFuse's current at the controller, twice its limit (V)",
            found: monitored(design),
            allowed: Range::new(1.6, 3.3),
        },
    ]
}

/// The BMC's dividers and limits.
#[must_use]
pub fn bmc(design: &Design) -> Vec<Fault> {
    // 20.4 W at 91 % from 9 V are 2.5 A; the net class bears 3.3 A.
    let limit = Range::new(2.5, design.net("BUSBAR").current);
    let mut checks = efuse(design, "BUSBAR", limit);
    checks.push(Checked {
        what: "tray stays on while its controller restarts (s)",
        found: hold(design),
        // Longer than a start of the controller; shorter than a person waits for a tray to go off.
        allowed: Range::new(0.4, 2.0),
    });
    checks.push(Checked {
        what: "tray's supply (V)",
        found: tray_voltage(design),
        // The header's contacts and the planes may lose 50 mV.
        allowed: Range::new(PI_SUPPLY.least + 0.05, PI_SUPPLY.most),
    });
    for (what, from, net, full) in [
        ("busbar at the controller (V)", "BUSBAR", "ADC_BUSBAR", 24.0),
        (
            "tray's supply at the controller (V)",
            "PI_5V",
            "ADC_PI_5V",
            5.5,
        ),
    ] {
        checks.push(sensed(design, what, from, net, full));
    }
    faults(design, checks)
}

/// The backplane's dividers and limits.
#[must_use]
pub fn backplane(design: &Design) -> Vec<Fault> {
    let limit = Range::new(4.5, design.net("BUSBAR").current + 0.05);
    let mut checks = efuse(design, "VIN_RACK", limit);
    checks.push(sensed(
        design,
        "USB-C at the controller (V)",
        "PD_VBUS",
        "ADC_PD",
        24.0,
    ));
    checks.push(sensed(
        design,
        "barrel at the controller (V)",
        "BARREL_IN",
        "ADC_BARREL",
        24.0,
    ));
    checks.push(Checked {
        what: "idle bus (V)",
        found: idle_bus(design),
        // TIA-485: 0.2 V are a defined state; above 1.5 V is what a driver gives.
        allowed: Range::new(0.2, 1.5),
    });
    faults(design, checks)
}

/// How long the enable's capacitor holds the tray's supply on when the controller lets go, in seconds.
fn hold(bmc: &Design) -> Result<Range, ValueError> {
    let series = one(bmc, Passive::Resistor, "PI_POWER_EN", "BUCK_EN")?;
    let down = one(bmc, Passive::Resistor, "PI_POWER_EN", "GND")?;
    let farads = one(bmc, Passive::Capacitor, "BUCK_EN", "GND")?;
    let time = (series + down) * farads;
    // LMR33640: off below 0.95 to 1.2 V. The capacitor keeps 55 % at worst: -20 %, 3.3 V, warmth.
    let until = |from: f64, to: f64| (from / to).ln();
    Ok(Range::new(
        time * 0.55 * until(3.2, 1.2),
        time * 1.2 * until(3.4, 0.95),
    ))
}

/// The voltage that bias and termination leave between the idle bus's lines.
fn idle_bus(design: &Design) -> Result<Range, ValueError> {
    let up = one(design, Passive::Resistor, "3V3", "RS485_A")?;
    let down = one(design, Passive::Resistor, "RS485_B", "GND")?;
    let end = one(design, Passive::Resistor, "RS485_A", "RS485_B")?;
    // Six receivers of an eighth of a unit load, 12 kohm / 8 each, and the supply at -3 %.
    let loads = 96e3 / 6.0;
    let end = end * loads / (end + loads);
    let share = |sign: f64| {
        let end = end * (1.0 + sign * ONE_PERCENT);
        end / (end + (up + down) * (1.0 - sign * ONE_PERCENT))
    };
    Ok(Range::new(3.2 * share(-1.0), 3.4 * share(1.0)))
}

/// What a converter's input sees of `full` volts: below its reference of 3.2 V at least, and not so little that bits are
/// wasted.
fn sensed(
    design: &Design,
    what: &'static str,
    from: &'static str,
    net: &'static str,
    full: f64,
) -> Checked {
    let found = || {
        let upper = one(design, Passive::Resistor, from, net)?;
        let lower = one(design, Passive::Resistor, net, "GND")?;
        let times = divided(Range::new(1.0, 1.0), upper, lower, ONE_PERCENT);
        Ok(Range::new(full / times.most, full / times.least))
    };
    Checked {
        what,
        found: found(),
        allowed: Range::new(1.5, 3.2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::part;
    use crate::circuits;

    fn spoilt(reference: &str, value: &str) -> Vec<String> {
        let mut design = circuits::bmc::design();
        part(&mut design, reference).value = value.to_owned();
        bmc(&design).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_tray_gets_between_5_03_and_5_20_volts() {
        let found = tray_voltage(&circuits::bmc::design()).unwrap();
        assert!(found.within(Range::new(5.02, 5.21)), "{found:?}");
    }

    #[test]
    fn a_feedback_resistor_of_the_next_value_is_refused() {
        assert_eq!(spoilt("R26", "22k1 0.1%").len(), 1);
        assert_eq!(spoilt("R26", "27k 0.1%").len(), 1);
    }

    #[test]
    fn thresholds_and_limits_that_left_their_range_are_refused() {
        assert!(spoilt("R10", "360k").len() >= 2);
        assert!(spoilt("R12", "22k").iter().any(|it| it.contains("refuses")));
        assert!(spoilt("R13", "8k2").iter().any(|it| it.contains("limit")));
        assert!(spoilt("R13", "4k7").iter().any(|it| it.contains("limit")));
        assert!(
            spoilt("C51", "100n")
                .iter()
                .any(|it| it.contains("restarts"))
        );
        assert!(spoilt("R21", "22k").iter().any(|it| it.contains("busbar")));
        assert!(spoilt("R14", "18k").iter().any(|it| it.contains("twice")));
    }

    #[test]
    fn a_missing_resistor_is_said() {
        let mut design = circuits::bmc::design();
        design.parts.retain(|part| part.reference != "R13");
        let faults = bmc(&design);
        assert!(
            faults[0].to_string().contains("no resistor between"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_pulse_that_the_controllers_pad_does_not_bear_is_refused() {
        let mut design = circuits::backplane::design();
        part(&mut design, "R27").value = "18k".to_owned();
        let said: Vec<_> = backplane(&design).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "backplane eFuse's current at the controller, twice its limit (V): 4.305 to 6.179, allowed are 1.6 to 3.3"
            ]
        );
    }

    #[test]
    fn a_bus_that_floats_when_idle_is_refused() {
        let mut design = circuits::backplane::design();
        part(&mut design, "R44").value = "4k7".to_owned();
        assert_eq!(backplane(&design).len(), 1);
    }
}
