// SPDX-License-Identifier: Apache-2.0
//! Writes the tables that are computed from the designs into docs/hardware: what a rack costs, its power budget, test points. A
//! table ends at the first empty line behind its head.
//!
//! `cargo run -p racklet-kicad --example tables`

use racklet_kicad::boards;
use racklet_kicad::bom::{Parts, total};
use racklet_kicad::bring_up;
use racklet_kicad::check::power;
use racklet_kicad::circuits::{backplane, bmc};
use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardware");
    let (bmc, backplane) = (bmc::design(), backplane::design());
    let costs = total::markdown(&Parts::ours()?, &boards::all());
    replace(&docs.join("bom.md"), &costs)?;
    let budget = power::budget(&bmc, &backplane);
    replace(&docs.join("power.md"), &budget.loads())?;
    replace(&docs.join("power.md"), &budget.parts())?;
    for design in [&bmc, &backplane] {
        replace(&docs.join("bring-up.md"), &bring_up::table(design))?;
    }
    Ok(())
}

/// Puts a table in place of the one with the same head.
fn replace(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let head = table.lines().next().ok_or("an empty table")?;
    let start = text
        .find(head)
        .ok_or("the document lacks the table's head")?;
    let rest = &text[start..];
    let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
    fs::write(path, format!("{}{table}{}", &text[..start], &rest[end..]))?;
    Ok(())
}
