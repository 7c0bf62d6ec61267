// SPDX-License-Identifier: Apache-2.0
//! Takes away what the layout laid for the router and the router did not use: ends of tracks in nothing, vias that join nothing.

use super::geometry::{Point, Shape};
use super::{Board, Track, Via};
use crate::pcb::build::VIA;

/// Takes stubs away until there are none. A track that was joined somewhere along its way ends there.
pub fn prune(board: &mut Board) {
    loop {
        let tracks: Vec<Track> = board
            .tracks
            .iter()
            .filter_map(|it| kept(board, it))
            .collect();
        let keep: Vec<bool> = board.vias.iter().map(|via| joins(board, via)).collect();
        let same = tracks == board.tracks && keep.iter().all(|it| *it);
        board.tracks = tracks;
        let mut keep = keep.into_iter();
        board.vias.retain(|_| keep.next().unwrap_or(true));
        if same {
            return;
        }
    }
}

fn line(track: &Track) -> Shape {
    Shape::line(track.start, track.end, track.width)
}

/// What stays of a track.
fn kept(board: &Board, track: &Track) -> Option<Track> {
    match [track.start, track.end].map(|at| joined(board, track, at)) {
        [true, true] => Some(*track),
        [true, false] => shortened(board, track),
        [false, true] => shortened(
            board,
            &Track {
                start: track.end,
                end: track.start,
                ..*track
            },
        ),
        [false, false] => None,
    }
}

/// The track from its start to where the last other one of its net ends on it.
fn shortened(board: &Board, track: &Track) -> Option<Track> {
    let ends = board
        .tracks
        .iter()
        .filter(|other| (other.net, other.layer) == (track.net, track.layer))
        .flat_map(|other| [other.start, other.end]);
    let vias = board.vias.iter().filter(|via| via.net == track.net);
    ends.chain(vias.map(|via| via.at))
        .filter(|at| ![track.start, track.end].contains(at))
        .filter(|at| line(track).covers(*at))
        .max_by(|a, b| {
            let from = |at: &Point| track.start.distance(*at);
            from(a).total_cmp(&from(b))
        })
        .map(|end| Track { end, ..*track })
}

/// Whether a track's end is on something of its net.
fn joined(board: &Board, track: &Track, at: Point) -> bool {
    on_pad_or_zone(board, track.net, track.layer, at)
        || board
            .vias
            .iter()
            .any(|via| via.net == track.net && Shape::disc(via.at, VIA.diameter / 2).covers(at))
        || board.tracks.iter().any(|other| {
            (other.net, other.layer) == (track.net, track.layer)
                && (other.start, other.end) != (track.start, track.end)
                && (other.start, other.end) != (track.end, track.start)
                && line(other).covers(at)
        })
}

/// Whether a via meets its net on two layers at least.
fn joins(board: &Board, via: &Via) -> bool {
    let ring = Shape::disc(via.at, VIA.diameter / 2);
    let on = |layer: u8| {
        on_pad_or_zone(board, via.net, layer, via.at)
            || board.tracks.iter().any(|track| {
                (track.net, track.layer) == (via.net, layer) && line(track).gap(&ring) <= 0.0
            })
    };
    (0..4).filter(|layer| on(*layer)).count() >= 2
}

fn on_pad_or_zone(board: &Board, net: usize, layer: u8, at: Point) -> bool {
    let on_pad = || {
        board.parts.iter().any(|part| {
            part.nets.values().any(|it| *it == net)
                && part.pads().any(|pad| {
                    pad.net == net
                        && pad.layers & (1 << layer) != 0
                        && pad.copper.iter().any(|it| it.covers(at))
                })
        })
    };
    let in_zone = board.zones.iter().any(|zone| {
        (zone.net, zone.layer) == (net, layer) && Shape::area(zone.outline.clone()).covers(at)
    });
    in_zone || on_pad()
}
