// SPDX-License-Identifier: Apache-2.0
//! Where the references are written on silk: beside their part, on nothing else. One that finds no room is not written; the
//! assembly drawing and the interactive bill of materials have it.

use super::build::edge_shapes;
use super::geometry::{Bounds, Point, Shape, nm};
use super::{Board, Label, PlacedPart, Text};
use crate::footprints::{B_CU, F_CU};

/// Height of the letters: the smallest that any house prints.
const SIZE: i64 = 800_000;
/// From text to anything else.
const GAP: i64 = 150_000;

/// The room that a text takes, as KiCad's stroke font draws it.
#[must_use]
pub fn room(text: &str, at: Point, angle: f64, size: i64) -> Bounds {
    let letters = i64::try_from(text.chars().count()).unwrap_or(0);
    let (width, height) = (letters * size * 24 / 25 + size / 8, size * 6 / 5);
    let (width, height) = if angle.rem_euclid(180.0) == 90.0 {
        (height, width)
    } else {
        (width, height)
    };
    Bounds {
        low: Point {
            x: at.x - width / 2,
            y: at.y - height / 2,
        },
        high: Point {
            x: at.x + width / 2,
            y: at.y + height / 2,
        },
    }
}

fn area(bounds: &Bounds) -> Shape {
    let Bounds { low, high } = *bounds;
    Shape::area(vec![
        low,
        Point {
            x: high.x,
            y: low.y,
        },
        high,
        Point {
            x: low.x,
            y: high.y,
        },
    ])
}

/// What silk may not cover on one side.
fn obstacles(board: &Board, back: bool) -> Vec<Shape> {
    let side = if back { B_CU } else { F_CU };
    let mut shapes = Vec::new();
    for part in &board.parts {
        for pad in part.pads() {
            if pad.layers & side != 0 {
                shapes.extend(pad.copper.iter().cloned());
            }
            shapes.extend(pad.hole.clone());
        }
        if part.place.back == back {
            shapes.extend(part.footprint.silk.iter().map(|it| part.place.shape(it)));
        }
    }
    shapes.extend(edge_shapes(&board.outline));
    let texts = board.texts.iter().filter(|text| text.back == back);
    shapes.extend(texts.map(
        |Text {
             text,
             at,
             angle,
             size,
             ..
         }| { area(&room(text, *at, *angle, *size)) },
    ));
    shapes
}

fn candidates(part: &PlacedPart) -> Vec<(Point, f64)> {
    let Bounds { low, high } = part.courtyard();
    let middle = part.courtyard().centre();
    let half = SIZE * 6 / 10 + nm(0.05);
    let letters = i64::try_from(part.reference.len()).unwrap_or(3);
    let long = letters * SIZE * 24 / 50 + SIZE / 16 + nm(0.05);
    let mut found = Vec::new();
    for out in [0, 200_000, 450_000, 800_000] {
        for slide in [
            0, -400_000, 400_000, -900_000, 900_000, -1_500_000, 1_500_000,
        ] {
            let (x, y) = (middle.x + slide, middle.y + slide);
            for (angle, across, along) in [(0.0, long, half), (90.0, half, long)] {
                let (across, along) = (across + out, along + out);
                let places = [
                    (x, low.y - along),
                    (x, high.y + along),
                    (low.x - across, y),
                    (high.x + across, y),
                ];
                found.extend(places.map(|(x, y)| (Point { x, y }, angle)));
            }
        }
    }
    found
}

/// Whether a person with the board in hand looks for it by name: test points, connectors, jumpers, buttons.
#[must_use]
pub fn is_sought(reference: &str) -> bool {
    ["TP", "J", "SW"]
        .iter()
        .any(|kind| reference.starts_with(kind))
}

/// Writes all references; gives those that found no room.
pub fn write(board: &mut Board) -> Vec<&'static str> {
    let mut hidden = Vec::new();
    for back in [false, true] {
        let mut taken = obstacles(board, back);
        let yards: Vec<_> = board
            .parts
            .iter()
            .filter(|part| part.place.back == back)
            .map(|part| (part.reference, part.courtyard()))
            .collect();
        // What is sought first; then large parts, whose letters have the least choice.
        let mut order: Vec<usize> = (0..board.parts.len()).collect();
        order.sort_by_key(|index| {
            let Bounds { low, high } = board.parts[*index].courtyard();
            (
                !is_sought(board.parts[*index].reference),
                std::cmp::Reverse((high.x - low.x).max(high.y - low.y) / 3_000_000),
                *index,
            )
        });
        for index in order {
            let part = &board.parts[index];
            if part.place.back != back {
                continue;
            }
            let mut free = candidates(part).into_iter().filter(|(at, angle)| {
                let text = room(part.reference, *at, *angle, SIZE);
                let grown = text.grown(GAP);
                let shape = area(&text);
                yards
                    .iter()
                    .all(|(other, yard)| *other == part.reference || !yard.meets(&text))
                    && taken.iter().all(|it| {
                        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                        let gap = GAP as f64;
                        !it.bounds().meets(&grown) || it.gap(&shape) > gap
                    })
                    && inside(board, &grown)
            });
            let found = free.next();
            drop(free);
            if let Some((at, angle)) = found {
                taken.push(area(&room(part.reference, at, angle, SIZE)));
                board.parts[index].label = Some(Label {
                    at,
                    angle,
                    size: SIZE,
                });
            } else {
                hidden.push(board.parts[index].reference);
            }
        }
    }
    hidden
}

fn inside(board: &Board, room: &Bounds) -> bool {
    let edges = edge_shapes(&board.outline);
    let Some(bounds) = edges.iter().map(Shape::bounds).reduce(Bounds::and) else {
        return true;
    };
    bounds.contains(room.low) && bounds.contains(room.high) && {
        // On the board, not beside it in a bay of the outline.
        let centre = room.centre();
        let mut crossings = 0;
        for edge in &edges {
            let (a, b) = (
                edge.corners[0],
                *edge.corners.last().unwrap_or(&edge.corners[0]),
            );
            if (a.y > centre.y) != (b.y > centre.y) {
                let part = i128::from(centre.y - a.y) * i128::from(b.x - a.x);
                let x = i128::from(a.x) + part / i128::from(b.y - a.y);
                crossings += usize::from(x > i128::from(centre.x));
            }
        }
        crossings % 2 == 1
    }
}
