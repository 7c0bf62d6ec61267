// SPDX-License-Identifier: Apache-2.0
//! The symbols that schematics carry within them, against their libraries: KiCad draws from its copy and does not notice that a pin
//! of it has another number.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::PathBuf};

use super::Fault;
use crate::{
    cli::Project,
    sexpr::{Sexpr, SexprError},
    symbols::{Symbol, SymbolError, Symbols},
};

/// Why symbols could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A sheet cannot be read.
    #[error("{}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is no schematic.
    #[error("{}", .0.display())]
    Syntax(PathBuf, #[source] SexprError),
    /// A library.
    #[error("a library's symbol")]
    Library(#[from] SymbolError),
}

/// The symbols of a project's sheets that are not their libraries'.
///
/// # Errors
/// [`EmbeddedError`].
pub fn faults(project: &Project) -> Result<Vec<Fault>, EmbeddedError> {
    let read = |error| EmbeddedError::Read(project.folder.clone(), error);
    let mut sheets = Vec::new();
    for entry in fs::read_dir(&project.folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension() == Some(OsStr::new("kicad_sch")) {
            sheets.push(path);
        }
    }
    sheets.sort();
    let shared = project.folder.parent().unwrap_or(&project.folder);
    let mut libraries = Symbols::new(&shared.join("racklet.kicad_sym"));
    let mut faults = Vec::new();
    for path in sheets {
        let text =
            fs::read_to_string(&path).map_err(|error| EmbeddedError::Read(path.clone(), error))?;
        let file =
            Sexpr::parse(&text).map_err(|error| EmbeddedError::Syntax(path.clone(), error))?;
        let sheet = path.file_name().unwrap_or_default().to_string_lossy();
        for embedded in file
            .get("lib_symbols")
            .iter()
            .flat_map(|it| it.all("symbol"))
        {
            let id = embedded.argument(0).unwrap_or_default();
            let library = libraries.get(id)?;
            if library.definition != *embedded {
                let what = difference(embedded, &library);
                faults.push(Fault::at(format!("{sheet}, symbol {id}"), what));
            }
        }
    }
    Ok(faults)
}

/// The pins by number, as what is said of them.
fn pins(symbol: &Sexpr) -> BTreeMap<&str, &Sexpr> {
    symbol
        .all("symbol")
        .flat_map(|unit| unit.all("pin"))
        .map(|pin| (pin.field("number").unwrap_or_default(), pin))
        .collect()
}

fn difference(embedded: &Sexpr, library: &Symbol) -> String {
    let (is, should) = (pins(embedded), pins(&library.definition));
    let other = should
        .iter()
        .find(|(number, pin)| is.get(*number) != Some(pin))
        .or_else(|| is.iter().find(|(number, _)| !should.contains_key(*number)));
    match other {
        Some((number, _)) => format!("pin {number} is not the library's"),
        None => "its drawing or its properties are not the library's".into(),
    }
}
