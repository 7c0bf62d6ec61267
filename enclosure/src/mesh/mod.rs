// SPDX-License-Identifier: Apache-2.0
//! Solids as triangles: read from STL, and measured. Closed or not, volume, thickness by rays, overlap with boxes and other
//! solids. Knows nothing of the rack.

use std::collections::BTreeMap;

mod triangle;

use crate::vector::{Vec3, add, cross, dot, scale};
use triangle::{Triangle, hit, normal, pierces, samples};

/// A box along the axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aabb {
    /// The least corner.
    pub low: Vec3,
    /// The greatest corner.
    pub high: Vec3,
}

impl Aabb {
    /// Whether the two have volume in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        (0..3).all(|axis| self.low[axis] < other.high[axis] && other.low[axis] < self.high[axis])
    }

    fn around(points: impl Iterator<Item = Vec3>) -> Self {
        let mut all = Self {
            low: [f64::INFINITY; 3],
            high: [f64::NEG_INFINITY; 3],
        };
        for point in points {
            for (axis, value) in point.into_iter().enumerate() {
                all.low[axis] = all.low[axis].min(value);
                all.high[axis] = all.high[axis].max(value);
            }
        }
        all
    }
}

/// A solid's surface.
#[derive(Debug, Clone)]
pub struct Mesh {
    triangles: Vec<Triangle>,
    bounds: Aabb,
    cells: BTreeMap<[i32; 3], Vec<usize>>,
}

/// Not an ASCII STL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the STL is no vertex of three numbers, or the file ends within a triangle")]
pub struct NotStl {
    line: usize,
}

/// Side of a cell of the index, in millimetres.
const CELL: f64 = 5.0;

