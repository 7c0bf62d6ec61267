// SPDX-License-Identifier: Apache-2.0
//! One triangle: where it looks, where a ray meets it, what it pierces.

use super::Aabb;
use crate::vector::{Vec3, add, cross, dot, scale, sub};

pub(super) type Triangle = [Vec3; 3];

pub(super) fn normal(triangle: &Triangle) -> Option<Vec3> {
    let across = cross(sub(triangle[1], triangle[0]), sub(triangle[2], triangle[0]));
    let length = dot(across, across).sqrt();
    (length > 1e-9).then(|| scale(across, 1.0 / length))
}

/// Points inside a triangle, at most `apart` from each other.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a side is some hundred millimetres"
)]
pub(super) fn samples(triangle: &Triangle, apart: f64) -> Vec<Vec3> {
    let sides = [
        sub(triangle[1], triangle[0]),
        sub(triangle[2], triangle[0]),
        sub(triangle[2], triangle[1]),
    ];
    let longest = sides
        .iter()
        .map(|side| dot(*side, *side).sqrt())
        .fold(0.0, f64::max);
    let parts = (longest / apart).ceil().max(1.0) as u32;
    let mut points = Vec::new();
    for i in 0..parts {
        for j in 0..parts - i {
            let (u, v) = (
                (f64::from(i) + 1.0 / 3.0) / f64::from(parts),
                (f64::from(j) + 1.0 / 3.0) / f64::from(parts),
            );
            points.push(add(
                triangle[0],
                add(scale(sides[0], u), scale(sides[1], v)),
            ));
        }
    }
    points
}

/// How far along the ray it meets the triangle (Möller and Trumbore).
pub(super) fn hit(from: Vec3, ray: Vec3, triangle: &Triangle) -> Option<f64> {
    let (one, two) = (sub(triangle[1], triangle[0]), sub(triangle[2], triangle[0]));
    let across = cross(ray, two);
    let det = dot(one, across);
    if det.abs() < 1e-12 {
        return None;
    }
    let start = sub(from, triangle[0]);
    let u = dot(start, across) / det;
    let other = cross(start, one);
    let v = dot(ray, other) / det;
    let at = dot(two, other) / det;
    (u >= 0.0 && v >= 0.0 && u + v <= 1.0 && at > 0.0).then_some(at)
}

/// Whether a side of one triangle goes through the other.
pub(super) fn pierces(sides: &Triangle, face: &Triangle) -> bool {
    (0..3).any(|side| {
        let along = sub(sides[(side + 1) % 3], sides[side]);
        hit(sides[side], along, face).is_some_and(|at| at > 1e-6 && at < 1.0 - 1e-6)
    })
}

/// By separating axes (Akenine-Möller); touching is not meeting.
pub(super) fn meets_box(triangle: &Triangle, shape: &Aabb) -> bool {
    let centre = [0, 1, 2].map(|axis| f64::midpoint(shape.low[axis], shape.high[axis]));
    let half = [0, 1, 2].map(|axis| (shape.high[axis] - shape.low[axis]) / 2.0 - 1e-6);
    let corners = triangle.map(|point| sub(point, centre));
    let sides = [0, 1, 2].map(|side| sub(corners[(side + 1) % 3], corners[side]));
    let units = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let mut axes = units.to_vec();
    axes.push(cross(sides[0], sides[1]));
    for side in sides {
        axes.extend(units.map(|unit| cross(unit, side)));
    }
    axes.iter().all(|axis| {
        let along = corners.map(|corner| dot(corner, *axis));
        let reach: f64 = (0..3).map(|at| half[at] * axis[at].abs()).sum();
        let least = along.iter().copied().fold(f64::INFINITY, f64::min);
        let most = along.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        least <= reach && most >= -reach
    })
}
