// SPDX-License-Identifier: Apache-2.0
//! The power path of the BMC board as it is designed, in ngspice where that is installed: every figure within its bounds,
//! and a board that was spoilt outside them.

use racklet_kicad::circuits::bmc;
use racklet_kicad::design::Design;
use racklet_kicad::spice::{NgspiceError, Outcome, simulations};
use std::io::ErrorKind;

/// Runs all; none where ngspice is not installed.
fn run(design: &Design) -> Vec<(&'static str, Outcome)> {
    let mut outcomes = Vec::new();
    for simulation in simulations(design).expect("the design has every part") {
        match simulation.run() {
            Ok(outcome) => outcomes.push((simulation.name, outcome)),
            Err(NgspiceError::Start(_, error)) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: ngspice is not installed");
                return Vec::new();
            }
            Err(error) => panic!("{}: {error}", simulation.name),
        }
    }
    outcomes
}

/// Which figures are out of their bounds.
fn bad(outcomes: &[(&'static str, Outcome)]) -> Vec<String> {
    outcomes
        .iter()
        .flat_map(|(name, outcome)| {
            outcome
                .findings
                .iter()
                .filter(|finding| !finding.is_good())
                .map(move |it| {
                    let (what, value, unit) = (it.what, it.value, it.unit);
                    format!(
                        "{name}: {what}: {value} {unit}, not {}..{}",
                        it.least, it.most
                    )
                })
        })
        .collect()
}

fn with(reference: &str, value: &str) -> Design {
    let mut design = bmc::design();
    let part = design.parts.iter_mut().find(|it| it.reference == reference);
    value.clone_into(&mut part.expect("the design has it").value);
    design
}

#[test]
fn the_power_path_stays_within_its_bounds() {
    let outcomes = run(&bmc::design());
    for (name, outcome) in &outcomes {
        for it in &outcome.findings {
            println!(
                "{name}: {}: {:.4e} {} ({:e} to {:e}: {})",
                it.what, it.value, it.unit, it.least, it.most, it.why
            );
        }
    }
    assert!(bad(&outcomes).is_empty(), "{:#?}", bad(&outcomes));
}

#[test]
fn a_small_capacitor_at_the_efuse_lets_a_short_kick_too_high() {
    let outcomes = run(&with("C24", "100n"));
    if !outcomes.is_empty() {
        assert!(bad(&outcomes).iter().any(|it| it.contains("transistor")));
    }
}

#[test]
fn a_wrong_feedback_and_a_fast_ramp_are_noticed() {
    let outcomes = run(&with("R26", "22k1 0.1%"));
    if !outcomes.is_empty() {
        assert!(
            bad(&outcomes)
                .iter()
                .any(|it| it.contains("voltage for the Pi"))
        );
        let outcomes = run(&with("C25", "1n"));
        assert!(bad(&outcomes).iter().any(|it| it.starts_with("inrush")));
    }
}

#[test]
fn the_committed_decks_are_those_of_the_design() {
    for simulation in simulations(&bmc::design()).unwrap() {
        let path = format!(
            "{}/spice/{}.cir",
            env!("CARGO_MANIFEST_DIR"),
            simulation.name
        );
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == simulation.deck(),
            "{path}: run `cargo run -p racklet-kicad --bin hardware spice`"
        );
    }
}