impl Mesh {
    /// Reads what OpenSCAD writes.
    ///
    /// # Errors
    /// [`NotStl`].
    pub fn parse(text: &str) -> Result<Self, NotStl> {
        let mut points = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(rest) = line.trim().strip_prefix("vertex") else {
                continue;
            };
            let numbers: Vec<f64> = rest
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let point: Vec3 = numbers.try_into().map_err(|_| NotStl { line: index + 1 })?;
            points.push(point);
        }
        if points.is_empty() || points.len() % 3 != 0 {
            return Err(NotStl {
                line: text.lines().count(),
            });
        }
        Ok(Self::new(
            points
                .chunks_exact(3)
                .map(|three| [three[0], three[1], three[2]])
                .collect(),
        ))
    }

    /// From its triangles, counter-clockwise seen from outside.
    #[must_use]
    pub fn new(triangles: Vec<Triangle>) -> Self {
        let bounds = Aabb::around(triangles.iter().flatten().copied());
        let mut cells: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, triangle) in triangles.iter().enumerate() {
            for cell in covered(&Aabb::around(triangle.iter().copied())) {
                cells.entry(cell).or_default().push(index);
            }
        }
        Self {
            triangles,
            bounds,
            cells,
        }
    }

    /// The same solid, moved.
    #[must_use]
    pub fn moved(&self, by: Vec3) -> Self {
        let triangles = self.triangles.iter();
        Self::new(
            triangles
                .map(|triangle| triangle.map(|point| add(point, by)))
                .collect(),
        )
    }

    /// Its triangles.
    #[must_use]
    pub fn triangles(&self) -> &[Triangle] {
        &self.triangles
    }

    /// The box around it.
    #[must_use]
    pub fn bounds(&self) -> Aabb {
        self.bounds
    }

    /// How many edges have no partner that runs the other way: none, if the surface is closed.
    #[must_use]
    pub fn open_edges(&self) -> usize {
        let mut edges: BTreeMap<([u64; 3], [u64; 3]), i64> = BTreeMap::new();
        for triangle in &self.triangles {
            for side in 0..3 {
                let (from, to) = (bits(triangle[side]), bits(triangle[(side + 1) % 3]));
                if from < to {
                    *edges.entry((from, to)).or_default() += 1;
                } else {
                    *edges.entry((to, from)).or_default() -= 1;
                }
            }
        }
        edges.values().filter(|&&balance| balance != 0).count()
    }

    /// In cubic millimetres; negative if it is inside out.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.triangles
            .iter()
            .map(|[a, b, c]| dot(*a, cross(*b, *c)) / 6.0)
            .sum()
    }

    /// The thinnest place between two faces that lie against each other, if any is thinner than `least`: how thin and where.
    /// Rays go inwards from points at most 2 mm apart on every triangle. Edges, where faces meet at an angle, are no walls.
    #[must_use]
    pub fn thinner_than(&self, least: f64) -> Option<(f64, Vec3)> {
        let mut thinnest: Option<(f64, Vec3)> = None;
        for triangle in &self.triangles {
            let Some(normal) = normal(triangle) else {
                continue;
            };
            for point in samples(triangle, 2.0) {
                let inwards = scale(normal, -1.0);
                let to = add(point, scale(inwards, least));
                for index in self.near(&Aabb::around([point, to].into_iter())) {
                    let other = &self.triangles[index];
                    let facing =
                        triangle::normal(other).is_some_and(|other| dot(other, normal) < -0.95);
                    let Some(at) = facing.then(|| hit(point, inwards, other)).flatten() else {
                        continue;
                    };
                    // What is thinner than a hundredth is a seam of the mesh, not a wall.
                    if at > 0.01 && at < least - 1e-3 && thinnest.is_none_or(|(thin, _)| at < thin)
                    {
                        thinnest = Some((at, point));
                    }
                }
            }
        }
        thinnest
    }

    /// Faces that look down more steeply than 45 degrees and do not lie on the bed: connected areas that are wider than
    /// `bridge` in both directions. Returns the box around the first.
    #[must_use]
    pub fn overhang(&self, bridge: f64) -> Option<Aabb> {
        let bed = self.bounds.low[2] + 0.01;
        let down: Vec<_> = (self.triangles.iter())
            .filter(|triangle| {
                let steep = normal(triangle).is_some_and(|normal| normal[2] < -0.72);
                steep && triangle.iter().any(|point| point[2] > bed)
            })
            .collect();
        // Triangles belong together if they share a corner.
        let mut group: Vec<usize> = (0..down.len()).collect();
        let mut owner: BTreeMap<[u64; 3], usize> = BTreeMap::new();
        for (index, triangle) in down.iter().enumerate() {
            for point in *triangle {
                let first = *owner.entry(bits(*point)).or_insert(index);
                let (from, to) = (root(&group, first), root(&group, index));
                group[to] = from;
            }
        }
        let mut areas: BTreeMap<usize, Vec<Vec3>> = BTreeMap::new();
        for (index, triangle) in down.iter().enumerate() {
            areas
                .entry(root(&group, index))
                .or_default()
                .extend(*triangle);
        }
        let boxes = areas
            .into_values()
            .map(|points| Aabb::around(points.into_iter()));
        boxes
            .into_iter()
            .find(|area| (area.high[0] - area.low[0]).min(area.high[1] - area.low[1]) > bridge)
    }

    /// The lines of its section by the plane at `x`, as (y, z) and without order: closed outlines, if the surface is closed and has no
    /// corner in the plane.
    #[must_use]
    pub fn section(&self, x: f64) -> Vec<[[f64; 2]; 2]> {
        let cut = |triangle: &Triangle| {
            let mut ends = Vec::new();
            for side in 0..3 {
                let (from, to) = (triangle[side], triangle[(side + 1) % 3]);
                if (from[0] < x) != (to[0] < x) {
                    let at = (x - from[0]) / (to[0] - from[0]);
                    ends.push([1, 2].map(|axis| from[axis] + at * (to[axis] - from[axis])));
                }
            }
            ends.try_into().ok()
        };
        self.triangles.iter().filter_map(cut).collect()
    }

    /// Where a section is solid along the line at `z`, as pieces of y in order.
    #[must_use]
    pub fn spans(section: &[[[f64; 2]; 2]], z: f64) -> Vec<[f64; 2]> {
        let across = section
            .iter()
            .filter(|[from, to]| (from[1] < z) != (to[1] < z));
        let mut at: Vec<f64> = across
            .map(|[from, to]| from[0] + (z - from[1]) / (to[1] - from[1]) * (to[0] - from[0]))
            .collect();
        at.sort_by(f64::total_cmp);
        at.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }

    /// Whether solid and box have volume in common.
    #[must_use]
    pub fn meets_box(&self, shape: &Aabb) -> bool {
        if !self.bounds.overlaps(shape) {
            return false;
        }
        let near = self.near(shape);
        near.iter()
            .any(|&index| triangle::meets_box(&self.triangles[index], shape))
            || self.contains([0, 1, 2].map(|axis| f64::midpoint(shape.low[axis], shape.high[axis])))
    }

    /// Whether the two have volume in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        if !self.bounds.overlaps(&other.bounds) {
            return false;
        }
        let crossing = self.triangles.iter().any(|mine| {
            let around = Aabb::around(mine.iter().copied());
            let near = other.near(&around);
            near.iter().any(|&index| {
                let theirs = &other.triangles[index];
                pierces(mine, theirs) || pierces(theirs, mine)
            })
        });
        crossing || other.contains(self.triangles[0][0]) || self.contains(other.triangles[0][0])
    }

    /// Whether the point is inside: a ray to one side leaves the solid once more than it enters.
    #[must_use]
    pub fn contains(&self, point: Vec3) -> bool {
        // Not along an axis, so that it does not run in a face or through an edge.
        let ray = [0.577_123, 0.211_37, 0.788_59];
        let hits = self
            .triangles
            .iter()
            .filter(|triangle| hit(point, ray, triangle).is_some());
        hits.count() % 2 == 1
    }

    fn near(&self, around: &Aabb) -> Vec<usize> {
        let cells = covered(around)
            .into_iter()
            .filter_map(|cell| self.cells.get(&cell));
        let mut near: Vec<usize> = cells.flatten().copied().collect();
        near.sort_unstable();
        near.dedup();
        near
    }
}

