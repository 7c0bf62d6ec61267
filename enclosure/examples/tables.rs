// SPDX-License-Identifier: Apache-2.0
//! Writes the tables that are computed into docs/hardware/enclosure.md. A table ends at the first empty line behind its head. Needs
//! OpenSCAD.
//!
//! `cargo run -p racklet-enclosure --example tables`

use std::error::Error;
use std::fs;
use std::path::Path;

use racklet_enclosure::{layout, report, solids};

fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardware/enclosure.md");
    let mut text = fs::read_to_string(&path)?;
    let scratch = tempfile::tempdir()?;
    let layout = layout();
    let parts = solids::make(&layout, scratch.path())?;
    let mut tables = report::computed(&layout);
    tables.extend(report::measured(&layout, &parts));
    for table in tables {
        let head = table.lines().next().ok_or("an empty table")?;
        let start = text
            .find(head)
            .ok_or_else(|| format!("the document lacks {head}"))?;
        let rest = &text[start..];
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        text = format!("{}{table}{}", &text[..start], &rest[end..]);
    }
    fs::write(path, text)?;
    Ok(())
}
