// SPDX-License-Identifier: Apache-2.0
//! A board being laid out: parts are put, areas and tracks drawn by hand, then the router joins the rest.
//!
//! Lengths are in millimetres from the board's upper left corner, to the right and downwards.

mod problem;

use std::collections::BTreeMap;

use super::geometry::{Point, Shape, at, mm, nm};
use super::{
    Board, Edge, Keepout, Place, PlacedPart, Symbol, Text, Track, Via, Zone, labels, stubs,
};
use crate::design::Design;
use crate::footprints::{FootprintError, Layers, Library};
use crate::route::{self, Unrouted, ViaRule};

/// The one kind of via: ordinary at any house.
pub const VIA: ViaRule = ViaRule {
    diameter: 600_000,
    drill: 300_000,
};

/// Where the board's corner is on KiCad's sheet.
pub const ORIGIN: (f64, f64) = (100.0, 60.0);

/// Copper to the board's edge.
const EDGE_CLEARANCE: f64 = 0.3;
/// The router's grid.
const PITCH: f64 = 0.1;
/// The widest that the router lays; more current needs an area.
const ROUTED: f64 = 0.3;

/// What the schematic calls nets and where its symbols are. Empty, nets are called as in the intent.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    /// (Part, pad) to the net's name.
    pub nets: BTreeMap<(String, String), String>,
    /// Part to its symbol.
    pub symbols: BTreeMap<String, Symbol>,
}

/// Why a board is not complete.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A footprint.
    #[error("the board's footprints")]
    Footprint(#[from] FootprintError),
    /// Parts without place.
    #[error("parts of the circuit that the layout does not place: {0:?}")]
    Unplaced(Vec<&'static str>),
    /// Parts that stand in each other.
    #[error("courtyards that overlap: {0:?}")]
    Overlap(Vec<(&'static str, &'static str)>),
    /// Connections that found no way.
    #[error("no way for {0:?}")]
    Unrouted(Vec<String>),
    /// Test points, connectors and buttons whose name finds no room on silk.
    #[error("no room on silk for the names of {0:?}")]
    Nameless(Vec<String>),
}

/// A board being laid out.
pub struct Draft<'a> {
    design: &'a Design,
    library: &'a mut Library,
    binding: &'a Binding,
    /// What there is so far.
    pub board: Board,
    net_numbers: BTreeMap<&'static str, usize>,
    pours: Vec<usize>,
    widths: BTreeMap<usize, i64>,
    orders: BTreeMap<usize, i64>,
    mistakes: Vec<String>,
}

/// A place on the sheet.
fn place(x: f64, y: f64) -> Point {
    at(x + ORIGIN.0, y + ORIGIN.1)
}

impl<'a> Draft<'a> {
    /// An empty board for a circuit.
    #[must_use]
    pub fn new(design: &'a Design, library: &'a mut Library, binding: &'a Binding) -> Self {
        let mut nets = vec![String::new()];
        let mut intent = vec![""];
        let mut net_numbers = BTreeMap::new();
        for (name, pads) in design.connections() {
            let bound = pads
                .iter()
                .find_map(|(part, pad)| binding.nets.get(&((*part).to_owned(), (*pad).to_owned())))
                .map_or(name, String::as_str);
            net_numbers.insert(name, nets.len());
            nets.push(bound.to_owned());
            intent.push(name);
        }
        Self {
            design,
            library,
            binding,
            board: Board {
                project: design.name,
                title: design.title,
                revision: design.revision,
                outline: Vec::new(),
                nets,
                intent,
                parts: Vec::new(),
                tracks: Vec::new(),
                vias: Vec::new(),
                zones: Vec::new(),
                keepouts: Vec::new(),
                texts: Vec::new(),
                silk_lines: Vec::new(),
            },
            net_numbers,
            pours: Vec::new(),
            widths: BTreeMap::new(),
            orders: BTreeMap::new(),
            mistakes: Vec::new(),
        }
    }

    fn net(&mut self, name: &str) -> usize {
        self.net_numbers.get(name).copied().unwrap_or_else(|| {
            self.mistakes.push(format!("net {name}"));
            0
        })
    }

    /// Puts a part on the upper side.
    pub fn put(&mut self, reference: &str, x: f64, y: f64, angle: f64) {
        self.put_on(reference, x, y, angle, false);
    }

    /// Puts parts on the upper side.
    pub fn put_all(&mut self, parts: &[(&str, f64, f64, f64)]) {
        for &(reference, x, y, angle) in parts {
            self.put(reference, x, y, angle);
        }
    }

    /// Puts a part on the lower side; `angle` as KiCad shows it.
    pub fn put_below(&mut self, reference: &str, x: f64, y: f64, angle: f64) {
        self.put_on(reference, x, y, angle, true);
    }

