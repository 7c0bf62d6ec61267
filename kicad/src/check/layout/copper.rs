// SPDX-License-Identifier: Apache-2.0
//! The copper of a `.kicad_pcb`, read back: pads, tracks, vias and filled areas with their nets.

use crate::footprints::{Footprint, FootprintError, LAYER_NAMES, Layers, point_of};
use crate::pcb::Place;
use crate::pcb::geometry::{Point, Shape, mm, nm};
use crate::sexpr::{Sexpr, SexprError, number};

/// Why a board cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No expression.
    #[error("the board's file")]
    Syntax(#[from] SexprError),
    /// A footprint in it.
    #[error("a footprint of the board")]
    Footprint(#[from] FootprintError),
    /// Something lacks a part.
    #[error("a {0} of the board is not complete")]
    Incomplete(&'static str),
}

/// A pad where it lies.
#[derive(Debug, Clone)]
pub struct PadCopper {
    /// The part.
    pub part: String,
    /// The pad's number.
    pub number: String,
    /// Its net's name.
    pub net: String,
    /// Its copper.
    pub copper: Vec<Shape>,
    /// Where.
    pub layers: Layers,
    /// Whether it goes through the board.
    pub hole: bool,
    /// Its middle.
    pub centre: Point,
}

/// A track.
#[derive(Debug, Clone)]
pub struct TrackCopper {
    /// Its net's name.
    pub net: String,
    /// The layer's number.
    pub layer: usize,
    /// From.
    pub start: Point,
    /// To.
    pub end: Point,
    /// Its width.
    pub width: i64,
}

impl TrackCopper {
    /// Its outline.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::line(self.start, self.end, self.width)
    }
}

/// An area as it was filled.
#[derive(Debug, Clone)]
pub struct Filled {
    /// Its net's name.
    pub net: String,
    /// The layer's number.
    pub layer: usize,
    /// Its outline.
    pub shape: Shape,
}

/// All copper.
#[derive(Debug, Clone, Default)]
pub struct Copper {
    /// Pads.
    pub pads: Vec<PadCopper>,
    /// Tracks.
    pub tracks: Vec<TrackCopper>,
    /// Vias as net and place.
    pub vias: Vec<(String, Point)>,
    /// Areas.
    pub filled: Vec<Filled>,
}

/// The last part of a net's name: the schematic puts the sheet's in front of a local one.
fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

fn layer_number(item: &Sexpr) -> Option<usize> {
    let name = item.field("layer")?;
    LAYER_NAMES.iter().position(|it| *it == name)
}

impl Copper {
    /// Reads a board.
    ///
    /// # Errors
    /// [`ReadError`] for what is no board.
    pub fn read(source: &str) -> Result<Self, ReadError> {
        let file = Sexpr::parse(source)?;
        let names: Vec<String> = file
            .all("net")
            .map(|net| short(net.argument(1).unwrap_or_default()))
            .collect();
        let net_of = |item: &Sexpr| {
            item.field("net")
                .and_then(|net| names.get(net.parse::<usize>().ok()?).cloned())
                .unwrap_or_default()
        };
        let mut copper = Self::default();
        for footprint in file.all("footprint") {
            copper.pads.extend(pads(footprint)?);
        }
        for track in file.all("segment") {
            let incomplete = || ReadError::Incomplete("track");
            let get = |name| track.get(name).and_then(point_of).ok_or_else(incomplete);
            let width = track.field("width").and_then(|it| it.parse().ok());
            copper.tracks.push(TrackCopper {
                net: net_of(track),
                layer: layer_number(track).ok_or_else(incomplete)?,
                start: get("start")?,
                end: get("end")?,
                width: width.map(nm).ok_or_else(incomplete)?,
            });
        }
        for via in file.all("via") {
            let at = via.get("at").and_then(point_of);
            let at = at.ok_or(ReadError::Incomplete("via"))?;
            copper.vias.push((net_of(via), at));
        }
        for zone in file.all("zone") {
            for area in zone.all("filled_polygon") {
                let pts = area.get("pts");
                copper.filled.push(Filled {
                    net: net_of(zone),
                    layer: layer_number(area).ok_or(ReadError::Incomplete("zone"))?,
                    shape: Shape::area(
                        pts.map(|pts| pts.all("xy").filter_map(point_of).collect())
                            .unwrap_or_default(),
                    ),
                });
            }
        }
        Ok(copper)
    }

    /// The pad of a part; several of one number give the first.
    #[must_use]
    pub fn pad(&self, part: &str, number: &str) -> Option<&PadCopper> {
        self.pads
            .iter()
            .find(|pad| pad.part == part && pad.number == number)
    }

    /// The tracks of a net.
    pub fn tracks_of<'a>(&'a self, net: &'a str) -> impl Iterator<Item = &'a TrackCopper> {
        self.tracks.iter().filter(move |track| track.net == net)
    }

    /// All shapes of a net on a layer.
    #[must_use]
    pub fn shapes(&self, net: &str, layer: usize) -> Vec<Shape> {
        let bit = 1 << layer;
        let pads = self
            .pads
            .iter()
            .filter(|pad| pad.net == net && pad.layers & bit != 0)
            .flat_map(|pad| pad.copper.iter().cloned());
        let tracks = self
            .tracks_of(net)
            .filter(|track| track.layer == layer)
            .map(TrackCopper::shape);
        let vias = self
            .vias
            .iter()
            .filter(|(on, _)| on == net)
            .map(|(_, at)| Shape::disc(*at, crate::pcb::build::VIA.diameter / 2));
        let filled = self
            .filled
            .iter()
            .filter(|area| area.net == net && area.layer == layer)
            .map(|area| area.shape.clone());
        pads.chain(tracks).chain(vias).chain(filled).collect()
    }

    /// The length of a net's tracks, in millimetres.
    #[must_use]
    pub fn length(&self, net: &str) -> f64 {
        self.tracks_of(net)
            .map(|track| track.start.distance(track.end) / 1e6)
            .sum()
    }
}

/// The pads of a footprint on a board: places are the footprint's, angles the board's.
fn pads(footprint: &Sexpr) -> Result<Vec<PadCopper>, ReadError> {
    let incomplete = || ReadError::Incomplete("footprint");
    let place = footprint.get("at").ok_or_else(incomplete)?;
    let at = point_of(place).ok_or_else(incomplete)?;
    let angle_of = |items: &[Sexpr]| items.get(3).and_then(Sexpr::number).unwrap_or_default();
    let angle = angle_of(place.items());
    let part = footprint
        .all("property")
        .find(|it| it.argument(0) == Some("Reference"))
        .and_then(|it| it.argument(1))
        .ok_or_else(incomplete)?
        .to_owned();
    let mut body = footprint.clone();
    for pad in body.items_mut().into_iter().flatten() {
        if pad.name() == Some("pad")
            && let Some(items) = pad.get_mut("at").and_then(Sexpr::items_mut)
        {
            let own = angle_of(items);
            items.truncate(3);
            items.push(number(own - angle));
        }
    }
    let nets: Vec<String> = footprint
        .all("pad")
        .map(|pad| short(pad.get("net").and_then(|it| it.argument(1)).unwrap_or("")))
        .collect();
    let place = Place {
        at,
        angle,
        back: false,
    };
    let read = Footprint::read(&part, body)?;
    Ok(read
        .pads
        .iter()
        .zip(nets)
        .map(|(pad, net)| PadCopper {
            part: part.clone(),
            number: pad.number.clone(),
            net,
            copper: pad.copper.iter().map(|it| place.shape(it)).collect(),
            layers: pad.layers,
            hole: pad.hole.is_some(),
            centre: place.point(pad.centre),
        })
        .collect())
}

/// From one pad's edge to another's, in millimetres.
#[must_use]
pub fn gap(one: &PadCopper, two: &PadCopper) -> f64 {
    let gaps = one
        .copper
        .iter()
        .flat_map(|a| two.copper.iter().map(move |b| a.gap(b)));
    gaps.fold(f64::INFINITY, f64::min) / 1e6
}

/// The area of a loop through these places, in square millimetres.
#[must_use]
pub fn loop_area(places: &[Point]) -> f64 {
    let twice: f64 = (0..places.len())
        .map(|i| {
            let (a, b) = (places[i], places[(i + 1) % places.len()]);
            mm(a.x) * mm(b.y) - mm(b.x) * mm(a.y)
        })
        .sum();
    twice.abs() / 2.0
}
