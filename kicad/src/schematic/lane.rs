// SPDX-License-Identifier: Apache-2.0
//! A net followed from a pin, as a person would draw it: along a line, passive parts to a rail hang from it, a part in series lies in
//! it, and at its end stands a label if the net goes on elsewhere.

use std::{collections::BTreeSet, rc::Rc};

use super::{Drawing, Label, Placed, Plan, What, text_steps, turned};
use crate::{
    design::Part,
    symbols::{Point, Side, SymbolPin},
};

/// How many parts in series are drawn in one line.
const MOST_IN_SERIES: u32 = 3;

/// What is left to draw on a sheet.
pub(super) struct Rest<'p, 'd> {
    pub(super) plan: &'p Plan<'d>,
    pub(super) sheet: &'static str,
    /// Parts that are drawn.
    pub(super) used: BTreeSet<&'static str>,
}

/// A line with what is on it, from the origin to the right or to the left.
pub(super) struct Lane {
    pub(super) drawing: Drawing,
    /// Steps that it takes above the line.
    pub(super) up: i32,
    /// Steps that it takes below.
    pub(super) down: i32,
    /// Steps along the line.
    pub(super) length: i32,
    /// How far its wire goes by now.
    drawn: i32,
    direction: i32,
}

impl<'p> Rest<'p, '_> {
    /// The line of `net` from pads that are drawn already.
    pub(super) fn lane(&mut self, net: &'static str, from: &[Pad], side: Side) -> Lane {
        let mut lane = Lane::new(side);
        self.go_on(&mut lane, net, from);
        lane
    }

    /// Goes on with a line on `net`, from pads that are drawn already.
    pub(super) fn go_on(&mut self, lane: &mut Lane, net: &'static str, from: &[Pad]) {
        let mut drawn: BTreeSet<Pad> = from.iter().copied().collect();
        self.follow(lane, net, &mut drawn, 0);
    }

    fn follow(
        &mut self,
        lane: &mut Lane,
        net: &'static str,
        drawn: &mut BTreeSet<Pad>,
        depth: u32,
    ) {
        let plan = self.plan;
        if plan.is_rail(net) {
            lane.rail(plan, net);
            return;
        }
        let mut shunts = Vec::new();
        let mut series = Vec::new();
        for passive in self.passives(net) {
            match passive.far {
                Some((_, other)) if !plan.is_rail(other) => series.push(passive),
                // Current flows on to a supply through these: they lie in the line.
                Some((_, other)) if other != "GND" && feeds(passive.part) => {
                    series.insert(0, passive);
                }
                _ => shunts.push(passive),
            }
        }
        // Room for the net's name, where no label will say it.
        let is_named = plan.design.connections().get(net).is_some_and(|pads| {
            let here = |pad: &Pad| drawn.contains(pad) || self.passive_here(pad, net);
            pads.iter().any(|pad| !here(pad))
        });
        if !(is_named || shunts.is_empty() && series.is_empty()) {
            lane.reach(lane.length + text_steps(net));
        }
        let mut take = |rest: &mut Self, passive: &Passive<'_>| {
            rest.used.insert(passive.part.reference);
            drawn.insert((passive.part.reference, passive.near_number));
        };
        for passive in &shunts {
            take(self, passive);
            lane.hang(plan, passive, None);
        }
        let mut series = series.into_iter();
        let through = series.next().filter(|_| depth < MOST_IN_SERIES);
        for passive in series {
            take(self, &passive);
            lane.hang(plan, &passive, Some(self.sheet));
        }
        if let Some(passive) = &through {
            take(self, passive);
        }
        let goes_on = plan
            .design
            .connections()
            .get(net)
            .is_some_and(|pads| pads.iter().any(|pad| !drawn.contains(pad)));
        let Some(passive) = through else {
            if goes_on {
                lane.label(plan, net);
            }
            return;
        };
        if goes_on {
            lane.label_above(plan, net);
        }
        let (far_number, other) = passive.far.expect("in series");
        lane.through(&passive);
        let mut drawn = BTreeSet::from([(passive.part.reference, far_number)]);
        self.follow(lane, other, &mut drawn, depth + 1);
    }

    /// Whether a pad is of a passive part that is still to be drawn here.
    fn passive_here(&self, pad: &Pad, net: &'static str) -> bool {
        let passives = self.passives(net);
        passives
            .iter()
            .any(|passive| (passive.part.reference, passive.near_number) == *pad)
    }

    /// Passive parts of the sheet on `net` that are not drawn yet.
    fn passives(&self, net: &'static str) -> Vec<Passive<'p>> {
        let parts = self.plan.design.parts.iter();
        parts
            .filter(|part| part.sheet == self.sheet && !self.used.contains(part.reference))
            .filter_map(|part| Passive::of(self.plan, part, net))
            .collect()
    }
}

/// A pad: reference and number.
pub(super) type Pad = (&'static str, &'static str);

