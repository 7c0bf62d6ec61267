// SPDX-License-Identifier: Apache-2.0
//! What a drawing connects, read from its lines alone, and compared with the design.

use std::collections::{BTreeMap, BTreeSet};

use super::{Drawing, Plan, What, turned};
use crate::{design::OPEN, symbols::Point};

/// How a drawing is not what is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misdrawn {
    /// A pad on another net than meant.
    #[error("pad {pad} of {reference} is drawn on {found:?}, not on {meant:?}")]
    OtherNet {
        /// Which part.
        reference: &'static str,
        /// Which pad.
        pad: String,
        /// The net it is drawn on, by its first name.
        found: String,
        /// The net that is meant.
        meant: &'static str,
    },
    /// Two names on one wire.
    #[error("{0} and {1} are joined by a wire")]
    Joined(String, String),
    /// Pads of one net that no wire or name joins.
    #[error("{net} is drawn in pieces: {reference} hangs on nothing")]
    InPieces {
        /// Which net.
        net: &'static str,
        /// A part on the loose piece.
        reference: &'static str,
    },
    /// A part that is not drawn, or twice.
    #[error("{reference} is drawn {count} times")]
    Count {
        /// Which part.
        reference: &'static str,
        /// How often.
        count: usize,
    },
}

/// Points that are one.
#[derive(Default)]
pub(super) struct Joints {
    of: BTreeMap<Point, usize>,
    parent: Vec<usize>,
}

impl Joints {
    /// What the drawing's wires join.
    pub(super) fn of(drawing: &Drawing) -> Self {
        let mut joints = Self::default();
        let points: BTreeSet<Point> = ends(drawing).into_iter().collect();
        for wire in &drawing.wires {
            let first = joints.at(wire.0);
            for point in points.iter().filter(|point| touches(**point, *wire)) {
                let other = joints.at(*point);
                joints.join(first, other);
            }
        }
        joints
    }

    pub(super) fn at(&mut self, point: Point) -> usize {
        let next = self.parent.len();
        let index = *self.of.entry(point).or_insert(next);
        if index == next {
            self.parent.push(next);
        }
        self.root(index)
    }

    fn root(&self, mut index: usize) -> usize {
        while self.parent[index] != index {
            index = self.parent[index];
        }
        index
    }

    pub(super) fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parent[one.max(other)] = one.min(other);
    }
}

/// Whether the point lies on the wire.
pub(super) fn touches(point: Point, (from, to): (Point, Point)) -> bool {
    let within =
        |value: i32, one: i32, other: i32| (one.min(other)..=one.max(other)).contains(&value);
    (from.x == to.x && point.x == from.x && within(point.y, from.y, to.y))
        || (from.y == to.y && point.y == from.y && within(point.x, from.x, to.x))
}

/// Every place where something begins or ends: there a wire that passes is joined.
pub(super) fn ends(drawing: &Drawing) -> Vec<Point> {
    let mut points: Vec<Point> = drawing
        .wires
        .iter()
        .flat_map(|(from, to)| [*from, *to])
        .collect();
    points.extend(drawing.labels.iter().map(|label| label.at));
    for placed in &drawing.symbols {
        let pins = placed.symbol.pins.iter();
        points.extend(
            pins.filter(|pin| pin.unit == placed.unit || pin.unit == 0)
                .map(|pin| placed.at + turned(pin.at, placed.turns)),
        );
    }
    points.extend(
        drawing
            .sheets
            .iter()
            .flat_map(|sheet| sheet.pins.iter().map(|(_, at)| *at)),
    );
    points
}

pub(super) fn check(plan: &Plan<'_>, sheet: &str, drawing: &Drawing) -> Result<(), Misdrawn> {
    let mut joints = Joints::of(drawing);
    // Names first: what they stand on has to have one name.
    let mut names: BTreeMap<usize, &'static str> = BTreeMap::new();
    let mut name = |joints: &mut Joints, at: Point, net: &'static str| {
        let root = joints.at(at);
        match names.insert(root, net) {
            Some(other) if other != net => Err(Misdrawn::Joined(other.to_owned(), net.to_owned())),
            _ => Ok(()),
        }
    };
    for label in &drawing.labels {
        name(&mut joints, label.at, label.net)?;
    }
    for placed in &drawing.symbols {
        if let What::Rail(net) = placed.what {
            name(&mut joints, placed.at, net)?;
        }
    }
    let mut pieces: BTreeMap<&'static str, BTreeMap<usize, &'static str>> = BTreeMap::new();
    let mut by_root: BTreeMap<usize, &'static str> = BTreeMap::new();
    let mut drawn: BTreeMap<&'static str, BTreeSet<u32>> = BTreeMap::new();
    let mut count: BTreeMap<&'static str, usize> = BTreeMap::new();
    for placed in &drawing.symbols {
        let What::Part(reference) = placed.what else {
            continue;
        };
        if !drawn.entry(reference).or_default().insert(placed.unit) {
            *count.entry(reference).or_default() += 1;
        }
        let own = |unit: u32| unit == placed.unit || unit == 0;
        for pin in placed.symbol.pins.iter().filter(|pin| own(pin.unit)) {
            let meant = plan.net(reference, &pin.number);
            let at = placed.at + turned(pin.at, placed.turns);
            if meant == OPEN {
                if drawing.open.contains(&at)
                    && !drawing.wires.iter().any(|wire| touches(at, *wire))
                {
                    continue;
                }
                return Err(Misdrawn::OtherNet {
                    reference,
                    pad: pin.number.clone(),
                    found: "a wire".to_owned(),
                    meant,
                });
            }
            let root = joints.at(at);
            let found = names
                .get(&root)
                .or(by_root.get(&root))
                .copied()
                .unwrap_or(meant);
            if found != meant {
                return Err(Misdrawn::OtherNet {
                    reference,
                    pad: pin.number.clone(),
                    found: found.to_owned(),
                    meant,
                });
            }
            by_root.insert(root, meant);
            pieces.entry(meant).or_default().insert(root, reference);
        }
    }
    for (net, pieces) in pieces {
        let unnamed: Vec<_> = pieces
            .iter()
            .filter(|(root, _)| !names.contains_key(root))
            .collect();
        let must_be_named = pieces.len() > 1 || plan.crossing.contains(net);
        if let (true, Some((_, reference))) = (must_be_named, unnamed.first()) {
            return Err(Misdrawn::InPieces { net, reference });
        }
    }
    for part in plan.design.parts.iter().filter(|part| part.sheet == sheet) {
        let units = plan.symbols[part.reference].units as usize;
        let found = drawn.get(part.reference).map_or(0, BTreeSet::len);
        let twice = count.get(part.reference).copied().unwrap_or(0);
        if found != units || twice > 0 {
            return Err(Misdrawn::Count {
                reference: part.reference,
                count: found + twice,
            });
        }
    }
    Ok(())
}
