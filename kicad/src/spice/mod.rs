// SPDX-License-Identifier: Apache-2.0
//! The power path before it is built: ngspice runs of what happens at hot-plug, at a short and at the supply's start, made from
//! the values of the design, each with bounds.
//!
//! The integrated circuits are stood in for by their data sheets' behaviour (see [`circuits`]), not by their makers' models,
//! which ngspice cannot read. Layout parasitics are those of the comments there, nothing is extracted from the board.

mod circuits;
mod ngspice;
mod plot;
pub(crate) mod values;

use crate::design::Design;

pub use ngspice::{NgspiceError, Waveforms};
pub use values::ValueError;

/// One run: a circuit, what is looked at and what has to be true of it.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// A short name: the stem of its files.
    pub name: &'static str,
    /// What is shown, for people.
    pub title: &'static str,
    /// What the models leave out, for people.
    pub model: &'static str,
    /// The circuit without its analysis.
    netlist: String,
    /// The longest step, in seconds.
    step: f64,
    /// The end, in seconds.
    end: f64,
    /// What is recorded.
    probes: Vec<Probe>,
    /// What has to be true.
    bounds: Vec<Bound>,
}

/// A curve that is recorded.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// In ngspice's words: `v(out)`, `i(vsense)`.
    expression: &'static str,
    /// For people.
    label: &'static str,
    /// `V` or `A`.
    unit: &'static str,
}

/// Something that must be true of one curve.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// For people: what is measured.
    what: &'static str,
    /// The probe it is measured of.
    probe: usize,
    /// From when on, in seconds.
    from: f64,
    measure: Measure,
    /// The smallest good value.
    least: f64,
    /// The largest good value.
    most: f64,
    /// Where the bound comes from.
    why: &'static str,
}

/// How a curve becomes a number.
#[derive(Debug, Clone, Copy)]
enum Measure {
    Largest,
    Smallest,
    /// The last value.
    Last,
    /// When it first passes this value, in seconds after `from`.
    Reaches(f64),
    /// When it is last above this value, in seconds after `from`.
    LeavesFor(f64),
}

/// What a bound's curve did.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What was measured.
    pub what: &'static str,
    /// The value.
    pub value: f64,
    /// V, A or s.
    pub unit: &'static str,
    /// The smallest good value.
    pub least: f64,
    /// The largest good value.
    pub most: f64,
    /// Where the bound comes from.
    pub why: &'static str,
}

impl Finding {
    /// Whether the value is within its bounds.
    #[must_use]
    pub fn is_good(&self) -> bool {
        (self.least..=self.most).contains(&self.value)
    }
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What had to be true.
    pub findings: Vec<Finding>,
    /// The curves as a picture.
    pub plot: String,
}

/// All runs that a board's design calls for: the BMC board has the power path.
///
/// # Errors
/// [`ValueError`] when the design has no part where one is expected, or its value is not understood.
pub fn simulations(bmc: &Design) -> Result<Vec<Simulation>, ValueError> {
    Ok(vec![
        circuits::hot_plug(bmc)?,
        circuits::inrush(bmc)?,
        circuits::short(bmc)?,
        circuits::overload(bmc)?,
        circuits::buck_start(bmc)?,
    ])
}

impl Simulation {
    /// Runs ngspice.
    ///
    /// # Errors
    /// [`NgspiceError`] when it is not installed, fails or says something that is not understood.
    pub fn run(&self) -> Result<Outcome, NgspiceError> {
        let waves = ngspice::run(self)?;
        let findings = self
            .bounds
            .iter()
            .map(|bound| Finding {
                what: bound.what,
                value: bound.measured(&waves),
                unit: match bound.measure {
                    Measure::Reaches(_) | Measure::LeavesFor(_) => "s",
                    _ => self.probes[bound.probe].unit,
                },
                least: bound.least,
                most: bound.most,
                why: bound.why,
            })
            .collect();
        Ok(Outcome {
            findings,
            plot: plot::svg(self, &waves),
        })
    }

    /// The file that ngspice is given, so that anyone can run it again.
    #[must_use]
    pub fn deck(&self) -> String {
        let probes: Vec<_> = self.probes.iter().map(|probe| probe.expression).collect();
        format!(
            "* Racklet: {}\n* SPDX-License-Identifier: CERN-OHL-P-2.0\n* {}\n{}\n.control\nset wr_singlescale\nset wr_vecnames\ntran {:e} {:e} 0 {:e} uic\nwrdata {}.txt {}\n.endc\n.end\n",
            self.title,
            self.model.replace('\n', "\n* "),
            self.netlist.trim(),
            self.step,
            self.end,
            self.step,
            self.name,
            probes.join(" "),
        )
    }
}

impl Bound {
    fn measured(&self, waves: &Waveforms) -> f64 {
        let curve = &waves.curves[self.probe];
        let samples = || {
            waves
                .time
                .iter()
                .zip(curve)
                .map(|(time, value)| (*time, *value))
                .filter(|(time, _)| *time >= self.from)
        };
        let values = || samples().map(|(_, value)| value);
        match self.measure {
            Measure::Largest => values().fold(f64::NEG_INFINITY, f64::max),
            Measure::Smallest => values().fold(f64::INFINITY, f64::min),
            Measure::Last => values().next_back().unwrap_or(f64::NAN),
            Measure::Reaches(level) => samples()
                .find(|(_, value)| *value >= level)
                .map_or(f64::INFINITY, |(time, _)| time - self.from),
            Measure::LeavesFor(level) => samples()
                .rfind(|(_, value)| *value > level)
                .map_or(0.0, |(time, _)| time - self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(measure: Measure) -> Bound {
        Bound {
            what: "x",
            probe: 0,
            from: 1.0,
            measure,
            least: 0.0,
            most: 2.0,
            why: "",
        }
    }

    #[test]
    fn a_curve_becomes_a_number() {
        let waves = Waveforms {
            time: vec![0.0, 1.0, 2.0, 3.0, 4.0],
            curves: vec![vec![9.0, 0.0, 3.0, 5.0, 1.0]],
        };
        for (measure, value) in [
            (Measure::Largest, 5.0),
            (Measure::Smallest, 0.0),
            (Measure::Last, 1.0),
            (Measure::Reaches(2.5), 1.0),
            (Measure::Reaches(7.0), f64::INFINITY),
            (Measure::LeavesFor(2.0), 2.0),
            (Measure::LeavesFor(7.0), 0.0),
        ] {
            assert!(
                (bound(measure).measured(&waves) - value).abs() < 1e-9 || value.is_infinite(),
                "{measure:?}"
            );
        }
    }

    #[test]
    fn what_never_happens_is_not_good() {
        let finding = |value| Finding {
            what: "",
            value,
            unit: "s",
            least: 0.0,
            most: 1.0,
            why: "",
        };
        assert!(finding(0.5).is_good());
        assert!(!finding(f64::INFINITY).is_good() && !finding(f64::NAN).is_good());
    }
}
