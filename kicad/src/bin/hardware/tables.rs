// SPDX-License-Identifier: Apache-2.0
//! Writes the tables that are computed from the designs into docs/hardware: what a rack costs, its power budget, test points. A
//! table ends at the first empty line behind its head.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use racklet_kicad::{
    boards,
    bom::{Parts, total},
    bring_up,
    check::power,
    circuits::{backplane, bmc},
};

use crate::folder;

pub(crate) fn write() -> Result<()> {
    let docs = folder().join("../docs/hardware");
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
fn replace(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let head = table.lines().next().context("an empty table")?;
    let start = text
        .find(head)
        .with_context(|| format!("{} lacks the table's head {head}", path.display()))?;
    let rest = &text[start..];
    let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
    let text = format!("{}{table}{}", &text[..start], &rest[end..]);
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
