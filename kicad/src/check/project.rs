// SPDX-License-Identifier: Apache-2.0
//! The chain of checks that a committed project passes, link by link: `cargo xtask hardware --check` runs all of them, and each is
//! shown in `tests/mutations` to refuse what it is there for.
//!
//! ```text
//! circuit ─▶ setup ─▶ symbols ─▶ drawing ─▶ ERC ─▶ DRC ─▶ mechanics ─▶ layout ─▶ copper
//!          (project's rules)  (netlist = intent)  (with parity)  (boards/)  (datasheets)  (from Gerbers)
//! ```

use std::{fs, path::PathBuf};

use super::{Fault, embedded, layout, mechanics, setup};
use crate::{
    boards::Board,
    cli::{Kicad, KicadError, Project},
    outputs::{self, OutputError},
    sexpr::{Sexpr, SexprError},
};

/// One check of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The project's own files, from which KiCad takes its rules.
    Setup,
    /// The symbols within the schematics, against their libraries.
    Symbols,
    /// The netlist that KiCad exports, against the intent.
    Drawing,
    /// KiCad's rules of schematics.
    Erc,
    /// KiCad's rules of boards, parity with the schematic included.
    Drc,
    /// Outline, holes and connectors, against `boards/`, and what the silk says.
    Mechanics,
    /// What datasheets ask of the layout.
    Layout,
    /// The copper, read back from Gerbers and holes.
    Copper,
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// KiCad.
    #[error("ask KiCad")]
    Kicad(#[from] KicadError),
    /// A file of the project.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// It is not one.
    #[error("{}", .0.display())]
    Syntax(PathBuf, #[source] SexprError),
    /// Symbols.
    #[error("compare the symbols")]
    Symbols(#[from] embedded::EmbeddedError),
    /// The board's copper.
    #[error("read the board's copper")]
    Layout(#[from] layout::copper::ReadError),
    /// The Gerbers' copper.
    #[error("read the copper back")]
    Copper(#[from] OutputError),
}

impl Link {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Setup,
        Self::Symbols,
        Self::Drawing,
        Self::Erc,
        Self::Drc,
        Self::Mechanics,
        Self::Layout,
        Self::Copper,
    ];

    /// What it looks at.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Setup => "the project's rules",
            Self::Symbols => "symbols against their libraries",
            Self::Drawing => "the drawn circuit against the meant one",
            Self::Erc => "KiCad's rules of schematics",
            Self::Drc => "KiCad's rules of boards",
            Self::Mechanics => "outline, holes, connectors and label against boards/",
            Self::Layout => "the datasheets' rules of layout",
            Self::Copper => "copper, read back from Gerbers and holes",
        }
    }

    /// Whether it looks at the board.
    #[must_use]
    pub const fn is_of_the_board(self) -> bool {
        matches!(
            self,
            Self::Drc | Self::Mechanics | Self::Layout | Self::Copper
        )
    }

    /// What it refuses in `project`, which KiCad may leave files in; one line each.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn findings(
        self,
        kicad: &Kicad,
        project: &Project,
        Board { row, design }: &Board,
    ) -> Result<Vec<String>, LinkError> {
        let said = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect();
        Ok(match self {
            Self::Setup => said(setup::faults(project, design)),
            Self::Symbols => said(embedded::faults(project)?),
            Self::Drawing => {
                let path = project.file("kicad_sch");
                let exported = kicad.netlist(&path)?;
                let faults = super::netlist::netlist(design, &exported);
                said(faults.map_err(|error| LinkError::Syntax(path, error))?)
            }
            Self::Erc => kicad.erc(project)?,
            Self::Drc => kicad.drc(project)?,
            Self::Mechanics => {
                let (path, text) = board(project)?;
                let file = Sexpr::parse(&text).map_err(|error| LinkError::Syntax(path, error))?;
                let mut faults = mechanics::silk(&file, design);
                faults.extend(mechanics::faults(&file, &row.dimensions()));
                said(faults)
            }
            Self::Layout => {
                let copper = layout::copper::Copper::read(&board(project)?.1)?;
                said((row.rules)(&copper, design))
            }
            Self::Copper => outputs::copper(kicad, project, Some(design))?
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }
}

fn board(project: &Project) -> Result<(PathBuf, String), LinkError> {
    let path = project.file("kicad_pcb");
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(LinkError::File(path, error)),
    }
}
