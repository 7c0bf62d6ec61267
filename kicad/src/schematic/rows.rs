// SPDX-License-Identifier: Apache-2.0
//! Parts between two rails: side by side where one is ground, in a line where current flows from one supply to the other; and the flags
//! that tell KiCad which nets are fed from outside.

use std::rc::Rc;

use super::{
    Drawing, Placed, Plan, What,
    block::{Block, label},
    lane::{Lane, Rest, rail},
    text_steps,
};
use crate::{
    design::{OPEN, Part},
    symbols::{Point, Side},
};

/// Capacitors in a row.
const ROW: usize = 10;

/// Parts between two rails, side by side: capacitors above all.
pub(super) fn rows(rest: &mut Rest<'_, '_>, parts: &[&Part]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (upper, lower) in pairs(parts) {
        let of_pair: Vec<_> = parts
            .iter()
            .filter(|part| ends(part) == (upper, lower))
            .copied()
            .collect();
        if let Some(lower) = lower.filter(|net| *net != "GND") {
            for part in of_pair {
                rest.used.insert(part.reference);
                blocks.push(between(rest, part, upper, lower));
            }
            continue;
        }
        for row in of_pair.chunks(ROW) {
            for part in row {
                rest.used.insert(part.reference);
            }
            blocks.push(row_of(rest, row, upper, lower));
        }
    }
    blocks
}

/// A part that joins two supplies, the one that feeds to the left.
fn between(rest: &Rest<'_, '_>, part: &Part, one: &'static str, other: &'static str) -> Block {
    let plan = rest.plan;
    // A diode's cathode is its first pad; all else is drawn as the design says.
    let (from, to) = if part.reference.starts_with('D') {
        (other, one)
    } else {
        (one, other)
    };
    let mut lane = Lane::new(Side::Right);
    lane.start(plan, from);
    lane.through_from(plan, part, from);
    lane.rail(plan, to);
    Block {
        low: Point::new(-text_steps(from) / 2 - 1, -lane.up),
        high: Point::new(lane.length, lane.down),
        drawing: lane.drawing,
    }
}

/// The upper and the lower rail of a part; a test point has one.
fn ends(part: &Part) -> (&'static str, Option<&'static str>) {
    let mut nets: Vec<_> = part.pins.iter().map(|pin| pin.net).collect();
    nets.sort_by_key(|net| *net == "GND");
    (nets.first().copied().unwrap_or(OPEN), nets.get(1).copied())
}

fn pairs(parts: &[&Part]) -> Vec<(&'static str, Option<&'static str>)> {
    let mut pairs: Vec<_> = Vec::new();
    for part in parts {
        if !pairs.contains(&ends(part)) {
            pairs.push(ends(part));
        }
    }
    pairs
}

fn row_of(
    rest: &Rest<'_, '_>,
    row: &[&Part],
    upper: &'static str,
    lower: Option<&'static str>,
) -> Block {
    let plan = rest.plan;
    let mut drawing = Drawing::default();
    let (mut x, mut height, mut last) = (0, 0, 0);
    for (index, part) in row.iter().enumerate() {
        let (placed, far) = super::lane::standing(plan, part, upper, Point::new(x, 1));
        drawing.symbols.push(placed);
        drawing.wire(Point::new(x, 0), Point::new(x, 1));
        if index > 0 {
            drawing.wire(Point::new(last, 0), Point::new(x, 0));
        }
        if lower.is_some() {
            drawing.wire(far, far + Point::new(0, 1));
            if index > 0 {
                drawing.wire(Point::new(last, far.y + 1), Point::new(x, far.y + 1));
            }
        }
        height = far.y + 1;
        last = x;
        x += text_steps(part.reference).max(text_steps(&part.value)) + 5;
    }
    if upper != OPEN {
        let below = upper == "GND";
        if below {
            // Only test points are on ground alone.
            drawing.wire(Point::new(0, 0), Point::new(-4, 0));
            drawing.symbols.push(rail(plan, upper, Point::new(-4, 0)));
        } else {
            drawing.symbols.push(rail(plan, upper, Point::new(0, 0)));
        }
    }
    if let Some(lower) = lower {
        let at = Point::new(0, height);
        if lower == "GND" {
            drawing.symbols.push(rail(plan, lower, at));
        } else {
            drawing.wire(at, at + Point::new(0, 1));
            drawing
                .labels
                .push(label(plan, lower, at + Point::new(0, 1), Side::Down));
        }
    }
    Block {
        drawing,
        low: Point::new(-4, -5),
        high: Point::new(x, height + 5),
    }
}

/// Tells KiCad that these nets are fed from outside of what it can see.
pub(super) fn flag_row(plan: &Plan<'_>, nets: &[&'static str]) -> Block {
    let mut drawing = Drawing::default();
    let mut x = 0;
    for net in nets {
        let width = text_steps(net).max(8);
        let at = Point::new(x, 0);
        let flag_at = at + Point::new(0, if *net == "GND" { -1 } else { 1 });
        drawing.wire(at, flag_at);
        if plan.is_rail(net) {
            drawing.symbols.push(rail(plan, net, at));
        } else {
            drawing.labels.push(label(plan, net, at, Side::Up));
        }
        drawing.symbols.push(Placed {
            symbol: Rc::clone(&plan.flag),
            unit: 1,
            at: flag_at,
            turns: if *net == "GND" { 0 } else { 2 },
            what: What::Flag,
            value: String::new(),
            reference_at: (
                f64::from(x),
                f64::from(flag_at.y) + if *net == "GND" { -3.6 } else { 3.6 },
            ),
            value_at: (
                f64::from(x),
                f64::from(flag_at.y) + if *net == "GND" { -3.6 } else { 3.6 },
            ),
            from_left: false,
        });
        x += width + 2;
    }
    let tallest = nets.iter().map(|net| text_steps(net)).max().unwrap_or(0);
    Block {
        drawing,
        low: Point::new(-5, -tallest - 4),
        high: Point::new(x, 6),
    }
}
