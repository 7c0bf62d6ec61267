// SPDX-License-Identifier: Apache-2.0
//! Filling of zones, by KiCad's own filler: the only one that its rules check agrees with.

use std::path::Path;
use std::process::Command;

use super::Board;
use super::geometry::Point;
use crate::footprints::LAYER_NAMES;
use crate::uuid::uuid;

/// Debian's interpreter, which has KiCad's module; another one first in the path has not.
const PYTHON: &str = "/usr/bin/python3";

/// Why zones are not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// A file of the project cannot be written.
    #[error("write the board for its zones to be filled")]
    Write(#[source] std::io::Error),
    /// The interpreter cannot be started.
    #[error("start {PYTHON}")]
    Start(#[source] std::io::Error),
    /// The filler failed.
    #[error("KiCad's zone filler: {0}")]
    Filler(String),
    /// It printed something else.
    #[error("KiCad's zone filler printed `{0}`")]
    Output(String),
}

/// Fills all zones of `board`, whose project's files (rules, classes) are in `project`.
///
/// # Errors
/// [`FillError`].
pub fn fill(board: &mut Board, project: &Path) -> Result<(), FillError> {
    for zone in &mut board.zones {
        zone.filled.clear();
    }
    let file = project.join(format!("{}.kicad_pcb", board.project));
    std::fs::write(&file, board.to_string()).map_err(FillError::Write)?;
    let output = Command::new(PYTHON)
        .arg("-c")
        .arg(include_str!("fill.py"))
        .arg(&file)
        .output()
        .map_err(FillError::Start)?;
    if !output.status.success() {
        return Err(FillError::Filler(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let bad = || FillError::Output(line.into());
        let mut words = line.split(' ');
        let id = words.next().ok_or_else(bad)?;
        let numbers: Vec<i64> = words
            .map(|word| word.parse().map_err(|_| bad()))
            .collect::<Result<_, _>>()?;
        let project = board.project;
        let zone = board
            .zones
            .iter_mut()
            .find(|zone| {
                let layer = LAYER_NAMES[usize::from(zone.layer)];
                uuid(&[project, "board", "zone", &zone.name, layer]) == id
            })
            .ok_or_else(bad)?;
        zone.filled.push(
            numbers
                .chunks_exact(2)
                .map(|pair| Point {
                    x: pair[0],
                    y: pair[1],
                })
                .collect(),
        );
    }
    for zone in &mut board.zones {
        zone.filled.sort();
    }
    std::fs::write(&file, board.to_string()).map_err(FillError::Write)
}
