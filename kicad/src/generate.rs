// SPDX-License-Identifier: Apache-2.0
//! Writes the boards' files: placement, routes and filled zones from the intent, without a hand on them.

use std::path::{Path, PathBuf};

use crate::circuits;
use crate::design::Design;
use crate::footprints::Library;
use crate::layout;
use crate::pcb::build::{Binding, BuildError, Draft};
use crate::pcb::fill::{self, FillError};
use crate::pcb::netlist::NetlistError;
use crate::pcb::rules::rules;
use crate::project;
pub use crate::schematic::generate::{check_netlist, schematics};
use crate::tools::{Kicad, KicadError};

/// Where Debian's package puts KiCad's footprints.
pub const STOCK_FOOTPRINTS: &str = "/usr/share/kicad/footprints";

/// How often a net may be tried before its last attempt may not disturb others.
const ROUNDS: usize = 40;

/// Why a board was not written.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// There is no layout of that name.
    #[error("no layout for a board called {0}")]
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

/// Writes the board called `name` into its project's folder `dir`: `.kicad_pcb`, `.kicad_dru`, `.kicad_pro` and `fp-lib-table`. If its
/// schematic is there, nets and symbols are called as in it. The project's own footprints are beside the folder.
///
/// # Errors
/// [`BoardError`].
pub fn boards(name: &str, dir: &Path) -> Result<(), BoardError> {
    let design = match name {
        "bmc" => circuits::bmc::design(),
        other => return Err(BoardError::Unknown(other.into())),
    };
    let schematic = dir.join(format!("{name}.kicad_sch"));
    let binding = if schematic.exists() {
        bind(&design, &schematic)?
    } else {
        Binding::default()
    };
    board(&design, &binding, dir)
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

/// Writes a design's board with given names.
///
/// # Errors
/// [`BoardError`].
pub fn board(design: &Design, binding: &Binding, dir: &Path) -> Result<(), BoardError> {
    let own = dir.parent().unwrap_or(dir);
    let mut library = Library::new(Path::new(STOCK_FOOTPRINTS), own);
    let mut draft = Draft::new(design, &mut library, binding);
    match design.name {
        "bmc" => layout::bmc::lay_out(&mut draft),
        other => return Err(BoardError::Unknown(other.into())),
    }
    let name = design.name;
    let mut files = project::files(design);
    files.push((format!("{name}.kicad_dru"), rules(design)));
    for (file, text) in files {
        let path = dir.join(file);
        std::fs::write(&path, text).map_err(|source| BoardError::Write { path, source })?;
    }
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
