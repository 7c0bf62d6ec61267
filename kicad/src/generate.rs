// SPDX-License-Identifier: Apache-2.0
//! Writes the boards' files: placement, routes and filled zones from the intent, without a hand on them.

use std::path::{Path, PathBuf};

use crate::boards::{self, Row};
use crate::cli::{Kicad, KicadError};
use crate::design::Design;
use crate::footprints::Library;
use crate::pcb::build::{Binding, BuildError, Draft};
use crate::pcb::fill::{self, FillError};
use crate::pcb::netlist::NetlistError;
use crate::pcb::rules::rules;
use crate::schematic::generate::GenerateError;
pub use crate::schematic::generate::{check_netlist, schematics};

/// Where Debian's package puts KiCad's footprints.
pub const STOCK_FOOTPRINTS: &str = "/usr/share/kicad/footprints";

/// How often a net may be tried before its last attempt may not disturb others.
const ROUNDS: usize = 60;

/// Why a board was not written.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// There is no row of that name.
    #[error("no board is called {0}")]
    Unknown(String),
    /// It cannot be completed; what there is was written for a look.
    #[error("lay out {board}")]
    Build {
        /// The board.
        board: &'static str,
        /// Why.
        source: BuildError,
    },
    /// Its zones.
    #[error("fill the zones of {board}")]
    Fill {
        /// The board.
        board: &'static str,
        /// Why.
        source: FillError,
    },
    /// Its schematic.
    #[error("write the schematic of {board}")]
    Schematic {
        /// The board.
        board: &'static str,
        /// Why.
        source: Box<GenerateError>,
    },
    /// The schematic's netlist.
    #[error("read the netlist of {board}'s schematic")]
    Netlist {
        /// The board.
        board: &'static str,
        /// Why.
        source: NetlistError,
    },
    /// KiCad's exporter.
    #[error("export the netlist of {board}'s schematic")]
    Export {
        /// The board.
        board: &'static str,
        /// Why.
        source: KicadError,
    },
    /// A file.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes the project called `name` into its folder `dir`: schematic, project, rules and, named as the schematic has it, the board.
/// The project's own footprints and symbols are beside the folder.
///
/// # Errors
/// [`BoardError`].
pub fn boards(name: &str, dir: &Path) -> Result<(), BoardError> {
    let row = boards::row(name).ok_or_else(|| BoardError::Unknown(name.into()))?;
    let design = (row.circuit)();
    schematics(&design, dir).map_err(|source| BoardError::Schematic {
        board: design.name,
        source: Box::new(source),
    })?;
    let binding = bind(&design, &dir.join(format!("{name}.kicad_sch")))?;
    board(row, &design, &binding, dir)
}

fn bind(design: &Design, schematic: &Path) -> Result<Binding, BoardError> {
    let source = Kicad::new()
        .and_then(|kicad| kicad.netlist(schematic))
        .map_err(|source| BoardError::Export {
            board: design.name,
            source,
        })?;
    Binding::read(&source).map_err(|source| BoardError::Netlist {
        board: design.name,
        source,
    })
}

/// Writes a design's board with given names beside its project.
fn board(row: &Row, design: &Design, binding: &Binding, dir: &Path) -> Result<(), BoardError> {
    let own = dir.parent().unwrap_or(dir);
    let mut library = Library::new(Path::new(STOCK_FOOTPRINTS), own);
    let mut draft = Draft::new(design, &mut library, binding);
    (row.lay_out)(&mut draft);
    let name = design.name;
    let path = dir.join(format!("{name}.kicad_dru"));
    std::fs::write(&path, rules(design)).map_err(|source| BoardError::Write { path, source })?;
    let (mut board, error) = match draft.finish(ROUNDS) {
        Ok(board) => (board, None),
        Err((error, board)) => (*board, Some(error)),
    };
    fill::fill(&mut board, dir).map_err(|source| BoardError::Fill {
        board: name,
        source,
    })?;
    match error {
        None => Ok(()),
        Some(source) => Err(BoardError::Build {
            board: name,
            source,
        }),
    }
}
