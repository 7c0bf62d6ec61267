// SPDX-License-Identifier: Apache-2.0
//! Blocks: a part with its surroundings, a row of decoupling capacitors, a line between two labels.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    Drawing, Label, Placed, Plan, What,
    lane::{Lane, Pad, Rest, is_passive, rail},
    rows::{flag_row, rows},
    text_steps, text_width,
};
use crate::{
    design::{OPEN, Part},
    symbols::{Point, Side, Symbol, SymbolPin},
};

/// A drawing with the room it needs.
pub(super) struct Block {
    pub(super) drawing: Drawing,
    pub(super) low: Point,
    pub(super) high: Point,
}

/// A part with its surroundings: one block for each of its units.
pub(super) fn of_part(rest: &mut Rest<'_, '_>, part: &Part, turns: u8) -> Vec<Block> {
    let plan = rest.plan;
    rest.used.insert(part.reference);
    if !is_passive(plan, part) {
        return around(rest, part, turns);
    }
    rest.used.remove(part.reference);
    let is_rail = |pin: &&crate::design::Pin| plan.is_rail(pin.net);
    match part.pins.iter().find(|pin| !is_rail(pin)) {
        Some(pin) => vec![line(rest, part, pin.net)],
        None => rows(rest, &[part]),
    }
}

/// Parts that hang on nothing: lines, then rows between rails.
pub(super) fn of_rest(rest: &mut Rest<'_, '_>, parts: &[&Part]) -> Vec<Block> {
    let plan = rest.plan;
    let mut blocks = Vec::new();
    for part in parts {
        if rest.used.contains(part.reference) {
            continue;
        }
        if let Some(pin) = part.pins.iter().find(|pin| !plan.is_rail(pin.net)) {
            blocks.push(line(rest, part, pin.net));
        }
    }
    let left: Vec<&Part> = parts
        .iter()
        .filter(|part| !rest.used.contains(part.reference))
        .copied()
        .collect();
    blocks.extend(rows(rest, &left));
    blocks
}

/// What tells KiCad that nets are fed from outside, on the sheet where that is said.
pub(super) fn flags(plan: &Plan<'_>, sheet: &str) -> Option<Block> {
    let flags = plan.flags.iter().filter(|(_, on)| **on == sheet);
    let flags: Vec<_> = flags.map(|(net, _)| *net).collect();
    (!flags.is_empty()).then(|| flag_row(plan, &flags))
}

