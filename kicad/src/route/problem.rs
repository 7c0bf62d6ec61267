// SPDX-License-Identifier: Apache-2.0
//! What the router is given and what it gives.

use super::search::Node;
use crate::footprints::{ALL, B_CU, F_CU, IN2, Layers};
use crate::pcb::geometry::{Bounds, Point, Shape};

/// The layers with tracks: both outer ones, and where those are full the lower inner one, at a price, whose planes then withdraw. The
/// upper inner layer stays whole: it is the ground that pairs and loops refer to.
pub const TRACKS: Layers = F_CU | IN2 | B_CU;

/// What is to be routed.
#[derive(Debug)]
pub struct Problem {
    /// The board.
    pub bounds: Bounds,
    /// The distance of the grid's lines.
    pub pitch: i64,
    /// All that does not move.
    pub items: Vec<Item>,
    /// The nets' rules by number; 0 is what belongs to none.
    pub nets: Vec<Rule>,
    /// The one kind of via.
    pub via: ViaRule,
    /// The board's edge.
    pub edges: Vec<Shape>,
    /// Copper to the edge.
    pub edge_clearance: i64,
    /// Between the walls of two holes.
    pub hole_distance: i64,
}

/// What holds for one net.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Of its tracks.
    pub width: i64,
    /// To other nets.
    pub clearance: i64,
    /// Where its tracks may be.
    pub layers: Layers,
    /// Lower ones are routed first.
    pub order: i64,
}

/// Size of a via.
#[derive(Debug, Clone, Copy)]
pub struct ViaRule {
    /// Of its copper.
    pub diameter: i64,
    /// Of its hole.
    pub drill: i64,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pad.
    Pad,
    /// A large pad, into which vias may go: a thermal pad.
    WidePad,
    /// A track or a via.
    Track,
    /// An area that is filled: tracks and vias of its net end anywhere in it.
    Zone,
    /// An inner plane: as [`Kind::Zone`] for its own net, and it withdraws from others' tracks.
    Plane,
    /// Nothing may be here but what is of its net.
    Keepout,
}

/// A piece of copper.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its outline.
    pub shape: Shape,
    /// Where it is.
    pub layers: Layers,
    /// Its net; 0 for none.
    pub net: usize,
    /// What it is.
    pub kind: Kind,
    /// Its hole.
    pub hole: Option<Shape>,
}

impl Item {
    /// A track.
    #[must_use]
    pub fn track(net: usize, layer: u8, (start, end): (Point, Point), width: i64) -> Self {
        Self {
            shape: Shape::line(start, end, width),
            layers: 1 << layer,
            net,
            kind: Kind::Track,
            hole: None,
        }
    }

    /// A via.
    #[must_use]
    pub fn via(net: usize, at: Point, via: ViaRule) -> Self {
        Self {
            shape: Shape::disc(at, via.diameter / 2),
            layers: ALL,
            net,
            kind: Kind::Track,
            hole: Some(Shape::disc(at, via.drill / 2)),
        }
    }
}

/// A connection that was laid.
#[derive(Debug, Clone)]
pub struct Path {
    /// The net.
    pub net: usize,
    /// Tracks as layer, start and end.
    pub tracks: Vec<(u8, Point, Point)>,
    /// Vias.
    pub vias: Vec<Point>,
    pub(super) nodes: Vec<Node>,
    pub(super) items: Vec<Item>,
}

/// Nets that found no way, with two places that should be joined.
#[derive(Debug, thiserror::Error)]
#[error("{} connections found no way", open.len())]
pub struct Unrouted {
    /// Net and a place of the piece that is left over.
    pub open: Vec<(usize, Point)>,
    /// What was laid of the rest.
    pub laid: Vec<Path>,
}
