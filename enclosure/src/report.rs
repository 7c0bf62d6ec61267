// SPDX-License-Identifier: Apache-2.0
//! What is computed, as the tables of `docs/hardware/enclosure.md`; `cargo run -p racklet-enclosure --bin case tables` writes them there,
//! and a test compares.

use std::fmt::Write as _;

use crate::latch::Beam;
use crate::layout::Layout;
use crate::solids::{Part, hosts};
use crate::{air, cables, filament};

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
///
/// # Panics
/// With a host that cables do not reach, which the checks refuse.
#[must_use]
pub fn computed(layout: &Layout) -> Vec<String> {
    vec![latch(layout), cables(layout)]
}

/// The tables of what was measured on the solids.
///
/// # Panics
/// Without all parts.
#[must_use]
pub fn measured(layout: &Layout, parts: &[Part]) -> Vec<String> {
    vec![air(layout, parts), weights(layout, parts)]
}

/// The places that air passes, with the host that leaves it the least, and what flows.
fn air(layout: &Layout, parts: &[Part]) -> String {
    let paths = hosts()
        .into_iter()
        .map(|host| air::path(layout, parts, &host).expect("all parts are there"));
    let path = paths.min_by(|a, b| a.flow.total_cmp(&b.flow));
    let (path, air) = (path.expect("there are hosts"), layout.rack.air);
    let mut rows: Vec<Row> = path
        .places
        .iter()
        .map(|place| row(place.name, format!("{:.0} mm2", place.free), String::new()))
        .collect();
    let (least, part) = (air.share * path.opening, air.share * 100.0);
    rows.push(row(
        "the narrowest of these",
        format!("{:.0} mm2", path.narrowest().free),
        format!("at least {least:.0} mm2, {part:.0} % of the fans' opening"),
    ));
    let free = f64::from(layout.rack.fan.count) * layout.rack.fan.flow;
    rows.push(row(
        "flow",
        format!("{:.1} m3/h at {:.1} Pa", path.flow, path.pressure),
        format!("{free:.1} m3/h in free air"),
    ));
    for (when, heat, is, may) in [
        (
            "ordinary use",
            air.heat.typical,
            path.rise.typical,
            air.rise.typical,
        ),
        (
            "worst case",
            air.heat.worst,
            path.rise.worst,
            air.rise.worst,
        ),
    ] {
        rows.push((
            format!("the air leaves warmer by, {when}, {heat} W"),
            format!("{is:.0} K"),
            format!("{may:.0} K"),
        ));
    }
    table(["air", "computed", "limit"], &rows)
}

fn weights(layout: &Layout, parts: &[Part]) -> String {
    let print = layout.rack.print;
    let rows: Vec<Row> = parts
        .iter()
        .map(|part| {
            let count = if part.count > 1 {
                format!("{} of one kind", part.count)
            } else {
                "1".to_owned()
            };
            let grams = filament::grams(&print, &part.printed);
            (part.name.clone(), count, format!("{grams:.0}"))
        })
        .chain([row(
            "**a rack**, with trays of the heaviest kind",
            String::new(),
            format!("**{:.0}**", filament::of_rack(layout, parts)),
        )])
        .collect();
    table(["part", "how many", "grams each"], &rows)
}

/// The cables of a rack, with the host whose jack is the furthest, to the first choice of switch.
fn cables(layout: &Layout) -> String {
    let hosts = hosts();
    let of = |host| {
        let cables = cables::all(layout, host, &layout.rack.switches[0]);
        cables.expect("cables reach their ports")
    };
    let of_hosts: Vec<_> = hosts.iter().map(of).collect();
    let rows: Vec<Row> = of_hosts[0]
        .iter()
        .enumerate()
        .map(|(index, cable)| {
            let longest = of_hosts
                .iter()
                .map(|cables| cables[index].shortest)
                .fold(0.0, f64::max);
            (
                format!("{}, to port {}", cable.from, cable.port),
                format!("{longest:.0} mm"),
                format!("{:.0} mm", cable.bought),
            )
        })
        .collect();
    table(["patch cable from", "shortest way", "bought"], &rows)
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