/// Pins of one side that are drawn together: neighbours on the same net.
struct Group {
    net: &'static str,
    pins: Vec<(Point, &'static str)>,
}

fn around(rest: &mut Rest<'_, '_>, part: &Part, turns: u8) -> Vec<Block> {
    let symbol = Rc::clone(&rest.plan.symbols[part.reference]);
    (1..=symbol.units)
        .map(|unit| one_unit(rest, part, &symbol, (unit, turns)))
        .collect()
}

fn one_unit(
    rest: &mut Rest<'_, '_>,
    part: &Part,
    original: &Rc<Symbol>,
    (unit, turns): (u32, u8),
) -> Block {
    let plan = rest.plan;
    let symbol = &original.turned(turns);
    let mut drawing = Drawing::default();
    let (mut low, mut high) = (symbol.low, symbol.high);
    let mut groups = |side| {
        let groups = groups(plan, part, symbol, unit, side);
        let open: Vec<_> = groups.iter().filter(|group| group.net == OPEN).collect();
        for group in open {
            drawing.open.extend(group.pins.iter().map(|(at, _)| *at));
        }
        let groups: Vec<_> = groups
            .into_iter()
            .filter(|group| group.net != OPEN)
            .collect();
        groups
    };
    let (left, right) = (groups(Side::Left), groups(Side::Right));
    let (up, down) = (groups(Side::Up), groups(Side::Down));
    for (side, groups) in [(Side::Left, left), (Side::Right, right)] {
        let (side_low, side_high) = beside(rest, part.reference, &mut drawing, side, groups);
        low = Point::new(low.x.min(side_low.x), low.y.min(side_low.y));
        high = Point::new(high.x.max(side_high.x), high.y.max(side_high.y));
    }
    for (side, groups) in [(Side::Up, &up), (Side::Down, &down)] {
        let reach = upright(plan, part.reference, &mut drawing, side, groups);
        if side == Side::Up {
            low.y = low.y.min(symbol.low.y - reach);
        } else {
            high.y = high.y.max(symbol.high.y + reach);
        }
    }
    name_part(&mut drawing, part, original, (unit, turns));
    Block { drawing, low, high }
}

/// Places a part in the middle of its block, its texts where they cover least: above it, further up, below.
fn name_part(drawing: &mut Drawing, part: &Part, symbol: &Rc<Symbol>, (unit, turns): (u32, u8)) {
    let view = symbol.turned(turns);
    let width = text_width(part.reference).max(text_width(&part.value));
    let (left, right) = (f64::from(view.low.x), f64::from(view.high.x));
    let (top, bottom) = (f64::from(view.low.y), f64::from(view.high.y));
    let (left, middle, right) = (left + width / 2.0, 0.0, right - width / 2.0);
    let mut candidates = Vec::new();
    for up in [1.3, 3.3, 5.3] {
        for x in [left, middle, right, left - width / 2.0 - 1.5] {
            candidates.push((x, top - up - 1.7));
        }
    }
    for down in [1.3, 3.3, 5.3, 7.3] {
        for x in [left, middle, right] {
            candidates.push((x, bottom + down));
        }
    }
    let placed = |(x, y): (f64, f64)| Placed {
        symbol: Rc::clone(symbol),
        unit,
        at: Point::new(0, 0),
        turns,
        what: What::Part(part.reference),
        value: part.value.clone(),
        reference_at: (x, y),
        value_at: (x, y + 1.7),
        from_left: false,
    };
    let taken = super::ink::areas(drawing);
    let covered = |at: (f64, f64)| {
        let texts = super::ink::fields(&placed(at), &part.value);
        taken
            .iter()
            .filter(|area| texts.iter().any(|text| text.covers(area)))
            .count()
    };
    // The first of the best.
    let best = candidates
        .iter()
        .copied()
        .min_by_key(|at| covered(*at))
        .unwrap_or((0.0, 0.0));
    drawing.symbols.push(placed(best));
}

fn groups(plan: &Plan<'_>, part: &Part, symbol: &Symbol, unit: u32, side: Side) -> Vec<Group> {
    let mut pins: Vec<&SymbolPin> = symbol
        .pins
        .iter()
        .filter(|pin| pin.side == side && (pin.unit == unit || pin.unit == 0))
        .collect();
    pins.sort_by_key(|pin| match side {
        Side::Left | Side::Right => (pin.at.y, pin.at.x),
        Side::Up | Side::Down => (pin.at.x, pin.at.y),
    });
    let mut groups: Vec<Group> = Vec::new();
    for pin in pins {
        let net = plan.net(part.reference, &pin.number);
        let number = part
            .pins
            .iter()
            .find(|own| own.number == pin.number)
            .map_or("", |own| own.number);
        match groups.last_mut() {
            Some(last) if last.net == net && net != OPEN => last.pins.push((pin.at, number)),
            _ => groups.push(Group {
                net,
                pins: vec![(pin.at, number)],
            }),
        }
    }
    groups
}

/// Draws what hangs on the pins of the left or right side. Returns the corners.
fn beside(
    rest: &mut Rest<'_, '_>,
    reference: &'static str,
    drawing: &mut Drawing,
    side: Side,
    groups: Vec<Group>,
) -> (Point, Point) {
    let direction = side.step().x;
    // The net with the most current has the first choice of what lies in it.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|one, other| {
        let current = |index: &usize| rest.plan.design.net(groups[*index].net).current;
        current(other).total_cmp(&current(one))
    });
    let mut drawn: Vec<Option<Lane>> = groups.iter().map(|_| None).collect();
    for index in order {
        let group = &groups[index];
        let pads: Vec<Pad> = group
            .pins
            .iter()
            .map(|(_, number)| (reference, *number))
            .collect();
        drawn[index] = Some(rest.lane(group.net, &pads, side));
    }
    let mut lanes: Vec<(Group, Lane)> = groups
        .into_iter()
        .zip(drawn.into_iter().flatten())
        .collect();
    let wanted: Vec<i32> = lanes.iter().map(|(group, _)| group.pins[0].0.y).collect();
    let gaps: Vec<i32> = lanes
        .windows(2)
        .map(|pair| {
            let (down, up) = (pair[0].1.down, pair[1].1.up);
            // A name stands on its line: below what hangs down it needs a step more.
            down + up + i32::from(down > 1)
        })
        .collect();
    // Pins that are joined take the room of all of them.
    let gaps: Vec<i32> = gaps
        .iter()
        .zip(&lanes)
        .map(|(gap, (group, _))| {
            let last = group.pins.last().map_or(0, |(at, _)| at.y);
            (*gap).max(last - group.pins[0].0.y + 1)
        })
        .collect();
    let ys = spread(&wanted, &gaps);
    let edge = lanes
        .iter()
        .flat_map(|(group, _)| &group.pins)
        .map(|(at, _)| at.x * direction)
        .max()
        .unwrap_or(0);
    // Wires that go up turn first where they begin highest, those that go down where they begin lowest: so none cross.
    let bends = lanes.len();
    let turn = |index: usize| {
        let rank = match ys[index].cmp(&wanted[index]) {
            std::cmp::Ordering::Less => (0..index).filter(|at| ys[*at] < wanted[*at]).count(),
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => (index + 1..bends)
                .filter(|at| ys[*at] > wanted[*at])
                .count(),
        };
        i32::try_from(rank).ok()
    };
    let deepest = (0..bends).filter_map(turn).max().map_or(0, |rank| rank + 1);
    let joined = i32::from(lanes.iter().any(|(group, _)| group.pins.len() > 1));
    let start = edge + 1 + joined + deepest;
    let (mut low, mut high) = (Point::new(0, 0), Point::new(0, 0));
    for (index, (group, lane)) in lanes.drain(..).enumerate() {
        let first = group.pins[0].0;
        let x = |distance: i32| distance * direction;
        if group.pins.len() > 1 {
            for (at, _) in &group.pins {
                drawing.wire(*at, Point::new(x(edge + 1), at.y));
            }
            let column: BTreeSet<i32> = group.pins.iter().map(|(at, _)| at.y).collect();
            let column: Vec<i32> = column.into_iter().collect();
            for pair in column.windows(2) {
                drawing.wire(
                    Point::new(x(edge + 1), pair[0]),
                    Point::new(x(edge + 1), pair[1]),
                );
            }
        }
        let from = if group.pins.len() > 1 {
            Point::new(x(edge + 1), first.y)
        } else {
            first
        };
        let end = Point::new(x(start), ys[index]);
        match turn(index) {
            None => drawing.wire(from, end),
            Some(rank) => {
                let column = x(edge + 1 + joined + rank);
                drawing.wire(from, Point::new(column, from.y));
                drawing.wire(Point::new(column, from.y), Point::new(column, end.y));
                drawing.wire(Point::new(column, end.y), end);
            }
        }
        let reach = x(start + lane.length);
        low = Point::new(low.x.min(reach), low.y.min(end.y - lane.up));
        high = Point::new(high.x.max(reach), high.y.max(end.y + lane.down));
        drawing.put(lane.drawing, end);
    }
    (low, high)
}

