// SPDX-License-Identifier: Apache-2.0
//! Wires in place of pairs of labels, where a way of moderate length is free: around bodies and texts, across other wires only
//! squarely and never at their ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    Drawing,
    connect::{Joints, ends},
    ink::{Ink, areas},
};
use crate::symbols::{Point, Side};

/// What a way costs: a step, a bend, another wire crossed.
const STEP: i32 = 1;
const BEND: i32 = 5;
const CROSSING: i32 = 8;
/// A longer way is none: a reader follows a name more easily.
const LONGEST: i32 = 90;

const SIDES: [Side; 4] = [Side::Left, Side::Right, Side::Up, Side::Down];

/// Joins labels of one net by wires. Labels that are no longer needed go; one stays on a net that `goes_on` elsewhere.
pub(super) fn join_labels(drawing: &mut Drawing, goes_on: impl Fn(&str) -> bool) {
    let nets: BTreeSet<&'static str> = drawing
        .labels
        .iter()
        .filter(|label| !label.crossing)
        .map(|label| label.net)
        .collect();
    for net in nets {
        join(drawing, net, goes_on(net));
    }
}

fn join(drawing: &mut Drawing, net: &'static str, goes_on: bool) {
    let mut pieces = pieces(drawing, net);
    // The nearest two first; what cannot be joined keeps its name.
    loop {
        let mut pairs: Vec<(i32, usize, usize)> = Vec::new();
        for one in 0..pieces.len() {
            for other in one + 1..pieces.len() {
                pairs.push((distance(pieces[one][0], pieces[other][0]), one, other));
            }
        }
        pairs.sort_unstable();
        let found = pairs.into_iter().find_map(|(_, one, other)| {
            let way = way(drawing, net, pieces[one][0], pieces[other][0])?;
            Some((one, other, way))
        });
        let Some((one, other, way)) = found else {
            break;
        };
        for pair in way.windows(2) {
            drawing.wire(pair[0], pair[1]);
        }
        let mut joined = pieces.remove(other);
        pieces[one].append(&mut joined);
        // One name is enough on what is one wire.
        let keep = pieces[one][0];
        let own = pieces[one].clone();
        drawing
            .labels
            .retain(|label| label.net != net || label.at == keep || !own.contains(&label.at));
    }
    if pieces.len() == 1 && !goes_on && pieces[0].len() > 1 {
        drawing.labels.retain(|label| label.net != net);
    }
}

/// The labels of a net, those on one wire together.
fn pieces(drawing: &Drawing, net: &str) -> Vec<Vec<Point>> {
    let mut joints = Joints::of(drawing);
    let mut pieces: BTreeMap<usize, Vec<Point>> = BTreeMap::new();
    for label in drawing.labels.iter().filter(|label| label.net == net) {
        pieces
            .entry(joints.at(label.at))
            .or_default()
            .push(label.at);
    }
    pieces.into_values().collect()
}

fn distance(one: Point, other: Point) -> i32 {
    (one.x - other.x).abs() + (one.y - other.y).abs()
}

/// The cheapest free way, by its corners.
fn way(drawing: &Drawing, net: &str, from: Point, to: Point) -> Option<Vec<Point>> {
    if distance(from, to) > LONGEST {
        return None;
    }
    let ground = Ground::new(drawing, net);
    let mut best: BTreeMap<(Point, Side), i32> = BTreeMap::new();
    let mut before: BTreeMap<(Point, Side), (Point, Side)> = BTreeMap::new();
    let mut queue = BinaryHeap::new();
    for side in SIDES {
        best.insert((from, side), 0);
        queue.push(Reverse((distance(from, to), 0, from, side)));
    }
    while let Some(Reverse((_, cost, at, side))) = queue.pop() {
        if best.get(&(at, side)).is_some_and(|known| *known < cost) {
            continue;
        }
        if at == to {
            return Some(corners(&before, from, (at, side)));
        }
        for next_side in SIDES {
            let bends = next_side != side;
            // A bend on another wire would join it.
            if bends && at != from && ground.crossed(at) {
                continue;
            }
            let next = at + next_side.step();
            let Some(step) = ground.step(next, next_side, to) else {
                continue;
            };
            let cost = cost + step + if bends && at != from { BEND } else { 0 };
            let key = (next, next_side);
            if cost <= LONGEST && best.get(&key).is_none_or(|known| cost < *known) {
                best.insert(key, cost);
                before.insert(key, (at, side));
                queue.push(Reverse((cost + distance(next, to), cost, next, next_side)));
            }
        }
    }
    None
}

