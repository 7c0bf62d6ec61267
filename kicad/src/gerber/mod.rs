// SPDX-License-Identifier: Apache-2.0
//! A second, independent reader of what a fab receives: Gerber X2 and Excellon become polygons and holes, these become
//! connectivity, and that is compared with IPC-D-356 (what KiCad says the nets are) and with the intent.
//!
//! ```text
//! *.gtl *.g1 *.g2 *.gbl ─ format, macros, shapes ─▶ polygons ─ copper ─▶ islands ─┐
//! *-PTH.drl ─ excellon ─▶ plated holes ──────────────────────────────────────────┴▶ joined copper ─ compare ─▶ findings
//! *.d356 ─ ipc356 ─▶ pads with nets ─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It shares no code with what writes the boards and knows nothing of KiCad's own files. Coordinates are rounded to 0.1 µm;
//! curves are polygons within 1 µm of the arc up to a radius of 3 mm (7.5 degrees a side, on the inside of the arc, so that
//! copper is never read as wider than it is). What it does not understand is an error, never skipped: apertures with holes,
//! block apertures, step and repeat, mirrored or scaled objects, routed slots.

pub mod compare;
pub mod copper;
pub mod excellon;
pub mod format;
pub mod ipc356;
mod macros;
pub mod shapes;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use compare::{Finding, Joined};
use excellon::Drill;
use format::Layer;
use ipc356::Record;

/// Why the files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder.
    #[error("read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A file of copper.
    #[error("read {}", .0.display())]
    Gerber(PathBuf, #[source] format::GerberError),
    /// A file of holes.
    #[error("read {}", .0.display())]
    Drill(PathBuf, #[source] excellon::DrillError),
    /// The list of nets.
    #[error("read {}", .0.display())]
    Nets(PathBuf, #[source] ipc356::RecordError),
    /// Not a board: layers missing, twice, or no holes' file.
    #[error("{}: {reason}", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// What it has or has not.
        reason: String,
    },
}

/// A board as a fab sees it.
#[derive(Debug)]
pub struct Fabrication {
    /// The copper from the top down.
    pub layers: Vec<Layer>,
    /// The holes, plated or not.
    pub drills: Vec<Drill>,
    /// The pads and vias with their nets.
    pub records: Vec<Record>,
}

impl Fabrication {
    /// Reads every Gerber file of copper and every drill file in `folder`, and the IPC-D-356 file `nets`.
    ///
    /// # Errors
    /// A file that cannot be read or understood; a layer that is missing or there twice.
    pub fn read(folder: &Path, nets: &Path) -> Result<Self, ReadError> {
        let text = |path: &Path| {
            fs::read_to_string(path).map_err(|error| ReadError::File(path.to_owned(), error))
        };
        let listed = fs::read_dir(folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| ReadError::File(folder.to_owned(), error))?;
        let mut paths: Vec<PathBuf> = listed.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        let (mut layers, mut drills) = (Vec::new(), Vec::new());
        for path in paths {
            let ending = path.extension().and_then(|ending| ending.to_str());
            match ending {
                Some("drl") => {
                    let drill = excellon::read(&text(&path)?)
                        .map_err(|error| ReadError::Drill(path, error))?;
                    drills.push(drill);
                }
                Some(ending) if ending.starts_with('g') && ending != "gbrjob" => {
                    let source = text(&path)?;
                    if source.contains("%TF.FileFunction,Copper,") {
                        let layer = format::read(&source)
                            .map_err(|error| ReadError::Gerber(path, error))?;
                        layers.push(layer);
                    }
                }
                _ => {}
            }
        }
        layers.sort_by_key(|layer| layer.number);
        let incomplete = |reason: &str| ReadError::Incomplete {
            folder: folder.to_owned(),
            reason: reason.into(),
        };
        let numbers: Vec<usize> = layers.iter().map(|layer| layer.number).collect();
        if layers.len() < 2 || !numbers.iter().copied().eq(1..=layers.len()) {
            return Err(incomplete(&format!("has copper layers {numbers:?}")));
        }
        if !drills.iter().any(|drill| drill.plated) {
            return Err(incomplete("has no file of plated holes"));
        }
        let records =
            ipc356::read(&text(nets)?).map_err(|error| ReadError::Nets(nets.to_owned(), error))?;
        Ok(Self {
            layers,
            drills,
            records,
        })
    }

    /// The islands of copper, joined by plated holes.
    #[must_use]
    pub fn joined(&self) -> Joined {
        Joined::new(&self.layers, &self.drills)
    }

    /// What the copper does otherwise than IPC-D-356 and, if given, the intent say.
    #[must_use]
    pub fn findings(&self, intent: Option<&crate::design::Design>) -> Vec<Finding> {
        let joined = self.joined();
        let mut findings = compare::with_records(&joined, &self.records);
        findings.extend(joined.lonely(&self.drills));
        if let Some(design) = intent {
            findings.extend(compare::with_intent(&joined, &self.records, design));
        }
        findings
    }
}
