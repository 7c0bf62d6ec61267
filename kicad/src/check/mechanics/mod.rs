// SPDX-License-Identifier: Apache-2.0
//! Where outline, holes and connectors of a `.kicad_pcb` are, against the dimensions in `boards/`, which the trays and the case are
//! made from. It reads the file as it is on disk and knows nothing of the layout that made it.
//!
//! Seen from above (a tray) or from the trays (the backplane), x to the right, y upwards, both in the board's plane. In the rack a
//! tray lies with its card edge to the rear and its header to the right; so its y is the backplane's x, and its upper face looks
//! where the backplane's y does.

mod seen;

use racklet_boards::dimensions::{Body, Dimensions, Edge};

use super::Fault;
use crate::{design::Design, sexpr::Sexpr};
use seen::{Box2, Part, Seen, Spot, edge_cuts, points, whole};

/// How far anything may be from where it belongs, in millimetres: what KiCad's rounding and the files' two decimals leave.
const NEAR: f64 = 0.02;

/// How far a connector's body may stand out of the box that the case leaves for it: drawings of bodies are that coarse.
const OVER: f64 = 0.5;

/// The card edge's footprint: from the tab's tip to its origin (its description says so).
const TIP: f64 = 3.45;

/// From place 1 to place 18 of a slot's contacts.
const CONTACTS: f64 = 19.0;

/// The sockets' footprint.
const SOCKET: &str = "racklet:Slot_Socket";

/// Pitch of the Raspberry Pi's header.
const HEADER: f64 = 2.54;

/// What of the board is not where the dimensions have it.
#[must_use]
pub fn faults(board: &Sexpr, dimensions: &Dimensions) -> Vec<Fault> {
    let Some(seen) = Seen::of(board, dimensions) else {
        return vec![Fault::at("outline", "the board has none")];
    };
    let mut faults = outline(board, &seen, dimensions);
    let parts: Vec<Part<'_>> = board
        .all("footprint")
        .map(|it| Part::read(it, &seen))
        .collect();
    faults.extend(holes(&parts, dimensions));
    if let Some(edge) = dimensions.edge {
        faults.extend(card_edge(&parts, edge));
        faults.extend(header(&parts, dimensions));
    }
    faults.extend(sockets(&parts, dimensions));
    faults.extend(openings(&parts, dimensions));
    faults
}

/// Every board says on its silk what it is, under which licence, and that nobody has made one yet.
#[must_use]
pub fn silk(board: &Sexpr, design: &Design) -> Vec<Fault> {
    let revision = format!("rev {}", design.revision);
    let says = |words: &str| {
        board.all("gr_text").any(|it| {
            matches!(it.field("layer"), Some("F.SilkS" | "B.SilkS"))
                && it.argument(0).is_some_and(|it| it.contains(words))
        })
    };
    [
        design.title,
        &revision,
        "CERN-OHL-P-2.0",
        "never fabricated yet",
    ]
    .into_iter()
    .filter(|words| !says(words))
    .map(|words| Fault::at("silk", format!("nowhere says {words:?}")))
    .collect()
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= NEAR
}

fn together(one: Spot, other: Spot) -> bool {
    near(one[0], other[0]) && near(one[1], other[1])
}

fn show(spot: Spot) -> String {
    format!("{:.2}, {:.2}", spot[0], spot[1])
}

/// How far a point is from the edge of a plate with round corners; negative within.
fn from_plate(spot: Spot, size: Spot, corner: f64) -> f64 {
    let beyond = [0, 1].map(|axis| {
        let half = size[axis] / 2.0;
        (spot[axis] - half).abs() - (half - corner)
    });
    let outside = beyond[0].max(0.0).hypot(beyond[1].max(0.0));
    outside + beyond[0].max(beyond[1]).min(0.0) - corner
}

