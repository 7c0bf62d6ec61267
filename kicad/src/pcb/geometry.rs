// SPDX-License-Identifier: Apache-2.0
//! Points and shapes of copper in nanometres, KiCad's own unit, so that nothing is rounded twice.
//!
//! Every pad, track and via is an outline inflated by a radius: a circle is an inflated point, a track an inflated line. One
//! distance serves them all.

/// A place, in nanometres; y grows downwards as on KiCad's sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Point {
    /// To the right.
    pub x: i64,
    /// Downwards.
    pub y: i64,
}

/// Millimetres as nanometres.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "boards are below a metre: 1e9 nm fit"
)]
pub fn nm(millimetres: f64) -> i64 {
    (millimetres * 1e6).round() as i64
}

/// Nanometres as millimetres.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub fn mm(nanometres: i64) -> f64 {
    nanometres as f64 / 1e6
}

/// A place given in millimetres.
#[must_use]
pub fn at(x: f64, y: f64) -> Point {
    Point { x: nm(x), y: nm(y) }
}

impl Point {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            x: self.x + other.x,
            y: self.y + other.y,
        }
    }

    /// Turned about the origin, counter-clockwise on the sheet, in degrees. Quarter turns are exact.
    #[must_use]
    pub fn turned(self, degrees: f64) -> Self {
        let Self { x, y } = self;
        let quarter = degrees.rem_euclid(360.0) / 90.0;
        if quarter == 0.0 {
            self
        } else if quarter == 1.0 {
            Self { x: y, y: -x }
        } else if quarter == 2.0 {
            Self { x: -x, y: -y }
        } else if quarter == 3.0 {
            Self { x: -y, y: x }
        } else {
            let (sin, cos) = degrees.to_radians().sin_cos();
            at(mm(x) * cos + mm(y) * sin, -mm(x) * sin + mm(y) * cos)
        }
    }

    /// How far away `other` is, in nanometres.
    #[must_use]
    pub fn distance(self, other: Self) -> f64 {
        self.vector(other).length()
    }

    fn vector(self, to: Self) -> Vector {
        Vector {
            x: mm(to.x - self.x) * 1e6,
            y: mm(to.y - self.y) * 1e6,
        }
    }
}

#[derive(Clone, Copy)]
struct Vector {
    x: f64,
    y: f64,
}

impl Vector {
    /// Without `hypot`, which is slow and whose last digit differs between systems' libraries.
    fn length(self) -> f64 {
        (self.x * self.x + self.y * self.y).sqrt()
    }
}

/// An outline of one, two or more corners, inflated by a radius.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The corners: one is a disc, two are a line, more a closed area.
    pub corners: Vec<Point>,
    /// How far the copper reaches beyond, in nanometres.
    pub radius: i64,
}

/// The smallest upright rectangle about something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The corner with the smallest coordinates.
    pub low: Point,
    /// The corner with the largest coordinates.
    pub high: Point,
}

impl Bounds {
    /// About these points; `None` without any.
    #[must_use]
    pub fn of(points: impl IntoIterator<Item = Point>) -> Option<Self> {
        points.into_iter().fold(None, |sofar, point| {
            Some(match sofar {
                None => Self {
                    low: point,
                    high: point,
                },
                Some(it) => it.with(point),
            })
        })
    }

    fn with(self, point: Point) -> Self {
        Self {
            low: Point {
                x: self.low.x.min(point.x),
                y: self.low.y.min(point.y),
            },
            high: Point {
                x: self.high.x.max(point.x),
                y: self.high.y.max(point.y),
            },
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.with(other.low).with(other.high)
    }

    /// Larger by `margin` on each side.
    #[must_use]
    pub fn grown(self, margin: i64) -> Self {
        Self {
            low: Point {
                x: self.low.x - margin,
                y: self.low.y - margin,
            },
            high: Point {
                x: self.high.x + margin,
                y: self.high.y + margin,
            },
        }
    }

    /// Whether both share a point.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.low.x <= other.high.x
            && other.low.x <= self.high.x
            && self.low.y <= other.high.y
            && other.low.y <= self.high.y
    }