    fn put_on(&mut self, reference: &str, x: f64, y: f64, angle: f64, back: bool) {
        let Some(part) = self.design.part(reference) else {
            self.mistakes.push(format!("part {reference}"));
            return;
        };
        let footprint = match self.library.get(part.footprint) {
            Ok(footprint) => footprint.clone(),
            Err(error) => {
                self.mistakes.push(format!("{reference}: {error}"));
                return;
            }
        };
        let mut nets = BTreeMap::new();
        for pin in &part.pins {
            let bound = self
                .binding
                .nets
                .get(&(reference.to_owned(), pin.number.to_owned()));
            let number = match (self.net_numbers.get(pin.net), bound) {
                (Some(number), _) => *number,
                (None, Some(open)) => {
                    self.board.nets.push(open.clone());
                    self.board.intent.push("");
                    self.board.nets.len() - 1
                }
                (None, None) => continue,
            };
            nets.insert(pin.number.to_owned(), number);
        }
        self.board.parts.push(PlacedPart {
            reference: part.reference,
            value: part.value.clone(),
            footprint,
            place: Place {
                at: place(x, y),
                angle: angle.rem_euclid(360.0),
                back,
            },
            nets,
            symbol: self.binding.symbols.get(reference).cloned(),
            label: None,
        });
    }

    /// The middle of a pad that was put.
    pub fn pad(&mut self, reference: &str, number: &str) -> (f64, f64) {
        let found = self
            .board
            .parts
            .iter()
            .find(|part| part.reference == reference)
            .and_then(|part| part.pads().find(|pad| pad.number == number));
        if let Some(pad) = found {
            (mm(pad.centre.x) - ORIGIN.0, mm(pad.centre.y) - ORIGIN.1)
        } else {
            self.mistakes.push(format!("pad {number} of {reference}"));
            (0.0, 0.0)
        }
    }

    /// Draws a track through `points` on a layer (0 is the upper side, 3 the lower).
    pub fn run(&mut self, net: &str, layer: u8, width: f64, points: &[(f64, f64)]) {
        let number = self.net(net);
        let tap = nm(width) < nm(self.design.net(net).class.width);
        for pair in points.windows(2) {
            self.board.tracks.push(Track {
                net: number,
                layer,
                start: place(pair[0].0, pair[0].1),
                end: place(pair[1].0, pair[1].1),
                width: nm(width),
                tap,
            });
        }
    }

    /// Sets vias.
    pub fn vias(&mut self, net: &str, places: &[(f64, f64)]) {
        let net = self.net(net);
        self.board.vias.extend(places.iter().map(|&(x, y)| Via {
            net,
            at: place(x, y),
        }));
    }

    /// An area of a power net: its copper carries current, pads are joined without spokes, other nets keep out of it.
    pub fn area(&mut self, name: &str, net: &str, layer: u8, outline: &[(f64, f64)]) {
        self.zone(name, net, layer, outline, 10, true);
    }

    /// An inner plane, below other zones.
    pub fn plane(
        &mut self,
        name: &str,
        net: &str,
        layer: u8,
        outline: &[(f64, f64)],
        priority: u32,
    ) {
        self.zone(name, net, layer, outline, priority, false);
    }

    /// What fills the rest of an outer layer; nothing depends on it.
    pub fn pour(&mut self, name: &str, net: &str, layer: u8, outline: &[(f64, f64)]) {
        self.pours.push(self.board.zones.len());
        self.zone(name, net, layer, outline, 0, true);
    }

    fn zone(
        &mut self,
        name: &str,
        net: &str,
        layer: u8,
        outline: &[(f64, f64)],
        priority: u32,
        solid: bool,
    ) {
        let clearance = nm(self.design.net(net).class.clearance.max(0.2));
        let net = self.net(net);
        // The name is what tells them apart when KiCad has filled them.
        if self
            .board
            .zones
            .iter()
            .any(|it| (it.name.as_str(), it.layer) == (name, layer))
        {
            self.mistakes.push(format!("two areas called {name}"));
        }
        self.board.zones.push(Zone {
            name: name.into(),
            net,
            layer,
            outline: outline.iter().map(|&(x, y)| place(x, y)).collect(),
            priority,
            solid,
            clearance,
            least: nm(0.2),
            filled: Vec::new(),
        });
    }

    /// No tracks or no zones here.
    pub fn keep_out(&mut self, name: &str, layers: Layers, outline: &[(f64, f64)], zones: bool) {
        self.board.keepouts.push(Keepout {
            name: name.into(),
            outline: outline.iter().map(|&(x, y)| place(x, y)).collect(),
            layers,
            tracks: true,
            zones,
        });
    }

    /// A text on silk.
    pub fn text(&mut self, text: &str, x: f64, y: f64, angle: f64, size: f64, back: bool) {
        self.board.texts.push(Text {
            text: text.into(),
            at: place(x, y),
            angle,
            size: nm(size),
            back,
        });
    }

    /// Straight pieces of the outline.
    pub fn edge(&mut self, points: &[(f64, f64)]) {
        self.board.outline.extend(
            points
                .windows(2)
                .map(|pair| Edge::Line(place(pair[0].0, pair[0].1), place(pair[1].0, pair[1].1))),
        );
    }

