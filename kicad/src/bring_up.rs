// SPDX-License-Identifier: Apache-2.0
//! The test points of a board and what a meter must show on them, as a table for docs/hardware/bring-up.md.

use std::fmt::Write as _;

use crate::design::Design;

/// One row for each test point, in the order of the schematic. Its head names the board.
#[must_use]
pub fn table(design: &Design) -> String {
    let mut out = format!("| {} | net | expected |\n|---|---|---|\n", design.title);
    let points = design
        .parts
        .iter()
        .filter(|part| part.symbol == "Connector:TestPoint");
    for part in points {
        let net = part.pins.first().map_or("", |pin| pin.net);
        let _ = writeln!(out, "| {} | `{net}` | {} |", part.reference, part.note);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::{self, Board};

    #[test]
    fn the_document_has_the_test_points_of_the_boards() {
        let page = include_str!("../../docs/hardware/bring-up.md");
        for Board { design, .. } in boards::all() {
            let table = table(&design);
            assert!(table.lines().count() > 7, "{table}");
            assert!(
                page.contains(&table),
                "run `cargo run -p racklet-kicad --bin hardware tables`:\n{table}"
            );
        }
    }
}