    /// Whether `point` is within.
    #[must_use]
    pub fn contains(&self, point: Point) -> bool {
        (self.low.x..=self.high.x).contains(&point.x)
            && (self.low.y..=self.high.y).contains(&point.y)
    }

    /// The middle.
    #[must_use]
    pub fn centre(&self) -> Point {
        Point {
            x: (self.low.x + self.high.x) / 2,
            y: (self.low.y + self.high.y) / 2,
        }
    }
}

impl Shape {
    /// A disc.
    #[must_use]
    pub fn disc(centre: Point, radius: i64) -> Self {
        Self {
            corners: vec![centre],
            radius,
        }
    }

    /// A track from `a` to `b`.
    #[must_use]
    pub fn line(a: Point, b: Point, width: i64) -> Self {
        Self {
            corners: if a == b { vec![a] } else { vec![a, b] },
            radius: width / 2,
        }
    }

    /// An area with sharp corners.
    #[must_use]
    pub fn area(corners: Vec<Point>) -> Self {
        Self { corners, radius: 0 }
    }

    /// An upright rectangle about the origin with corners rounded by `radius`.
    #[must_use]
    pub fn rectangle(width: i64, height: i64, radius: i64) -> Self {
        let radius = radius.min(width / 2).min(height / 2);
        let (x, y) = (width / 2 - radius, height / 2 - radius);
        let corners = match (x, y) {
            (0, 0) => vec![Point::default()],
            (0, y) => vec![Point { x: 0, y: -y }, Point { x: 0, y }],
            (x, 0) => vec![Point { x: -x, y: 0 }, Point { x, y: 0 }],
            (x, y) => vec![
                Point { x: -x, y: -y },
                Point { x, y: -y },
                Point { x, y },
                Point { x: -x, y },
            ],
        };
        Self { corners, radius }
    }

    /// The same with each corner moved.
    #[must_use]
    pub fn map(&self, f: impl FnMut(Point) -> Point) -> Self {
        Self {
            corners: self.corners.iter().copied().map(f).collect(),
            radius: self.radius,
        }
    }

    /// What encloses it.
    ///
    /// # Panics
    /// Without corners, which no constructor makes.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds::of(self.corners.iter().copied())
            .expect("a shape has a corner")
            .grown(self.radius)
    }

    fn edges(&self) -> impl Iterator<Item = (Point, Point)> + '_ {
        let count = self.corners.len();
        let used = if count > 2 { count } else { count - 1 };
        (0..used).map(move |i| (self.corners[i], self.corners[(i + 1) % count]))
    }

    /// Whether the uninflated outline encloses `point`.
    fn encloses(&self, point: Point) -> bool {
        if self.corners.len() < 3 {
            return false;
        }
        let mut inside = false;
        for (a, b) in self.edges() {
            if (a.y > point.y) != (b.y > point.y) {
                let (ab, ap) = (a.vector(b), a.vector(point));
                if ap.x < ab.x * ap.y / ab.y {
                    inside = !inside;
                }
            }
        }
        inside
    }

    /// From `point` to the copper, in nanometres; negative or zero within.
    #[must_use]
    pub fn distance_to(&self, point: Point) -> f64 {
        let radius = mm(self.radius) * 1e6;
        let outline = if self.corners.len() == 1 {
            self.corners[0].distance(point)
        } else {
            self.edges()
                .map(|(a, b)| to_segment(point, a, b))
                .fold(f64::INFINITY, f64::min)
        };
        if self.encloses(point) {
            return -outline - radius;
        }
        outline - radius
    }

    /// Whether `point` is on the copper: what [`Self::distance_to`] says by zero or less, without measuring edges that are further away than
    /// the copper reaches. Areas have thousands of edges, and are asked about every tenth of a millimetre.
    #[must_use]
    pub fn covers(&self, point: Point) -> bool {
        // A nanometre more, for what is rounded in a distance.
        let reach = self.radius + 1;
        let near = |a: i64, b: i64, at: i64| a.min(b) - reach <= at && at <= a.max(b) + reach;
        let radius = mm(self.radius) * 1e6;
        let on_an_edge = match *self.corners {
            [corner] => corner.distance(point) <= radius,
            _ => self.edges().any(|(a, b)| {
                near(a.x, b.x, point.x)
                    && near(a.y, b.y, point.y)
                    && to_segment(point, a, b) <= radius
            }),
        };
        on_an_edge || self.encloses(point)
    }

    /// The gap between both, in nanometres; negative or zero where they touch.
    #[must_use]
    pub fn gap(&self, other: &Self) -> f64 {
        let radii = mm(self.radius + other.radius) * 1e6;
        if self.encloses(other.corners[0]) || other.encloses(self.corners[0]) {
            return -radii;
        }
        let mut least = f64::INFINITY;
        if self.corners.len() == 1 && other.corners.len() == 1 {
            least = self.corners[0].distance(other.corners[0]);
        }
        for (one, two) in [(self, other), (other, self)] {
            for (a, b) in one.edges() {
                for &corner in &two.corners {
                    least = least.min(to_segment(corner, a, b));
                }
                if two.edges().any(|(c, d)| cross(a, b, c, d)) {
                    return -radii;
                }
            }
        }
        least - radii
    }
}