fn outline(board: &Sexpr, seen: &Seen, dimensions: &Dimensions) -> Vec<Fault> {
    let mut faults = Vec::new();
    let thickness = board
        .get("general")
        .and_then(|it| it.field("thickness"))
        .and_then(|it| it.parse::<f64>().ok())
        .unwrap_or_default();
    if !near(thickness, dimensions.thickness) {
        let meant = dimensions.thickness;
        let what = format!("{thickness} mm thick, {meant} mm are meant");
        faults.push(Fault::at("outline", what));
    }
    let all: Vec<Spot> = edge_cuts(board)
        .flat_map(points)
        .map(|it| seen.spot(it))
        .collect();
    let (Some(found), meant) = (Box2::around(all.iter().copied()), whole(dimensions)) else {
        return faults;
    };
    if !together(found.low, meant.low) || !together(found.high, meant.high) {
        let (found, meant) = (found.high, meant.high);
        let what = format!("reaches to {}, not to {}", show(found), show(meant));
        faults.push(Fault::at("outline", what));
    }
    let tab = dimensions.edge.map(|edge| Box2 {
        low: edge.low,
        high: edge.high,
    });
    // The tab's own contour, with key and chamfers, is within it.
    let on_tab = |spot: Spot| tab.is_some_and(|tab| tab.holds(spot, NEAR));
    for spot in &all {
        let off = from_plate(*spot, dimensions.size, dimensions.corner);
        if off.abs() > NEAR && !on_tab(*spot) {
            let what = format!("at {} it is {off:.2} mm off the plate's edge", show(*spot));
            faults.push(Fault::at("outline", what));
        }
    }
    if let Some(tab) = tab {
        let beyond = all.iter().copied().filter(|it| it[0] < -NEAR);
        let found = Box2::around(beyond);
        if !found.is_some_and(|it| near(it.low[1], tab.low[1]) && near(it.high[1], tab.high[1])) {
            let what = "the tab is not as wide as the card edge's or not where it belongs";
            faults.push(Fault::at("outline", what));
        }
    }
    faults
}

/// The parts whose footprint's name holds `what`.
fn called<'p, 'b>(parts: &'p [Part<'b>], what: &'static str) -> impl Iterator<Item = &'p Part<'b>> {
    parts
        .iter()
        .filter(move |part| part.footprint.contains(what))
}