fn root(group: &[usize], mut at: usize) -> usize {
    while group[at] != at {
        at = group[at];
    }
    at
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a rack is some hundred millimetres"
)]
fn covered(around: &Aabb) -> Vec<[i32; 3]> {
    let cell = |value: f64| (value / CELL).floor() as i32;
    let mut cells = Vec::new();
    for x in cell(around.low[0])..=cell(around.high[0]) {
        for y in cell(around.low[1])..=cell(around.high[1]) {
            for z in cell(around.low[2])..=cell(around.high[2]) {
                cells.push([x, y, z]);
            }
        }
    }
    cells
}

fn bits(point: Vec3) -> [u64; 3] {
    // Zero has two signs.
    point.map(|value| (value + 0.0).to_bits())
}

/// A closed box, for tests and for what is bought.
#[must_use]
pub fn block(shape: &Aabb) -> Mesh {
    let at = |corner: usize| {
        [0, 1, 2].map(|axis| {
            if corner >> axis & 1 == 0 {
                shape.low[axis]
            } else {
                shape.high[axis]
            }
        })
    };
    let faces = [
        [0, 2, 3, 1],
        [4, 5, 7, 6],
        [0, 1, 5, 4],
        [2, 6, 7, 3],
        [0, 4, 6, 2],
        [1, 3, 7, 5],
    ];
    let triangles = faces.iter().flat_map(|face| {
        let [a, b, c, d] = face.map(at);
        [[a, b, c], [a, c, d]]
    });
    Mesh::new(triangles.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube(low: f64, high: f64) -> Mesh {
        block(&Aabb {
            low: [low; 3],
            high: [high; 3],
        })
    }

    #[test]
    fn a_block_is_closed_and_has_its_volume() {
        let cube = cube(1.0, 4.0);
        assert_eq!(cube.open_edges(), 0);
        assert!((cube.volume() - 27.0).abs() < 1e-9);
    }

    #[test]
    fn a_missing_triangle_opens_three_edges() {
        let mut triangles = cube(0.0, 1.0).triangles;
        triangles.pop();
        assert_eq!(Mesh::new(triangles).open_edges(), 3);
    }

    #[test]
    fn a_thin_plate_is_measured() {
        let plate = |z| {
            block(&Aabb {
                low: [0.0; 3],
                high: [50.0, 30.0, z],
            })
        };
        let (thin, _) = plate(1.1).thinner_than(1.2).expect("it is too thin");
        assert!((thin - 1.1).abs() < 1e-6, "{thin}");
        assert_eq!(plate(1.2).thinner_than(1.2), None);
    }

    #[test]
    fn solids_meet_only_where_they_share_volume() {
        let big = cube(0.0, 10.0);
        for (other, meets) in [
            (cube(9.0, 12.0), true),
            (cube(2.0, 3.0), true),
            (cube(10.5, 12.0), false),
        ] {
            assert_eq!(big.meets(&other.moved([0.013, 0.017, 0.011])), meets);
            assert_eq!(big.meets_box(&other.bounds()), meets);
        }
        assert!(!big.meets_box(&Aabb {
            low: [10.0, 0.0, 0.0],
            high: [11.0, 5.0, 5.0]
        }));
    }

    #[test]
    fn a_roof_wider_than_a_bridge_is_an_overhang() {
        let mut triangles = cube(0.0, 5.0).triangles;
        triangles.extend(
            block(&Aabb {
                low: [0.0, 0.0, 20.0],
                high: [40.0, 40.0, 22.0],
            })
            .triangles,
        );
        let table = Mesh::new(triangles);
        assert!(table.overhang(20.0).is_some() && table.overhang(41.0).is_none());
    }

    #[test]
    fn what_is_no_stl_is_refused() {
        assert!(Mesh::parse("solid x\nendsolid x").is_err());
        assert!(Mesh::parse("vertex 1 2\n").is_err());
    }
}
