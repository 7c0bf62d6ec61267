// SPDX-License-Identifier: Apache-2.0
//! From what was drawn to islands: connected pieces of copper on one layer.

use i_overlay::{
    core::{fill_rule::FillRule, overlay::Overlay, overlay_rule::OverlayRule},
    i_float::int::point::IntPoint,
};

use super::{
    excellon::Hole,
    format::{Layer, Object},
    shapes::{Point, signed_area},
};

/// Of a millimetre: 0.1 µm.
const PER_MILLIMETRE: f64 = 10_000.0;

type Shapes = Vec<Vec<Vec<IntPoint<i32>>>>;

/// A connected piece of copper.
#[derive(Debug)]
pub struct Island {
    /// The layer's number, from one at the top.
    pub layer: usize,
    /// The outline first, then its holes.
    contours: Vec<Vec<Point>>,
    low: Point,
    high: Point,
}

impl Island {
    /// Whether there is copper at `point`.
    #[must_use]
    pub fn holds(&self, point: Point) -> bool {
        self.is_near(point, point, 0.0)
            && self
                .edges()
                .filter(|(a, b)| (a[1] > point[1]) != (b[1] > point[1]))
                .filter(|(a, b)| {
                    let along = (point[1] - a[1]) / (b[1] - a[1]);
                    point[0] < a[0] + along * (b[0] - a[0])
                })
                .count()
                % 2
                == 1
    }

    /// Whether the wall of the hole meets this copper.
    #[must_use]
    pub fn meets(&self, hole: &Hole) -> bool {
        let radius = hole.diameter / 2.0;
        self.is_near(hole.from, hole.to, radius)
            && (self.holds(hole.from)
                || self
                    .edges()
                    .any(|(a, b)| distance((a, b), (hole.from, hole.to)) < radius))
    }

    /// A place on its outline, to say where it is.
    #[must_use]
    pub fn place(&self) -> Point {
        self.contours[0][0]
    }

    fn is_near(&self, a: Point, b: Point, radius: f64) -> bool {
        (0..2).all(|axis| {
            a[axis].max(b[axis]) + radius >= self.low[axis]
                && a[axis].min(b[axis]) - radius <= self.high[axis]
        })
    }

    fn edges(&self) -> impl Iterator<Item = (Point, Point)> {
        self.contours.iter().flat_map(|contour| {
            let next = contour.iter().cycle().skip(1);
            contour.iter().copied().zip(next.copied())
        })
    }
}

/// Between two segments.
fn distance(one: (Point, Point), other: (Point, Point)) -> f64 {
    let cross = |o: Point, a: Point, b: Point| {
        (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])
    };
    let sides =
        |of: (Point, Point), a: Point, b: Point| cross(of.0, of.1, a) * cross(of.0, of.1, b) < 0.0;
    if sides(one, other.0, other.1) && sides(other, one.0, one.1) {
        return 0.0;
    }
    let to = |point: Point, (a, b): (Point, Point)| {
        let along = [b[0] - a[0], b[1] - a[1]];
        let length = along[0] * along[0] + along[1] * along[1];
        let share = match length > 0.0 {
            true => ((point[0] - a[0]) * along[0] + (point[1] - a[1]) * along[1]) / length,
            false => 0.0,
        };
        let share = share.clamp(0.0, 1.0);
        (a[0] + share * along[0] - point[0]).hypot(a[1] + share * along[1] - point[1])
    };
    to(one.0, other)
        .min(to(one.1, other))
        .min(to(other.0, one))
        .min(to(other.1, one))
}

/// The islands of a layer: what is dark united, what is clear taken away, in the order of drawing.
#[must_use]
pub fn islands(layer: &Layer) -> Vec<Island> {
    let mut copper: Shapes = Vec::new();
    for objects in layer.objects.chunk_by(|a, b| a.dark == b.dark) {
        let contours: Vec<_> = objects.iter().map(rounded).collect();
        let mut overlay = Overlay::<i32>::new(contours.iter().map(Vec::len).sum());
        let rule = match objects[0].dark {
            true => {
                overlay.add_source(&contours, i_overlay::core::overlay::ShapeType::Subject);
                overlay.add_source(&copper, i_overlay::core::overlay::ShapeType::Subject);
                OverlayRule::Subject
            }
            false => {
                overlay.add_source(&copper, i_overlay::core::overlay::ShapeType::Subject);
                overlay.add_source(&contours, i_overlay::core::overlay::ShapeType::Clip);
                OverlayRule::Difference
            }
        };
        copper = overlay.overlay(rule, FillRule::NonZero);
    }
    copper
        .into_iter()
        .map(|shape| island(layer.number, &shape))
        .collect()
}

