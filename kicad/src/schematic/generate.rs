// SPDX-License-Identifier: Apache-2.0
//! A board's schematic as files in its project's folder, and the full check of what stands there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{SchematicError, draw};
use crate::{
    check::{Fault, netlist::netlist},
    cli::{Kicad, KicadError, Project},
    design::Design,
    project,
    sexpr::SexprError,
};

/// Why a schematic was not written, or is not right.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// It cannot be drawn.
    #[error("draw the schematic of {0}")]
    Draw(&'static str, #[source] SchematicError),
    /// A file.
    #[error("write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// KiCad could not be asked.
    #[error("check the schematic of {0} with KiCad")]
    Kicad(&'static str, #[source] KicadError),
    /// KiCad's rules find something.
    #[error("KiCad's rules find faults in the schematic of {board}: {}", findings.join("; "))]
    Rules {
        /// Which board.
        board: &'static str,
        /// What, and where.
        findings: Vec<String>,
    },
    /// What KiCad exported.
    #[error("read the netlist of {0}")]
    Netlist(&'static str, #[source] SexprError),
    /// The drawing is another circuit.
    #[error("the schematic of {board} is not the design: {}", said(faults))]
    Differs {
        /// Which board.
        board: &'static str,
        /// Where.
        faults: Vec<Fault>,
    },
}

fn said(faults: &[Fault]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

/// Writes the schematic, the project and its tables of libraries into `dir`. The project's own symbols are beside it.
///
/// # Errors
/// [`GenerateError::Draw`] and [`GenerateError::Write`].
pub fn schematics(design: &Design, dir: &Path) -> Result<(), GenerateError> {
    let own = dir.parent().unwrap_or(dir).join("racklet.kicad_sym");
    let mut files = draw(design, &own).map_err(|error| GenerateError::Draw(design.name, error))?;
    files.extend(project::files(design));
    let write = |path: &Path, error| GenerateError::Write {
        path: path.to_owned(),
        error,
    };
    fs::create_dir_all(dir).map_err(|error| write(dir, error))?;
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| write(&path, error))?;
    }
    Ok(())
}

/// Holds the schematic in `dir` against KiCad's rules at every severity, and its exported netlist against the design.
///
/// # Errors
/// [`GenerateError`].
pub fn check(design: &Design, dir: &Path) -> Result<(), GenerateError> {
    check_netlist(design, dir)?;
    let failed = |error| GenerateError::Kicad(design.name, error);
    let project = Project {
        folder: dir.to_owned(),
        name: design.name.to_owned(),
    };
    let findings = Kicad::new()
        .and_then(|kicad| kicad.erc(&project))
        .map_err(failed)?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(GenerateError::Rules {
        board: design.name,
        findings,
    })
}

/// Holds the netlist that KiCad exports from the schematic in `dir` against the design.
///
/// # Errors
/// [`GenerateError`].
pub fn check_netlist(design: &Design, dir: &Path) -> Result<(), GenerateError> {
    let name = design.name;
    let exported = Kicad::new()
        .and_then(|kicad| kicad.netlist(&dir.join(format!("{name}.kicad_sch"))))
        .map_err(|error| GenerateError::Kicad(name, error))?;
    let faults = netlist(design, &exported).map_err(|error| GenerateError::Netlist(name, error))?;
    if faults.is_empty() {
        return Ok(());
    }
    Err(GenerateError::Differs {
        board: name,
        faults,
    })
}
