// SPDX-License-Identifier: Apache-2.0
//! What the drawn schematic calls its nets and where its symbols are, from the netlist that KiCad exports
//! (`kicad-cli sch export netlist --format kicadsexpr`): the board must use the same, or KiCad finds no parity.

use super::Symbol;
use super::build::Binding;
use crate::sexpr::{Sexpr, SexprError};

/// Why a netlist is of no use.
#[derive(Debug, thiserror::Error)]
pub enum NetlistError {
    /// It is no expression.
    #[error("the exported netlist")]
    Syntax(#[from] SexprError),
    /// A part of it is missing.
    #[error("the exported netlist has no `{0}`")]
    Missing(&'static str),
}

impl Binding {
    /// Reads an exported netlist.
    ///
    /// # Errors
    /// [`NetlistError`] for something else.
    pub fn read(source: &str) -> Result<Self, NetlistError> {
        let file = Sexpr::parse(source)?;
        let part = |name| file.get(name).ok_or(NetlistError::Missing(name));
        let mut binding = Self::default();
        for component in part("components")?.all("comp") {
            let missing = |name| move || NetlistError::Missing(name);
            let reference = component.field("ref").ok_or_else(missing("ref"))?;
            let own = component.field("tstamps").ok_or_else(missing("tstamps"))?;
            let sheet = component
                .get("sheetpath")
                .ok_or_else(missing("sheetpath"))?;
            let names = sheet.field("names").ok_or_else(missing("names"))?;
            let above = sheet.field("tstamps").ok_or_else(missing("tstamps"))?;
            let file = component
                .all("property")
                .find(|it| it.field("name") == Some("Sheetfile"))
                .and_then(|it| it.field("value"))
                .unwrap_or_default();
            binding.symbols.insert(
                reference.into(),
                Symbol {
                    path: format!("{above}{own}"),
                    sheet_name: names.into(),
                    sheet_file: file.into(),
                },
            );
        }
        for net in part("nets")?.all("net") {
            let name = net.field("name").ok_or(NetlistError::Missing("name"))?;
            for node in net.all("node") {
                if let (Some(part), Some(pad)) = (node.field("ref"), node.field("pin")) {
                    let pad = (part.to_owned(), pad.to_owned());
                    binding.nets.insert(pad, name.to_owned());
                }
            }
        }
        Ok(binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETLIST: &str = r#"(export (version "E")
        (components
            (comp (ref "R1") (value "1k")
                (property (name "Sheetname") (value "supply"))
                (property (name "Sheetfile") (value "supply.kicad_sch"))
                (sheetpath (names "/supply/") (tstamps "/11/"))
                (tstamps "22")))
        (nets
            (net (code "1") (name "/supply/FB")
                (node (ref "R1") (pin "1")))))"#;

    #[test]
    fn nets_and_symbols_are_found() {
        let binding = Binding::read(NETLIST).unwrap();
        let pad = ("R1".to_owned(), "1".to_owned());
        assert_eq!(binding.nets[&pad], "/supply/FB");
        assert_eq!(binding.symbols["R1"].path, "/11/22");
        assert_eq!(binding.symbols["R1"].sheet_file, "supply.kicad_sch");
    }

    #[test]
    fn something_else_is_refused() {
        assert!(Binding::read("(export)").is_err());
        assert!(Binding::read("").is_err());
    }
}
