// SPDX-License-Identifier: Apache-2.0
//! What is computed, as the tables of `docs/hardware/enclosure.md`; `cargo run -p racklet-enclosure --example tables` writes them there,
//! and a test compares.

use std::fmt::Write as _;

use crate::latch::Beam;
use crate::layout::Layout;

/// A row: what, how much it is, what it may be.
pub type Row = (String, String, String);

fn table(head: [&str; 3], rows: &[Row]) -> String {
    let mut out = format!("| {} |\n|---|---:|---:|\n", head.join(" | "));
    for (what, is, may) in rows {
        writeln!(out, "| {what} | {is} | {may} |").expect("strings grow");
    }
    out
}

fn row(what: &str, is: String, may: String) -> Row {
    (what.to_owned(), is, may)
}

/// The tables that need no solids.
#[must_use]
pub fn computed(layout: &Layout) -> Vec<String> {
    vec![latch(layout)]
}

/// The latch as a beam.
fn latch(layout: &Layout) -> String {
    let (beam, latch) = (Beam::of(layout), layout.rack.latch);
    let percent = |strain: f64| format!("{:.2} %", strain * 100.0);
    table(
        ["latch", "computed", "limit"],
        &[
            row(
                "strain on the way in",
                percent(beam.strain_on_the_way()),
                percent(latch.strain),
            ),
            row(
                "strain, pressed to the stop",
                percent(beam.strain_at_stop()),
                percent(latch.strain),
            ),
            row(
                "a finger's force",
                format!("{:.1} N", beam.finger()),
                format!("{:.0} N", latch.finger),
            ),
            row(
                "catch drawn in, at the stop",
                format!("{:.2} mm", beam.drawn_in()),
                format!("at least {:.1} mm", latch.catch),
            ),
            row(
                &format!("stress while {:.0} N pull", latch.hold),
                format!("{:.0} MPa", beam.stress_held()),
                format!("{:.0} MPa", latch.strength),
            ),
            row(
                "pressure on the catch's face, then",
                format!("{:.0} MPa", beam.pressure()),
                format!("{:.0} MPa", latch.strength),
            ),
            row(
                "buckles at",
                format!("{:.0} N", beam.buckles_at()),
                format!("at least {:.0} N", 3.0 * latch.hold),
            ),
        ],
    )
}
