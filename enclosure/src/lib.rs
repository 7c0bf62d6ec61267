// SPDX-License-Identifier: Apache-2.0
//! Trays and case of the rack. Shapes are OpenSCAD (`scad/`), numbers are `boards/`, and what comes out is measured: the
//! checks read the solids' triangles, not the sources.
#![forbid(unsafe_code)]

use std::path::Path;

use racklet_boards::dimensions;

pub mod air;
pub mod cables;
pub mod check;
pub mod filament;
pub mod latch;
pub mod layout;
pub mod mesh;
pub mod models;
pub mod picture;
pub mod report;
pub mod solids;
pub mod sweep;
pub mod vector;
pub mod views;

use layout::Layout;
use solids::{Failed, Part};

/// The rack as it is in `boards/`.
///
/// # Panics
/// Without the two boards of the rack, which are part of this program.
#[must_use]
pub fn layout() -> Layout {
    let board = |name| dimensions::find(name).expect("the rack's own boards have dimensions");
    Layout::new(dimensions::rack(), board("rp2350-bmc"), board("rp2350-rmc"))
}

/// Why there is no enclosure that fits.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The solids could not be made.
    #[error("make the solids")]
    Make(#[from] Failed),
    /// There is no folder to make them in.
    #[error("make a temporary folder")]
    Scratch(#[source] std::io::Error),
    /// They were measured, and these are wrong.
    #[error("the enclosure does not fit:\n{}", findings.join("\n"))]
    Found {
        /// One line each.
        findings: Vec<String>,
    },
}

/// Writes STL files and pictures into `out`, after all checks; and smaller pictures into the folder of documents, if one is named.
///
/// # Errors
/// [`Unfit`].
pub fn generate(out: &Path, documents: Option<&Path>) -> Result<(), Unfit> {
    let parts = measured(out)?;
    views::render(&layout(), &parts, out, views::For::Release)?;
    if let Some(documents) = documents {
        views::render(&layout(), &parts, documents, views::For::Documents)?;
    }
    Ok(())
}

/// Makes the solids in a folder that does not stay, and checks them.
///
/// # Errors
/// [`Unfit`].
pub fn check() -> Result<(), Unfit> {
    let scratch = tempfile::tempdir().map_err(Unfit::Scratch)?;
    measured(scratch.path()).map(drop)
}

fn measured(out: &Path) -> Result<Vec<Part>, Unfit> {
    let layout = layout();
    let parts = solids::make(&layout, out)?;
    let findings = check::all(&layout, &parts);
    if findings.is_empty() {
        Ok(parts)
    } else {
        Err(Unfit::Found { findings })
    }
}
