// SPDX-License-Identifier: Apache-2.0
//! What the router must do of a draft, and what it did as the board has it.

use std::collections::BTreeMap;

use super::{Draft, EDGE_CLEARANCE, PITCH, ROUTED, VIA, edge_shapes};
use crate::footprints::IN2;
use crate::pcb::geometry::{Bounds, Point, Shape, mm, nm};
use crate::pcb::{PlacedPad, Track, Via};
use crate::route::{self, Item, Kind, Problem, Rule, TRACKS};

impl Draft<'_> {
    /// What the router must do.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let board = &self.board;
        let mut items = Vec::new();
        let mut spans: BTreeMap<usize, Bounds> = BTreeMap::new();
        for part in &board.parts {
            for pad in part.pads() {
                if pad.net != 0 {
                    let bounds = Shape::disc(pad.centre, 0).bounds();
                    spans
                        .entry(pad.net)
                        .and_modify(|span| *span = span.and(bounds))
                        .or_insert(bounds);
                }
                items.extend(pad_items(&pad));
                // Foreign tracks between the holes of a thermal pad would cut its plane's spokes.
                let thermal =
                    |other: &PlacedPad| other.hole.is_some() && other.number == pad.number;
                let in_plane = board.zones.iter().any(|zone| {
                    zone.net == pad.net
                        && 1 << zone.layer == IN2
                        && Shape::area(zone.outline.clone()).covers(pad.centre)
                });
                if pad.hole.is_none() && in_plane && part.pads().any(|other| thermal(&other)) {
                    items.extend(pad.copper.iter().map(|shape| Item {
                        shape: shape.clone(),
                        layers: IN2,
                        net: pad.net,
                        kind: Kind::Keepout,
                        hole: None,
                    }));
                }
            }
        }
        let zones = board.zones.iter().enumerate();
        let mut planes = Vec::new();
        for (_, zone) in zones.filter(|(index, _)| !self.pours.contains(index)) {
            planes.push(zone.net);
            items.push(Item {
                shape: Shape::area(zone.outline.clone()),
                layers: 1 << zone.layer,
                net: zone.net,
                kind: if zone.solid { Kind::Zone } else { Kind::Plane },
                hole: None,
            });
        }
        items.extend(board.tracks.iter().map(|track| {
            let ends = (track.start, track.end);
            Item::track(track.net, track.layer, ends, track.width)
        }));
        items.extend(board.vias.iter().map(|it| Item::via(it.net, it.at, VIA)));
        items.extend(board.keepouts.iter().filter(|it| it.tracks).map(|it| Item {
            shape: Shape::area(it.outline.clone()),
            layers: it.layers,
            net: 0,
            kind: Kind::Keepout,
            hole: None,
        }));
        let nets = (0..board.nets.len()).map(|number| {
            let class = self.design.net(board.intent[number]).class;
            let span = spans.get(&number).map_or(0, |span| {
                (span.high.x - span.low.x) + (span.high.y - span.low.y)
            });
            Rule {
                width: self
                    .widths
                    .get(&number)
                    .copied()
                    .unwrap_or_else(|| nm(class.width.min(ROUTED))),
                clearance: nm(class.clearance),
                layers: TRACKS,
                order: match self.orders.get(&number) {
                    Some(order) => *order,
                    // Pads find their planes while there is room beside them; then the short ways.
                    None if planes.contains(&number) => 1_000,
                    None => 1_000_000 + span,
                },
            }
        });
        let edges = edge_shapes(&board.outline);
        let bounds = edges
            .iter()
            .map(Shape::bounds)
            .reduce(Bounds::and)
            .unwrap_or(Bounds {
                low: Point::default(),
                high: Point::default(),
            });
        Problem {
            bounds,
            pitch: nm(PITCH),
            items,
            nets: nets.collect(),
            via: VIA,
            edges,
            edge_clearance: nm(EDGE_CLEARANCE),
            hole_distance: nm(0.25),
        }
    }

    pub(super) fn add_paths(&mut self, problem: &Problem, paths: &[route::Path]) {
        for path in paths {
            let width = problem.nets[path.net].width;
            let class = self.design.net(self.board.intent[path.net]).class;
            for &(layer, start, end) in &path.tracks {
                self.board.tracks.push(Track {
                    net: path.net,
                    layer,
                    start,
                    end,
                    width,
                    tap: width < nm(class.width),
                });
            }
            self.board.vias.extend(path.vias.iter().map(|at| Via {
                net: path.net,
                at: *at,
            }));
        }
    }
}

fn pad_items(pad: &PlacedPad) -> Vec<Item> {
    pad.copper
        .iter()
        .map(|shape| {
            let bounds = shape.bounds();
            let area = mm(bounds.high.x - bounds.low.x) * mm(bounds.high.y - bounds.low.y);
            // A bare hole needs more distance than copper does.
            let shape = match &pad.hole {
                Some(hole) if pad.net == 0 && pad.number.is_empty() => Shape {
                    corners: hole.corners.clone(),
                    radius: hole.radius + nm(0.05),
                },
                _ => shape.clone(),
            };
            Item {
                shape,
                layers: pad.layers,
                net: pad.net,
                kind: if area > 4.0 { Kind::WidePad } else { Kind::Pad },
                hole: pad.hole.clone(),
            }
        })
        .collect()
}
