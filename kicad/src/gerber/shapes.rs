// SPDX-License-Identifier: Apache-2.0
//! Polygons of what Gerber draws, in millimetres.

use std::f64::consts::{PI, TAU};

/// A place in millimetres.
pub type Point = [f64; 2];

/// The corners of a polygon that closes itself.
pub type Contour = Vec<Point>;

/// Sides of a whole circle: 7.5 degrees each.
const SIDES: u32 = 48;

/// `from` moved by `by`.
#[must_use]
pub fn moved(from: Point, by: Point) -> Point {
    [from[0] + by[0], from[1] + by[1]]
}

/// `point` turned around the origin, counter-clockwise, by degrees.
#[must_use]
pub fn turned(point: Point, degrees: f64) -> Point {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    [
        point[0] * cosine - point[1] * sine,
        point[0] * sine + point[1] * cosine,
    ]
}

/// A regular polygon with its first corner at `start` radians.
#[must_use]
pub fn regular(centre: Point, radius: f64, sides: u32, start: f64) -> Contour {
    (0..sides)
        .map(|side| {
            let angle = start + TAU * f64::from(side) / f64::from(sides);
            moved(centre, [radius * angle.cos(), radius * angle.sin()])
        })
        .collect()
}

/// A circle.
#[must_use]
pub fn circle(centre: Point, diameter: f64) -> Contour {
    regular(centre, diameter / 2.0, SIDES, 0.0)
}

/// A rectangle around `centre`.
#[must_use]
pub fn rectangle(centre: Point, width: f64, height: f64) -> Contour {
    let (x, y) = (width / 2.0, height / 2.0);
    [[-x, -y], [x, -y], [x, y], [-x, y]]
        .map(|corner| moved(centre, corner))
        .to_vec()
}

/// What a round pen of `width` covers from one place to another.
#[must_use]
pub fn stroke(from: Point, to: Point, width: f64) -> Contour {
    if from == to {
        return circle(from, width);
    }
    let along = (to[1] - from[1]).atan2(to[0] - from[0]);
    let half = |centre: Point, start: f64| {
        (0..=SIDES / 2).map(move |side| {
            let angle = start + PI * f64::from(side) / f64::from(SIDES / 2);
            let radius = width / 2.0;
            moved(centre, [radius * angle.cos(), radius * angle.sin()])
        })
    };
    half(to, along - PI / 2.0)
        .chain(half(from, along + PI / 2.0))
        .collect()
}

/// A rectangle with round ends along its longer side.
#[must_use]
pub fn obround(centre: Point, width: f64, height: f64) -> Contour {
    let reach = (width - height).abs() / 2.0;
    let end = match width > height {
        true => [reach, 0.0],
        false => [0.0, reach],
    };
    let other = [-end[0], -end[1]];
    stroke(moved(centre, other), moved(centre, end), width.min(height))
}

/// The places along an arc after `from`, `to` included; a whole circle if they are the same.
#[must_use]
pub fn arc(from: Point, to: Point, centre: Point, clockwise: bool) -> Vec<Point> {
    let angle = |point: Point| (point[1] - centre[1]).atan2(point[0] - centre[0]);
    let radius = (from[0] - centre[0]).hypot(from[1] - centre[1]);
    let (start, end) = (angle(from), angle(to));
    let mut sweep = match clockwise {
        true => start - end,
        false => end - start,
    }
    .rem_euclid(TAU);
    if from == to || sweep < 1e-9 {
        sweep = TAU;
    }
    let mut points = Vec::new();
    let step = TAU / f64::from(SIDES);
    let mut at = step;
    while at < sweep - 1e-9 {
        let angle = start + if clockwise { -at } else { at };
        points.push(moved(centre, [radius * angle.cos(), radius * angle.sin()]));
        at += step;
    }
    points.push(to);
    points
}

/// Twice the area, positive if counter-clockwise.
#[must_use]
pub fn signed_area(contour: &[Point]) -> f64 {
    let next = contour.iter().cycle().skip(1);
    contour
        .iter()
        .zip(next)
        .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_area_they_should() {
        let near = |contour: &[Point], area: f64| {
            let found = signed_area(contour) / 2.0;
            assert!((found / area - 1.0).abs() < 0.005, "{found} for {area}");
        };
        near(&circle([3.0, -4.0], 2.0), PI);
        near(&rectangle([1.0, 1.0], 2.0, 3.0), 6.0);
        near(&stroke([0.0, 0.0], [3.0, 4.0], 1.0), 5.0 + PI / 4.0);
        near(&obround([0.0, 0.0], 1.0, 3.0), 2.0 + PI / 4.0);
    }

    #[test]
    fn an_arc_goes_round_the_way_it_is_told() {
        let (from, to) = ([1.0, 0.0], [0.0, 1.0]);
        assert_eq!(arc(from, to, [0.0, 0.0], false).len(), 12);
        assert_eq!(arc(from, to, [0.0, 0.0], true).len(), 36);
        assert_eq!(arc(from, from, [0.0, 0.0], false).len(), 48);
    }
}