fn island(layer: usize, shape: &[Vec<IntPoint<i32>>]) -> Island {
    let contours: Vec<Vec<Point>> = shape
        .iter()
        .map(|contour| {
            let points = contour.iter();
            points
                .map(|point| [point.x, point.y].map(|value| f64::from(value) / PER_MILLIMETRE))
                .collect()
        })
        .collect();
    let points = || contours.iter().flatten();
    let bound = |axis: usize, pick: fn(f64, f64) -> f64, start| {
        points().fold(start, |bound, point| pick(bound, point[axis]))
    };
    let low = [0, 1].map(|axis| bound(axis, f64::min, f64::INFINITY));
    let high = [0, 1].map(|axis| bound(axis, f64::max, f64::NEG_INFINITY));
    Island {
        layer,
        contours,
        low,
        high,
    }
}

/// Counter-clockwise, so that shapes of opposite directions do not undo each other.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates, and a board is smaller than 200 m"
)]
fn rounded(object: &Object) -> Vec<IntPoint<i32>> {
    let whole = |value: f64| (value * PER_MILLIMETRE).round() as i32;
    let mut points: Vec<_> = object
        .contour
        .iter()
        .map(|point| IntPoint::new(whole(point[0]), whole(point[1])))
        .collect();
    if signed_area(&object.contour) < 0.0 {
        points.reverse();
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gerber::format::{read, tests::layer};

    fn of(body: &str) -> Vec<Island> {
        islands(&read(&layer(1, body)).unwrap())
    }

    fn hole(x: f64, y: f64, diameter: f64) -> Hole {
        Hole {
            from: [x, y],
            to: [x, y],
            diameter,
        }
    }

    #[test]
    fn shapes_that_touch_are_one_island_and_others_are_not() {
        let pads = "D11*\nX0Y0D03*\nX4000000Y0D03*\n";
        assert_eq!(of(pads).len(), 2);
        let track = format!("{pads}D10*\nX0Y0D02*\nX4000000Y0D01*\n");
        assert_eq!(of(&track).len(), 1);
        let short_track = format!("{pads}D10*\nX0Y0D02*\nX2700000Y0D01*\n");
        assert_eq!(of(&short_track).len(), 2, "it ends 50 µm before the pad");
        let touching = format!("{pads}D10*\nX0Y0D02*\nX2750100Y0D01*\n");
        assert_eq!(of(&touching).len(), 1);
    }

    #[test]
    fn what_is_cleared_is_no_copper() {
        let cut = of("D11*\nX0Y0D03*\n%LPC*%\nD10*\nX0Y-2000000D02*\nX0Y2000000D01*\n");
        assert_eq!(cut.len(), 2);
        assert!(!cut.iter().any(|island| island.holds([0.0, 0.0])));
        assert!(cut.iter().any(|island| island.holds([0.5, 0.0])));
    }

    #[test]
    fn a_zone_cut_open_to_its_hole_has_a_hole() {
        let zone = of(
            "G36*\nX0Y0D02*\nX9000000Y0D01*\nX9000000Y9000000D01*\nX0Y9000000D01*\nX0Y3000000D01*\nX3000000Y3000000D01*\n\
             X3000000Y6000000D01*\nX6000000Y6000000D01*\nX6000000Y3000000D01*\nX3000000Y3000000D01*\nX0Y3000000D01*\nX0Y0D01*\nG37*\n",
        );
        assert_eq!(zone.len(), 1);
        assert!(zone[0].holds([1.0, 1.0]) && !zone[0].holds([4.5, 4.5]));
        assert!(!zone[0].meets(&hole(4.5, 4.5, 2.9)), "it has its distance");
        assert!(zone[0].meets(&hole(4.5, 4.5, 3.1)));
        assert!(zone[0].meets(&hole(1.0, 1.0, 0.3)));
        assert!(!zone[0].meets(&hole(12.0, 1.0, 0.3)));
    }
}
