// SPDX-License-Identifier: Apache-2.0
//! Running ngspice and reading what it recorded.

use std::{
    fs, io,
    process::{Command, Stdio},
};

use super::Simulation;

/// Why a run gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum NgspiceError {
    /// It is not installed, or the scratch folder cannot be written.
    #[error("{0}: run ngspice (Debian's package `ngspice`)")]
    Start(&'static str, #[source] io::Error),
    /// It says that the circuit is wrong, or finds no solution.
    #[error("{name}: ngspice failed: {said}")]
    Failed {
        /// Which run.
        name: &'static str,
        /// Its last words.
        said: String,
    },
    /// A file of other columns than asked for.
    #[error("{name}: what ngspice recorded is not understood at line {line}")]
    NotUnderstood {
        /// Which run.
        name: &'static str,
        /// Counted from one.
        line: usize,
    },
}

/// What was recorded.
#[derive(Debug, Clone)]
pub struct Waveforms {
    /// In seconds, rising.
    pub time: Vec<f64>,
    /// One curve for each probe, in its unit, as long as `time`.
    pub curves: Vec<Vec<f64>>,
}

pub(super) fn run(simulation: &Simulation) -> Result<Waveforms, NgspiceError> {
    let name = simulation.name;
    let start = |error| NgspiceError::Start(name, error);
    let folder = tempfile::tempdir().map_err(start)?;
    let deck = folder.path().join("deck.cir");
    fs::write(&deck, simulation.deck()).map_err(start)?;
    let output = Command::new("ngspice")
        .args(["-n", "-b", "deck.cir"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .map_err(start)?;
    let text = fs::read_to_string(folder.path().join(format!("{name}.txt")));
    // Its status says nothing: it ends with success even if it found no solution, and Debian 12's (39.3) with 1 when all went well,
    // because the deck has no `.print`. Without a solution the file is short or not there.
    let text = match text {
        Ok(text) => text,
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
            return Err(NgspiceError::Failed {
                name,
                said: lines[lines.len().saturating_sub(3)..].join(" / "),
            });
        }
    };
    let waves = read(simulation, &text)?;
    let reached = waves.time.last().copied().unwrap_or(0.0);
    if reached < simulation.end * 0.999 {
        return Err(NgspiceError::Failed {
            name,
            said: format!("no solution behind {reached:.3e} s"),
        });
    }
    Ok(waves)
}

/// A head, then a line for each moment: the time, then each probe.
fn read(simulation: &Simulation, text: &str) -> Result<Waveforms, NgspiceError> {
    let mut waves = Waveforms {
        time: Vec::new(),
        curves: vec![Vec::new(); simulation.probes.len()],
    };
    for (index, line) in text.lines().enumerate().skip(1) {
        let not_understood = || NgspiceError::NotUnderstood {
            name: simulation.name,
            line: index + 1,
        };
        let numbers: Vec<f64> = line
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| not_understood())?;
        let [time, values @ ..] = &numbers[..] else {
            return Err(not_understood());
        };
        if values.len() != waves.curves.len() || !numbers.iter().all(|number| number.is_finite()) {
            return Err(not_understood());
        }
        waves.time.push(*time);
        for (curve, value) in waves.curves.iter_mut().zip(values) {
            curve.push(*value);
        }
    }
    Ok(waves)
}