/// A part with one or two pads in a line, seen from one of them.
struct Passive<'p> {
    part: &'p Part,
    symbol: Rc<crate::symbols::Symbol>,
    near: SymbolPin,
    near_number: &'static str,
    /// Pad number and net of the other side; a test point has none.
    far: Option<(&'static str, &'static str)>,
}

/// The letters of its reference.
pub(super) fn kind(part: &Part) -> &'static str {
    part.reference
        .trim_end_matches(|letter: char| letter.is_ascii_digit())
}

/// Whether a supply is fed through it.
fn feeds(part: &Part) -> bool {
    ["F", "FB", "L", "D"].contains(&kind(part))
}

/// Whether it can be drawn in a line: one pad, or two across from each other.
pub(super) fn is_passive(plan: &Plan<'_>, part: &Part) -> bool {
    let symbol = &plan.symbols[part.reference];
    let kind = kind(part);
    let in_line = match &symbol.pins[..] {
        [_] => true,
        [one, other] => (one.at.x == other.at.x) != (one.at.y == other.at.y),
        _ => false,
    };
    in_line
        && matches!(
            kind,
            "R" | "C" | "L" | "D" | "F" | "FB" | "JP" | "TP" | "SW"
        )
}

impl<'p> Passive<'p> {
    fn of(plan: &Plan<'_>, part: &'p Part, net: &str) -> Option<Self> {
        if !is_passive(plan, part) {
            return None;
        }
        let near = part.pins.iter().find(|pin| pin.net == net)?;
        let far = part.pins.iter().find(|pin| pin.number != near.number);
        if far.is_some_and(|far| far.net == net) {
            return None;
        }
        let symbol = Rc::clone(&plan.symbols[part.reference]);
        Some(Self {
            part,
            near: symbol
                .pins
                .iter()
                .find(|pin| pin.number == near.number)?
                .clone(),
            near_number: near.number,
            far: far.map(|pin| (pin.number, pin.net)),
            symbol,
        })
    }

    /// From the near pin to the far one, or against the near pin's wire where there is none.
    fn axis(&self) -> Point {
        match self
            .symbol
            .pins
            .iter()
            .find(|pin| pin.number != self.near.number)
        {
            Some(far) => far.at - self.near.at,
            None => {
                let step = self.near.side.step();
                Point::new(-step.x, -step.y)
            }
        }
    }

    /// The turn that makes the axis point this way.
    fn turns(&self, way: Side) -> u8 {
        let axis = self.axis();
        let unit = Point::new(axis.x.signum(), axis.y.signum());
        (0..4)
            .find(|turns| turned(unit, *turns) == way.step())
            .unwrap_or(0)
    }

    /// Steps between its pins; of a test point, its height.
    fn length(&self) -> i32 {
        let axis = self.axis();
        match self.far {
            Some(_) => axis.x.abs() + axis.y.abs(),
            None => (self.symbol.high.y - self.symbol.low.y).max(2),
        }
    }

    /// The symbol with its near pin at `at` and the far one that way.
    fn placed(&self, at: Point, way: Side, upright: bool) -> (Placed, Point) {
        let turns = self.turns(way);
        let origin = at - turned(self.near.at, turns);
        let step = way.step();
        let far = at + Point::new(step.x * self.length(), step.y * self.length());
        let middle = (f64::from(at.x + far.x) / 2.0, f64::from(at.y + far.y) / 2.0);
        let half = f64::from(self.half());
        let (reference_at, value_at) = if upright {
            let x = middle.0 + half + 0.4;
            ((x, middle.1 - 0.9), (x, middle.1 + 0.9))
        } else {
            let y = half + 1.0;
            ((middle.0, middle.1 - y), (middle.0, middle.1 + y))
        };
        let placed = Placed {
            symbol: Rc::clone(&self.symbol),
            unit: 1,
            at: origin,
            turns,
            what: What::Part(self.part.reference),
            value: self.part.value.clone(),
            reference_at,
            value_at,
            from_left: upright,
        };
        (placed, far)
    }

    /// Steps from its axis to its edge.
    fn half(&self) -> i32 {
        let (low, high) = (self.symbol.low, self.symbol.high);
        let (low, high) = match self.axis().x {
            0 => (low.x, high.x),
            _ => (low.y, high.y),
        };
        low.abs().max(high.abs())
    }

    fn text_steps(&self) -> i32 {
        text_steps(self.part.reference).max(text_steps(&self.part.value))
    }
}

impl Lane {
    /// An empty line that goes that way.
    pub(super) fn new(side: Side) -> Self {
        Self {
            drawing: Drawing::default(),
            up: 1,
            down: 1,
            length: 0,
            drawn: 0,
            direction: if side == Side::Left { -1 } else { 1 },
        }
    }

    /// A part in the line whose near pad is on `net`.
    pub(super) fn through_from(&mut self, plan: &Plan<'_>, part: &Part, net: &str) {
        let passive = Passive::of(plan, part, net).expect("it has a pad on this net");
        self.through(&passive);
    }

    fn at(&self, distance: i32, y: i32) -> Point {
        Point::new(distance * self.direction, y)
    }

