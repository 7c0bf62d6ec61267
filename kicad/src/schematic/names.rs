// SPDX-License-Identifier: Apache-2.0
//! A name for each net that is drawn without one, on one of its own wires where there is room: boards, classes and people call nets
//! by the design's names, not by the ones KiCad makes up.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Drawing, Label, Plan, What,
    connect::Joints,
    ink::{Area, areas, label_area},
    turned,
};
use crate::{
    design::OPEN,
    symbols::{Point, Side},
};

/// Puts a label on every net that has none.
pub(super) fn name_all(plan: &Plan<'_>, drawing: &mut Drawing) {
    let mut joints = Joints::of(drawing);
    let mut named: BTreeSet<usize> = drawing
        .labels
        .iter()
        .map(|label| joints.at(label.at))
        .collect();
    let mut nets: BTreeMap<usize, &'static str> = BTreeMap::new();
    for placed in &drawing.symbols {
        match placed.what {
            What::Rail(_) => {
                named.insert(joints.at(placed.at));
            }
            What::Part(reference) => {
                let own = |unit: u32| unit == placed.unit || unit == 0;
                for pin in placed.symbol.pins.iter().filter(|pin| own(pin.unit)) {
                    let net = plan.net(reference, &pin.number);
                    if net != OPEN {
                        let at = placed.at + turned(pin.at, placed.turns);
                        nets.insert(joints.at(at), net);
                    }
                }
            }
            What::Flag => {}
        }
    }
    for (root, net) in nets {
        if named.contains(&root) {
            continue;
        }
        let wires: Vec<_> = drawing
            .wires
            .iter()
            .copied()
            .filter(|wire| joints.at(wire.0) == root)
            .collect();
        let taken = areas(drawing);
        let best = wires
            .iter()
            .flat_map(|wire| places(net, *wire))
            .min_by_key(|label| cost(label, &taken));
        if let Some(label) = best {
            drawing.labels.push(label);
        }
    }
}

/// Every place for a name on a wire.
fn places(net: &'static str, (from, to): (Point, Point)) -> Vec<Label> {
    let (low, high) = (from.min(to), from.max(to));
    let label = |at: Point, side| Label {
        net,
        at,
        side,
        crossing: false,
    };
    if low.y == high.y {
        (low.x..=high.x)
            .flat_map(|x| {
                let at = Point::new(x, low.y);
                [label(at, Side::Right), label(at, Side::Left)]
            })
            .collect()
    } else {
        (low.y..=high.y)
            .flat_map(|y| {
                let at = Point::new(low.x, y);
                [label(at, Side::Up), label(at, Side::Down)]
            })
            .collect()
    }
}

/// How much the name would cover, then how far it is from reading level.
fn cost(label: &Label, taken: &[Area]) -> (usize, bool, Point) {
    let own = label_area(label).shrunk(0.1);
    let covered = taken.iter().filter(|area| area.covers(&own)).count();
    (
        covered,
        matches!(label.side, Side::Up | Side::Down),
        label.at,
    )
}