/// Positions as near as can be to the wanted ones, with at least these distances between neighbours: pools of neighbours that would
/// come too close are moved as one, so that the squares of all moves are least.
fn spread(wanted: &[i32], gaps: &[i32]) -> Vec<i32> {
    let mut offset = 0;
    let mut offsets = vec![0];
    for gap in gaps {
        offset += gap;
        offsets.push(offset);
    }
    // Pools of (sum of wanted less offset, how many).
    let mut pools: Vec<(i32, i32)> = Vec::new();
    for (want, offset) in wanted.iter().zip(&offsets) {
        pools.push((want - offset, 1));
        while let [.., (before, many), (sum, count)] = pools[..] {
            if before * count <= sum * many {
                break;
            }
            pools.truncate(pools.len() - 2);
            pools.push((before + sum, many + count));
        }
    }
    let mut positions = Vec::new();
    for (sum, count) in pools {
        for _ in 0..count {
            positions.push(sum.div_euclid(count) + offsets[positions.len()]);
        }
    }
    positions
}

/// Draws what hangs on the pins of the upper or lower side. Returns how far it reaches.
fn upright(
    plan: &Plan<'_>,
    reference: &'static str,
    drawing: &mut Drawing,
    side: Side,
    groups: &[Group],
) -> i32 {
    let step = side.step().y;
    let mut reach = 0;
    let mut taken = i32::MIN;
    let mut raised = false;
    for group in groups {
        let first = group.pins[0].0;
        for pair in group.pins.windows(2) {
            let (one, other) = (pair[0].0, pair[1].0);
            let (above_one, above_other) = (
                Point::new(one.x, first.y + step),
                Point::new(other.x, first.y + step),
            );
            drawing.wire(other, above_other);
            drawing.wire(above_one, above_other);
        }
        let bend = Point::new(first.x, first.y + step);
        drawing.wire(first, bend);
        if plan.is_rail(group.net) {
            // Names of neighbours would run into each other: every other one stands higher.
            let half = text_steps(group.net) / 2 + 1;
            raised = first.x - half < taken && !raised;
            let height = if raised { 4 } else { 1 };
            let end = Point::new(first.x, first.y + step * height);
            drawing.wire(bend, end);
            // Ground's symbol hangs down and the others stand up; on the other side, the wire goes round a corner.
            if (group.net == "GND") == (side == Side::Down) {
                drawing.symbols.push(rail(plan, group.net, end));
            } else {
                let far = Point::new(end.x, end.y + step * 3);
                let corner = Point::new(far.x + half, far.y);
                drawing.wire(end, far);
                drawing.wire(far, corner);
                drawing.symbols.push(rail(plan, group.net, corner));
                raised = true;
            }
            reach = reach.max(height + 4);
            taken = first.x + half;
        } else {
            let goes_on = plan.design.connections()[group.net].len() > group.pins.len();
            debug_assert!(goes_on, "a net joins two pads: {reference}");
            let end = Point::new(first.x, first.y + step * 2);
            drawing.wire(bend, end);
            drawing.labels.push(label(plan, group.net, end, side));
            reach = reach.max(text_steps(group.net) + 5);
            taken = first.x + 1;
        }
    }
    reach
}