    /// Lengthens the wire to `distance`.
    fn reach(&mut self, distance: i32) {
        let (from, to) = (self.at(self.drawn, 0), self.at(distance, 0));
        self.drawing.wire(from, to);
        (self.drawn, self.length) = (distance, distance);
    }

    /// A part that goes up to a rail or down to ground, or down to a label.
    fn hang(&mut self, plan: &Plan<'_>, passive: &Passive<'_>, label: Option<&'static str>) {
        let end = passive.far.map(|(_, net)| net);
        let goes_up = match end {
            Some(net) => plan.is_rail(net) && net != "GND",
            None => true,
        };
        // Its text is to the right of it: behind it on a line to the right, before it on a line to the left.
        let text = passive.text_steps() + passive.half() + 1;
        let name = end.map_or(0, |net| text_steps(net) / 2 + 1).max(2);
        self.reach(self.length + if self.direction < 0 { text } else { name });
        let way = if goes_up { Side::Up } else { Side::Down };
        let near = self.at(self.length, way.step().y);
        self.drawing.wire(self.at(self.length, 0), near);
        let (placed, far) = passive.placed(near, way, true);
        self.drawing.symbols.push(placed);
        let mut height = 1 + passive.length();
        match (end, label) {
            (Some(net), None) => {
                self.drawing.symbols.push(rail(plan, net, far));
                height += 4;
            }
            (Some(net), Some(_)) => {
                self.drawing.labels.push(Label {
                    net,
                    at: far,
                    side: way,
                    crossing: plan.crossing.contains(net),
                });
                height += text_steps(net) + 3;
            }
            (None, _) => height += 2,
        }
        if goes_up {
            self.up = self.up.max(height);
        } else {
            self.down = self.down.max(height);
        }
        let behind = if self.direction < 0 { 2 } else { text };
        self.length += behind;
    }

    /// A part in the line.
    fn through(&mut self, passive: &Passive<'_>) {
        let text = passive.text_steps();
        let spare = (text - passive.length()).max(0) / 2 + 1;
        self.reach(self.length + spare);
        let way = if self.direction < 0 {
            Side::Left
        } else {
            Side::Right
        };
        let near = self.at(self.length, 0);
        let (placed, _) = passive.placed(near, way, false);
        self.drawing.symbols.push(placed);
        self.length += passive.length();
        self.drawn = self.length;
        self.reach(self.length + spare);
        let half = passive.half() + 2;
        self.up = self.up.max(half);
        self.down = self.down.max(half);
    }

    /// The net's name at the line's end.
    fn label(&mut self, plan: &Plan<'_>, net: &'static str) {
        self.reach(self.length + 1);
        self.drawing.labels.push(Label {
            net,
            at: self.at(self.length, 0),
            side: if self.direction < 0 {
                Side::Left
            } else {
                Side::Right
            },
            crossing: plan.crossing.contains(net),
        });
        self.length += text_steps(net) + if plan.crossing.contains(net) { 3 } else { 1 };
    }

    /// The net's name on a stub above the line.
    fn label_above(&mut self, plan: &Plan<'_>, net: &'static str) {
        self.reach(self.length + 2);
        let end = self.at(self.length, -2);
        self.drawing.wire(self.at(self.length, 0), end);
        self.drawing.labels.push(Label {
            net,
            at: end,
            side: Side::Up,
            crossing: plan.crossing.contains(net),
        });
        self.up = self.up.max(text_steps(net) + 5);
        self.reach(self.length + 2);
    }

    /// Begins at a supply, with room for its name.
    pub(super) fn start(&mut self, plan: &Plan<'_>, net: &'static str) {
        self.drawing.symbols.push(rail(plan, net, Point::new(0, 0)));
        self.reach(text_steps(net) / 2);
        self.up = self.up.max(4);
    }

    pub(super) fn rail(&mut self, plan: &Plan<'_>, net: &'static str) {
        let half = text_steps(net) / 2 + 1;
        self.reach(self.length + half);
        self.drawing
            .symbols
            .push(rail(plan, net, self.at(self.length, 0)));
        self.length += half;
        if net == "GND" {
            self.down = self.down.max(4);
        } else {
            self.up = self.up.max(4);
        }
    }
}

/// A rail's symbol at `at`: ground hangs down, all others stand up.
pub(super) fn rail(plan: &Plan<'_>, net: &'static str, at: Point) -> Placed {
    let below = net == "GND";
    let y = f64::from(at.y) + if below { 3.0 } else { -3.0 };
    Placed {
        symbol: plan.rail_symbol(net),
        unit: 1,
        at,
        turns: 0,
        what: What::Rail(net),
        value: net.to_owned(),
        reference_at: (f64::from(at.x), y),
        value_at: (f64::from(at.x), y),
        from_left: false,
    }
}

/// A part that stands with its pad on `upper` up, at `at`; and where its lower end is.
pub(super) fn standing(plan: &Plan<'_>, part: &Part, upper: &str, at: Point) -> (Placed, Point) {
    let passive = Passive::of(plan, part, upper).expect("a row is made of parts on this rail");
    passive.placed(at, Side::Down, true)
}