fn holes(parts: &[Part<'_>], dimensions: &Dimensions) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut left: Vec<Spot> = dimensions.holes.clone();
    for part in called(parts, "MountingHole") {
        let drill = part
            .pads
            .first()
            .and_then(|pad| pad.drill)
            .unwrap_or_default();
        if !near(drill, dimensions.hole) {
            let meant = dimensions.hole;
            let what = format!("a hole of {drill} mm, {meant} mm are meant");
            faults.push(Fault::at(part.reference, what));
        }
        match left.iter().position(|it| together(*it, part.at)) {
            Some(index) => drop(left.remove(index)),
            None => {
                let what = format!("there is no hole at {} in the dimensions", show(part.at));
                faults.push(Fault::at(part.reference, what));
            }
        }
    }
    let missing = |it: Spot| Fault::at("holes", format!("there is none at {}", show(it)));
    faults.extend(left.into_iter().map(missing));
    faults
}

/// One card edge, in the middle of its tab: place 1 towards the header, the fingers `b` on the upper face.
fn card_edge(parts: &[Part<'_>], edge: Edge) -> Vec<Fault> {
    let found: Vec<_> = called(parts, "racklet:Slot_Edge").collect();
    let [part] = found[..] else {
        return vec![Fault::at(
            "card edge",
            format!("{} of them, not one", found.len()),
        )];
    };
    let mut faults = Vec::new();
    let middle = f64::midpoint(edge.low[1], edge.high[1]);
    let meant = [edge.low[0] + TIP, middle + CONTACTS / 2.0];
    if !together(part.at, meant) {
        let what = format!(
            "its place 1 is at {}, not at {}",
            show(part.at),
            show(meant)
        );
        faults.push(Fault::at(part.reference, what));
    }
    let last = part.pad("b18").map(|pad| pad.at);
    if !last.is_some_and(|it| near(it[1], middle - CONTACTS / 2.0)) {
        let what = "its place 18 is not at the end away from the header";
        faults.push(Fault::at(part.reference, what));
    }
    let on = |row: char, layer: &str| {
        let mut pads = part.pads.iter().filter(|pad| pad.number.starts_with(row));
        pads.all(|pad| pad.layers.contains(&layer))
    };
    if part.back || !on('b', "F.Cu") || !on('a', "B.Cu") {
        let what = "its fingers b are not on the upper face";
        faults.push(Fault::at(part.reference, what));
    }
    faults
}

/// The Raspberry Pi's header, below, centred between the upper two holes, pad 1 inside and over the SD card's end.
fn header(parts: &[Part<'_>], dimensions: &Dimensions) -> Vec<Fault> {
    let found: Vec<_> = called(parts, "_2x20_").collect();
    let [part] = found[..] else {
        return vec![Fault::at(
            "header",
            format!("{} of them, not one", found.len()),
        )];
    };
    let highest = dimensions.holes.iter().map(|it| it[1]).fold(0.0, f64::max);
    let upper = dimensions
        .holes
        .iter()
        .copied()
        .filter(|it| it[1] >= highest - 0.5);
    let Some(upper) = Box2::around(upper) else {
        return vec![Fault::at(
            "header",
            "there are no holes to centre it between",
        )];
    };
    let middle = upper.middle();
    let meant = [middle[0] - 9.5 * HEADER, middle[1] - HEADER / 2.0];
    let mut faults = Vec::new();
    let first = part.pad("1").map_or([0.0; 2], |pad| pad.at);
    let centre = part.between("1", "40").unwrap_or_default();
    if !together(first, meant) || !together(centre, middle) {
        let what = format!("its pad 1 is at {}, not at {}", show(first), show(meant));
        faults.push(Fault::at(part.reference, what));
    }
    if !part.back {
        let what = "it is not on the lower face, where the Raspberry Pi is";
        faults.push(Fault::at(part.reference, what));
    }
    faults
}

/// The sockets of the slots: contact 1 at the right and row `b` above, where a tray's finger 1 and its upper face arrive.
fn sockets(parts: &[Part<'_>], dimensions: &Dimensions) -> Vec<Fault> {
    let mut faults = Vec::new();
    let found = called(parts, SOCKET).count();
    if found != dimensions.sockets.len() {
        let meant = dimensions.sockets.len();
        faults.push(Fault::at(
            "sockets",
            format!("{found} of them, not {meant}"),
        ));
    }
    for (index, meant) in dimensions.sockets.iter().enumerate() {
        let reference = format!("J1{}", index + 1);
        let Some(part) = parts.iter().find(|part| part.reference == reference) else {
            faults.push(Fault::at(reference, "is not on the board"));
            continue;
        };
        let centre = part
            .between("a1", "b18")
            .zip(part.between("b1", "a18"))
            .map(|(one, other)| Box2::around([one, other]).map_or(one, |it| it.middle()))
            .unwrap_or_default();
        if !together(centre, *meant) {
            let what = format!("its middle is at {}, not at {}", show(centre), show(*meant));
            faults.push(Fault::at(part.reference, what));
        }
        let at = |number| part.pad(number).map_or([0.0; 2], |pad| pad.at);
        if !near(at("b1")[0], meant[0] + CONTACTS / 2.0) {
            let what = "its contact 1 is not at the right, where finger 1 arrives";
            faults.push(Fault::at(part.reference, what));
        }
        if part.back || at("b1")[1] <= at("a1")[1] {
            let what = "its row b is not above, where the trays' upper face arrives";
            faults.push(Fault::at(part.reference, what));
        }
    }
    faults
}

/// Each opening of the case has its connector behind it, and no connector is at that wall without one.
fn openings(parts: &[Part<'_>], dimensions: &Dimensions) -> Vec<Fault> {
    let right = dimensions.size[0];
    let openings: Vec<&Body> = dimensions
        .bodies
        .iter()
        .filter(|body| body.opening.is_some())
        .collect();
    if openings.is_empty() {
        return Vec::new();
    }
    let mut used = vec![false; openings.len()];
    let mut faults = Vec::new();
    // A plug goes in from outside: such a connector's body is at the edge or beyond.
    let at_wall = parts.iter().filter(|part| {
        part.reference.starts_with('J') && part.body.is_some_and(|it| it.high[0] >= right - 1.0)
    });
    for part in at_wall {
        let body = part.body.expect("it was looked at above");
        // Sideways alone: how far it stands out is the plug's affair.
        let behind = |opening: &Body| {
            let side = if part.back {
                opening.below
            } else {
                opening.height
            };
            body.low[1] >= opening.low[1] - OVER
                && body.high[1] <= opening.high[1] + OVER
                && body.low[0] >= opening.low[0] - OVER
                && side > 0.0
        };
        match openings.iter().position(|opening| behind(opening)) {
            Some(index) => used[index] = true,
            None => {
                let (low, high) = (show(body.low), show(body.high));
                let what = format!("from {low} to {high} at the wall, behind no opening");
                faults.push(Fault::at(part.reference, what));
            }
        }
    }
    for (opening, _) in openings.iter().zip(used).filter(|(_, used)| !used) {
        let name = &opening.name;
        faults.push(Fault::at(
            "case",
            format!("nothing is behind the opening {name:?}"),
        ));
    }
    faults
}