pub(super) fn label(plan: &Plan<'_>, net: &'static str, at: Point, side: Side) -> Label {
    Label {
        net,
        at,
        side,
        crossing: plan.crossing.contains(net),
    }
}

/// A line that begins with a label, or with the supply that `part` takes its current from.
fn line(rest: &mut Rest<'_, '_>, part: &Part, net: &'static str) -> Block {
    let plan = rest.plan;
    let feeds = ["F", "FB", "L", "D"].contains(&super::lane::kind(part));
    let rail_of = part.pins.iter().map(|pin| pin.net);
    let supply = rail_of
        .into_iter()
        .find(|net| plan.is_rail(net) && *net != "GND")
        .filter(|_| feeds);
    if let Some(supply) = supply {
        rest.used.insert(part.reference);
        let mut lane = Lane::new(Side::Right);
        lane.start(plan, supply);
        lane.through_from(plan, part, supply);
        let far = part.pins.iter().find(|pin| pin.net == net);
        let from: Vec<Pad> = far
            .map(|pin| (part.reference, pin.number))
            .into_iter()
            .collect();
        rest.go_on(&mut lane, net, &from);
        return Block {
            low: Point::new(0, -lane.up),
            high: Point::new(lane.length, lane.down),
            drawing: lane.drawing,
        };
    }
    let lane = rest.lane(net, &[], Side::Right);
    let mut drawing = lane.drawing;
    let has_label = drawing.labels.iter().any(|label| label.net == net);
    let goes_on = plan.design.connections()[net]
        .iter()
        .any(|(part, _)| !rest.used.contains(part));
    let mut low = Point::new(-1, -lane.up);
    if has_label || !goes_on && !plan.crossing.contains(net) {
        // Nothing is to the left of what hangs first.
        let first = drawing
            .wires
            .iter()
            .position(|(from, to)| *from == Point::new(0, 0) && to.y == 0);
        if let Some(first) = first {
            drawing.wires.remove(first);
        }
    } else {
        drawing.wire(Point::new(0, 0), Point::new(-1, 0));
        drawing
            .labels
            .push(label(plan, net, Point::new(-1, 0), Side::Left));
        low.x -= text_steps(net) + 3;
    }
    Block {
        drawing,
        low,
        high: Point::new(lane.length, lane.down),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_keep_their_distance_and_stay_near_their_pins() {
        assert_eq!(spread(&[0, 2, 4], &[2, 2]), [0, 2, 4]);
        assert_eq!(spread(&[0, 2], &[10]), [-4, 6]);
        assert_eq!(spread(&[0, 20, 22], &[4, 8]), [0, 17, 25]);
        assert_eq!(spread(&[], &[]), [0; 0]);
    }

    proptest::proptest! {
        #[test]
        fn no_two_lanes_come_too_close(lanes in proptest::collection::vec((0..6i32, 1..20i32), 1..20)) {
            let mut at = 0;
            let wanted: Vec<i32> = lanes.iter().map(|(step, _)| { at += step; at }).collect();
            let gaps: Vec<i32> = lanes[1..].iter().map(|(_, gap)| *gap).collect();
            let found = spread(&wanted, &gaps);
            for (pair, gap) in found.windows(2).zip(&gaps) {
                proptest::prop_assert!(pair[1] - pair[0] >= *gap);
            }
        }
    }
}