    /// A quarter of a circle about `centre`, from one angle on (0 is to the right, 90 downwards), with the sheet's clock.
    pub fn corner(&mut self, centre: (f64, f64), radius: f64, from: f64) {
        let on = |degrees: f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            place(centre.0 + radius * cos, centre.1 + radius * sin)
        };
        self.board
            .outline
            .push(Edge::Arc(on(from), on(from + 45.0), on(from + 90.0)));
    }

    /// An arc of the outline by start, middle and end.
    pub fn arc(&mut self, start: (f64, f64), middle: (f64, f64), end: (f64, f64)) {
        let [start, middle, end] = [start, middle, end].map(|(x, y)| place(x, y));
        self.board.outline.push(Edge::Arc(start, middle, end));
    }

    /// The router lays this net so wide.
    pub fn width(&mut self, net: &str, width: f64) {
        let number = self.net(net);
        self.widths.insert(number, nm(width));
    }

    /// The router lays these nets first.
    pub fn first(&mut self, nets: &[&str]) {
        for (order, net) in (0..).zip(nets) {
            let number = self.net(net);
            self.orders.insert(number, order);
        }
    }

    /// Checks that all is placed, routes the rest and writes the references. With the error comes the board as far as it got.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn finish(mut self, rounds: usize) -> Result<Board, (BuildError, Box<Board>)> {
        let missing: Vec<_> = self
            .design
            .parts
            .iter()
            .map(|part| part.reference)
            .filter(|it| !self.board.parts.iter().any(|part| part.reference == *it))
            .collect();
        if !missing.is_empty() {
            return Err((BuildError::Unplaced(missing), Box::new(self.board)));
        }
        if !self.mistakes.is_empty() {
            let mistakes = std::mem::take(&mut self.mistakes);
            return Err((BuildError::Unrouted(mistakes), Box::new(self.board)));
        }
        let overlaps = overlaps(&self.board);
        let problem = self.problem();
        let (laid, open) = match route::route(&problem, rounds) {
            Ok(laid) => (laid, Vec::new()),
            Err(Unrouted { open, laid }) => (laid, open),
        };
        self.add_paths(&problem, &laid);
        let open: Vec<String> = open
            .iter()
            .map(|(net, place)| {
                let (x, y) = (mm(place.x) - ORIGIN.0, mm(place.y) - ORIGIN.1);
                format!("{} at {x:.1}, {y:.1}", self.board.intent[*net])
            })
            .collect();
        stubs::prune(&mut self.board);
        let hidden = labels::write(&mut self.board);
        if !overlaps.is_empty() {
            return Err((BuildError::Overlap(overlaps), Box::new(self.board)));
        }
        if !open.is_empty() {
            return Err((BuildError::Unrouted(open), Box::new(self.board)));
        }
        let nameless: Vec<String> = hidden
            .into_iter()
            .filter(|reference| labels::is_sought(reference))
            .map(str::to_owned)
            .collect();
        if !nameless.is_empty() {
            return Err((BuildError::Nameless(nameless), Box::new(self.board)));
        }
        Ok(self.board)
    }
}

/// The outline as lines.
#[must_use]
pub fn edge_shapes(outline: &[Edge]) -> Vec<Shape> {
    outline
        .iter()
        .flat_map(|edge| match *edge {
            Edge::Line(a, b) => vec![Shape::line(a, b, 0)],
            Edge::Arc(a, middle, b) => arc(a, middle, b),
        })
        .collect()
}

/// A circle's arc as sixteen chords.
fn arc(start: Point, middle: Point, end: Point) -> Vec<Shape> {
    let [(ax, ay), (bx, by), (cx, cy)] = [start, middle, end].map(|it| (mm(it.x), mm(it.y)));
    let twice = 2.0 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by));
    if twice.abs() < 1e-9 {
        return vec![Shape::line(start, end, 0)];
    }
    let [a, b, c] = [(ax, ay), (bx, by), (cx, cy)].map(|(x, y)| x * x + y * y);
    let x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / twice;
    let y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / twice;
    let radius = (ax - x).hypot(ay - y);
    let angle = |px: f64, py: f64| (py - y).atan2(px - x);
    let (from, through, to) = (angle(ax, ay), angle(bx, by), angle(cx, cy));
    let turn = std::f64::consts::TAU;
    // With the clock or against it, whichever passes the middle.
    let mut sweep = (to - from).rem_euclid(turn);
    if (through - from).rem_euclid(turn) > sweep {
        sweep -= turn;
    }
    let points: Vec<Point> = (0..=16)
        .map(|i| {
            let (sin, cos) = (from + sweep * f64::from(i) / 16.0).sin_cos();
            at(x + radius * cos, y + radius * sin)
        })
        .collect();
    points
        .windows(2)
        .map(|pair| Shape::line(pair[0], pair[1], 0))
        .collect()
}

/// Pairs of parts whose courtyards overlap on one side.
#[must_use]
pub fn overlaps(board: &Board) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for (index, one) in board.parts.iter().enumerate() {
        for two in &board.parts[..index] {
            let (a, b) = (one.courtyard().grown(-1_000), two.courtyard());
            if one.place.back == two.place.back && a.meets(&b.grown(-1_000)) {
                found.push((two.reference, one.reference));
            }
        }
    }
    found
}