fn corners(
    before: &BTreeMap<(Point, Side), (Point, Side)>,
    from: Point,
    last: (Point, Side),
) -> Vec<Point> {
    let mut points = vec![last.0];
    let mut key = last;
    while key.0 != from {
        let previous = before[&key];
        if previous.0 == from || previous.1 != key.1 {
            points.push(previous.0);
        }
        key = previous;
    }
    points.reverse();
    points
}

/// What a wire may not run over.
struct Ground {
    blocked: BTreeSet<Point>,
    level: BTreeSet<Point>,
    upright: BTreeSet<Point>,
}

impl Ground {
    fn new(drawing: &Drawing, net: &str) -> Self {
        let mut blocked: BTreeSet<Point> = ends(drawing).into_iter().collect();
        blocked.extend(&drawing.open);
        for area in areas(drawing) {
            let own = matches!(&area.ink, Ink::Name(name) if name == net);
            if own || area.ink == Ink::Wire {
                continue;
            }
            // Bodies keep a step of distance, so that a wire is not taken for a pin.
            let spare = if matches!(area.ink, Ink::Body(_)) {
                0.9
            } else {
                0.2
            };
            #[allow(clippy::cast_possible_truncation, reason = "on a sheet")]
            let steps = |value: f64, away: fn(f64) -> f64| away(value) as i32;
            for x in steps(area.low.0 - spare, f64::ceil)..=steps(area.high.0 + spare, f64::floor) {
                for y in
                    steps(area.low.1 - spare, f64::ceil)..=steps(area.high.1 + spare, f64::floor)
                {
                    blocked.insert(Point::new(x, y));
                }
            }
        }
        let (mut level, mut upright) = (BTreeSet::new(), BTreeSet::new());
        for (from, to) in &drawing.wires {
            let (low, high) = (from.min(to), from.max(to));
            if low.y == high.y {
                level.extend((low.x..=high.x).map(|x| Point::new(x, low.y)));
            } else {
                upright.extend((low.y..=high.y).map(|y| Point::new(low.x, y)));
            }
        }
        Self {
            blocked,
            level,
            upright,
        }
    }

    fn crossed(&self, at: Point) -> bool {
        self.level.contains(&at) || self.upright.contains(&at)
    }

    /// What a step to `at` costs; none if it is not free.
    fn step(&self, at: Point, side: Side, goal: Point) -> Option<i32> {
        if at == goal {
            return Some(STEP);
        }
        if self.blocked.contains(&at) {
            return None;
        }
        let level = matches!(side, Side::Left | Side::Right);
        let (along, across) = if level {
            (&self.level, &self.upright)
        } else {
            (&self.upright, &self.level)
        };
        if along.contains(&at) {
            return None;
        }
        Some(if across.contains(&at) {
            STEP + CROSSING
        } else {
            STEP
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schematic::Label;

    fn labelled(points: &[(i32, i32)]) -> Drawing {
        let mut drawing = Drawing::default();
        for (x, y) in points {
            let at = Point::new(*x, *y);
            drawing.wire(at, at + Point::new(-2, 0));
            drawing.labels.push(Label {
                net: "NET",
                at,
                side: Side::Right,
                crossing: false,
            });
        }
        drawing
    }

    #[test]
    fn two_labels_become_a_wire() {
        let mut drawing = labelled(&[(0, 0), (20, 6)]);
        join_labels(&mut drawing, |_| false);
        assert!(drawing.labels.is_empty());
        assert_eq!(pieces(&drawing, "NET").len(), 0);
        assert!(drawing.wires.len() > 2);
    }

    #[test]
    fn a_net_that_goes_on_keeps_one_name() {
        let mut drawing = labelled(&[(0, 0), (20, 6)]);
        join_labels(&mut drawing, |_| true);
        assert_eq!(drawing.labels.len(), 1);
    }

    #[test]
    fn a_wire_is_crossed_squarely_and_not_joined() {
        let mut drawing = labelled(&[(0, 0), (20, 0)]);
        drawing.wire(Point::new(10, -60), Point::new(10, 60));
        join_labels(&mut drawing, |_| false);
        let mut joints = Joints::of(&drawing);
        assert_eq!(joints.at(Point::new(0, 0)), joints.at(Point::new(20, 0)));
        assert_ne!(joints.at(Point::new(0, 0)), joints.at(Point::new(10, 60)));
    }

    #[test]
    fn what_is_far_away_stays_a_name() {
        let mut drawing = labelled(&[(0, 0), (400, 0)]);
        join_labels(&mut drawing, |_| false);
        assert_eq!(drawing.labels.len(), 2);
    }
}
