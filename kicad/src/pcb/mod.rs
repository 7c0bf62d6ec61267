// SPDX-License-Identifier: Apache-2.0
//! A printed board: placed footprints, copper, outline and silk, from the intent and a layout.
//!
//! The layout says where things are; what is joined to what comes from the intent alone.

pub mod build;
pub mod fill;
pub mod geometry;
pub mod labels;
pub mod netlist;
pub mod rules;
pub mod stubs;
pub mod write;

use std::collections::BTreeMap;

use crate::footprints::{B_CU, F_CU, Footprint, Layers};
use geometry::{Bounds, Point, Shape};

/// A board, complete.
#[derive(Debug, Clone)]
pub struct Board {
    /// The project's name.
    pub project: &'static str,
    /// The board's title.
    pub title: &'static str,
    /// Its revision.
    pub revision: &'static str,
    /// The outline: closed, in order.
    pub outline: Vec<Edge>,
    /// The nets by KiCad's number; 0 is "no net".
    pub nets: Vec<String>,
    /// The intent's names of the nets, in the same order.
    pub intent: Vec<&'static str>,
    /// The parts.
    pub parts: Vec<PlacedPart>,
    /// Tracks.
    pub tracks: Vec<Track>,
    /// Vias.
    pub vias: Vec<Via>,
    /// Zones.
    pub zones: Vec<Zone>,
    /// Areas where something may not be.
    pub keepouts: Vec<Keepout>,
    /// Texts on silk.
    pub texts: Vec<Text>,
    /// Lines on silk: layer's name, start, end.
    pub silk_lines: Vec<(bool, Point, Point)>,
}

/// A piece of the outline.
#[derive(Debug, Clone, Copy)]
pub enum Edge {
    /// Straight.
    Line(Point, Point),
    /// An arc by start, middle and end.
    Arc(Point, Point, Point),
}

/// Where a part is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its footprint's origin.
    pub at: Point,
    /// Turned against the clock, in degrees.
    pub angle: f64,
    /// On the lower side.
    pub back: bool,
}

impl Place {
    /// A place of the footprint as a place of the board.
    #[must_use]
    pub fn point(&self, local: Point) -> Point {
        let local = if self.back {
            Point {
                x: local.x,
                y: -local.y,
            }
        } else {
            local
        };
        local.turned(self.angle).plus(self.at)
    }

    /// A shape likewise.
    #[must_use]
    pub fn shape(&self, shape: &Shape) -> Shape {
        shape.map(|point| self.point(point))
    }

    /// Layers as they lie on the board.
    #[must_use]
    pub fn layers(&self, layers: Layers) -> Layers {
        if !self.back {
            return layers;
        }
        (0..4).fold(0, |sum, bit| sum | ((layers >> bit) & 1) << (3 - bit))
    }
}

/// A part on the board.
#[derive(Debug, Clone)]
pub struct PlacedPart {
    /// The reference designator.
    pub reference: &'static str,
    /// The value.
    pub value: String,
    /// Its footprint.
    pub footprint: Footprint,
    /// Where it is.
    pub place: Place,
    /// Pad numbers and their nets' numbers.
    pub nets: BTreeMap<String, usize>,
    /// Where the schematic shows it.
    pub symbol: Option<Symbol>,
    /// Where its reference is written: `None` hides it.
    pub label: Option<Label>,
}

/// Where a part's symbol is, for parity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// The UUIDs of the sheets and the symbol, each after a slash.
    pub path: String,
    /// The sheet's name.
    pub sheet_name: String,
    /// The sheet's file.
    pub sheet_file: String,
}

/// Where a reference designator is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// Its middle on the board.
    pub at: Point,
    /// 0 or 90 degrees.
    pub angle: f64,
    /// The height of its letters.
    pub size: i64,
}

/// A pad as it lies on the board.
#[derive(Debug, Clone)]
pub struct PlacedPad {
    /// The number.
    pub number: String,
    /// The net's number.
    pub net: usize,
    /// Copper.
    pub copper: Vec<Shape>,
    /// Layers.
    pub layers: Layers,
    /// Hole.
    pub hole: Option<Shape>,
    /// The middle.
    pub centre: Point,
}

impl PlacedPart {
    /// The pads as they lie on the board.
    pub fn pads(&self) -> impl Iterator<Item = PlacedPad> + '_ {
        self.footprint.pads.iter().map(|pad| PlacedPad {
            number: pad.number.clone(),
            net: self.nets.get(&pad.number).copied().unwrap_or(0),
            copper: pad.copper.iter().map(|it| self.place.shape(it)).collect(),
            layers: if pad.layers == 0 && pad.hole.is_some() {
                crate::footprints::ALL
            } else {
                self.place.layers(pad.layers)
            },
            hole: pad.hole.as_ref().map(|it| self.place.shape(it)),
            centre: self.place.point(pad.centre),
        })
    }

    /// What its courtyard covers.
    #[must_use]
    pub fn courtyard(&self) -> Bounds {
        let Bounds { low, high } = self.footprint.courtyard;
        let corners = [
            low,
            Point {
                x: low.x,
                y: high.y,
            },
            high,
            Point {
                x: high.x,
                y: low.y,
            },
        ];
        Bounds::of(corners.map(|it| self.place.point(it))).expect("a rectangle has corners")
    }
}

/// A track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// The net's number.
    pub net: usize,
    /// The layer's bit number.
    pub layer: u8,
    /// From.
    pub start: Point,
    /// To.
    pub end: Point,
    /// Its width.
    pub width: i64,
    /// It may be narrower than its class asks: it taps the net for a part that draws little.
    pub tap: bool,
}

/// A via through the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The net's number.
    pub net: usize,
    /// Where.
    pub at: Point,
}

/// An area of copper.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// The net's number.
    pub net: usize,
    /// The layer's bit number.
    pub layer: u8,
    /// Its outline.
    pub outline: Vec<Point>,
    /// Higher ones go first.
    pub priority: u32,
    /// Pads are joined without spokes.
    pub solid: bool,
    /// The distance to other copper.
    pub clearance: i64,
    /// The narrowest part.
    pub least: i64,
    /// What KiCad filled.
    pub filled: Vec<Vec<Point>>,
}

/// An area where something may not be.
#[derive(Debug, Clone)]
pub struct Keepout {
    /// Its name.
    pub name: String,
    /// Its outline.
    pub outline: Vec<Point>,
    /// Where.
    pub layers: Layers,
    /// No tracks and vias.
    pub tracks: bool,
    /// No zones.
    pub zones: bool,
}

/// A text on silk.
#[derive(Debug, Clone)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// Its middle.
    pub at: Point,
    /// In degrees.
    pub angle: f64,
    /// The height of its letters.
    pub size: i64,
    /// On the lower side.
    pub back: bool,
}

/// The layer of copper that a side shows.
#[must_use]
pub fn side(back: bool) -> Layers {
    if back { B_CU } else { F_CU }
}
