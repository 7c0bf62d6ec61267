// SPDX-License-Identifier: Apache-2.0
//! Trays and case: checked, made, told in the documents. Needs OpenSCAD. `cargo xtask hardware` starts it.
#![forbid(unsafe_code)]

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use racklet_enclosure::{layout, report, solids};

const USAGE: &str = "\
case COMMAND
  check             closed, thick enough, without collisions
  make TO [DOCS]    STL files and pictures into TO, after all checks; smaller pictures into DOCS
  tables            writes the computed tables into docs/hardware/enclosure.md";

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["check"] => Ok(racklet_enclosure::check()?),
        ["make", to] => Ok(racklet_enclosure::generate(to.as_ref(), None)?),
        ["make", to, documents] => Ok(racklet_enclosure::generate(
            to.as_ref(),
            Some(documents.as_ref()),
        )?),
        ["tables"] => tables(),
        _ => bail!("{USAGE}"),
    }
}

/// A table ends at the first empty line behind its head.
fn tables() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardware/enclosure.md");
    let mut text = fs::read_to_string(&path)?;
    let scratch = tempfile::tempdir()?;
    let layout = layout();
    let parts = solids::make(&layout, scratch.path())?;
    let mut tables = report::computed(&layout);
    tables.extend(report::measured(&layout, &parts));
    for table in tables {
        let head = table.lines().next().context("an empty table")?;
        let start = text
            .find(head)
            .with_context(|| format!("the document lacks {head}"))?;
        let rest = &text[start..];
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        text = format!("{}{table}{}", &text[..start], &rest[end..]);
    }
    fs::write(path, text)?;
    Ok(())
}