fn to_segment(point: Point, a: Point, b: Point) -> f64 {
    let (ab, ap) = (a.vector(b), a.vector(point));
    let square = ab.x * ab.x + ab.y * ab.y;
    let along = if square == 0.0 {
        0.0
    } else {
        ((ap.x * ab.x + ap.y * ab.y) / square).clamp(0.0, 1.0)
    };
    Vector {
        x: ap.x - along * ab.x,
        y: ap.y - along * ab.y,
    }
    .length()
}

fn cross(a: Point, b: Point, c: Point, d: Point) -> bool {
    let side = |a: Point, b: Point, p: Point| {
        (i128::from(b.x - a.x) * i128::from(p.y - a.y)
            - i128::from(b.y - a.y) * i128::from(p.x - a.x))
        .signum()
    };
    side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_between_the_edges_of_copper() {
        let pad = Shape::rectangle(nm(1.0), nm(2.0), nm(0.25));
        let via = Shape::disc(at(1.0, 0.0), nm(0.3));
        assert!((pad.gap(&via) - 0.2e6).abs() < 1.0);
        let track = Shape::line(at(-3.0, 1.2), at(3.0, 1.2), nm(0.2));
        assert!((pad.gap(&track) - 0.1e6).abs() < 1.0);
        let through = Shape::line(at(-3.0, 0.0), at(3.0, 0.0), nm(0.2));
        assert!(pad.gap(&through) <= 0.0);
        assert!(pad.distance_to(at(0.0, 0.0)) <= 0.0);
        assert!((pad.distance_to(at(0.0, 1.5)) - 0.5e6).abs() < 1.0);
    }

    #[test]
    fn quarter_turns_go_against_the_clock_as_in_kicad() {
        assert_eq!(at(1.0, 0.0).turned(90.0), at(0.0, -1.0));
        assert_eq!(at(0.0, 1.0).turned(-90.0), at(-1.0, 0.0));
        assert_eq!(at(1.0, 2.0).turned(180.0), at(-1.0, -2.0));
    }
    /// Points and corners that often coincide.
    fn spot() -> impl Strategy<Value = Point> {
        (-12_i64..=12, -12_i64..=12).prop_map(|(x, y)| Point {
            x: x * 50_000,
            y: y * 50_000,
        })
    }

    proptest! {
        #[test]
        fn what_a_shape_covers_is_at_no_distance(
            corners in proptest::collection::vec(spot(), 1..9),
            radius in 0_i64..6,
            points in proptest::collection::vec(spot(), 1..30),
        ) {
            let shape = Shape { corners, radius: radius * 50_000 };
            for point in points {
                prop_assert_eq!(shape.covers(point), shape.distance_to(point) <= 0.0);
            }
        }
    }
}
