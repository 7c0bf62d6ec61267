// SPDX-License-Identifier: Apache-2.0
//! Whether a solid can be slid into place from the front: not step by step but as a whole. Seen along the way, at each
//! point of a fine raster, nothing of what stands still may begin before the last of what moves ends.

use crate::mesh::Mesh;
use crate::vector::Vec3;

/// Side of the raster's squares, a quarter of the least clearance.
const STEP: f64 = 0.1;

/// A solid seen along y: for each square its outermost y.
struct Relief {
    low: [f64; 2],
    size: [usize; 2],
    depth: Vec<f64>,
}

/// Where (x, z) the moving solid, on its way along y to where it is, would run into the fixed one.
#[must_use]
pub fn obstructed(moving: &Mesh, fixed: &Mesh) -> Option<[f64; 2]> {
    let last = relief(moving, moving, f64::max, f64::NEG_INFINITY);
    let first = relief(fixed, moving, f64::min, f64::INFINITY);
    let met = (last.depth.iter().zip(&first.depth)).position(|(last, first)| last > first)?;
    let (column, row) = (met % last.size[0], met / last.size[0]);
    Some([middle(last.low[0], column), middle(last.low[1], row)])
}

#[expect(clippy::cast_precision_loss, reason = "some thousand squares")]
fn middle(low: f64, index: usize) -> f64 {
    low + (index as f64 + 0.5) * STEP
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some thousand squares"
)]
fn relief(of: &Mesh, field: &Mesh, pick: fn(f64, f64) -> f64, none: f64) -> Relief {
    let bounds = field.bounds();
    // Off the faces' own coordinates, which are multiples of a tenth.
    let low = [bounds.low[0] - 0.033, bounds.low[2] - 0.033];
    let high = [bounds.high[0], bounds.high[2]];
    let size = [0, 1].map(|axis| ((high[axis] - low[axis]) / STEP).ceil() as usize + 1);
    let mut relief = Relief {
        low,
        size,
        depth: vec![none; size[0] * size[1]],
    };
    for triangle in of.triangles() {
        let index = |value: f64, axis: usize| {
            (((value - low[axis]) / STEP).max(0.0) as usize).min(size[axis] - 1)
        };
        let range = |at: usize, axis: usize| {
            let values = triangle.map(|point| point[at]);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (least <= high[axis] && most >= low[axis])
                .then(|| index(least, axis)..=index(most, axis))
        };
        let (Some(columns), Some(rows)) = (range(0, 0), range(2, 1)) else {
            continue;
        };
        for row in rows {
            for column in columns.clone() {
                if let Some(y) = over(triangle, middle(low[0], column), middle(low[1], row)) {
                    let cell = &mut relief.depth[row * size[0] + column];
                    *cell = pick(*cell, y);
                }
            }
        }
    }
    relief
}

/// y of the triangle at (x, z), if it is there.
fn over(triangle: &[Vec3; 3], x: f64, z: f64) -> Option<f64> {
    let [a, b, c] = triangle;
    let area = (b[0] - a[0]) * (c[2] - a[2]) - (c[0] - a[0]) * (b[2] - a[2]);
    if area.abs() < 1e-9 {
        return None;
    }
    let u = ((x - a[0]) * (c[2] - a[2]) - (c[0] - a[0]) * (z - a[2])) / area;
    let v = ((b[0] - a[0]) * (z - a[2]) - (x - a[0]) * (b[2] - a[2])) / area;
    (u >= 0.0 && v >= 0.0 && u + v <= 1.0).then(|| a[1] + u * (b[1] - a[1]) + v * (c[1] - a[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Aabb, block};

    #[test]
    fn what_stands_in_the_way_is_found_even_if_it_is_free_where_it_ends() {
        let tray = block(&Aabb {
            low: [0.0, 50.0, 0.0],
            high: [60.0, 100.0, 2.4],
        });
        let post = |x, y, z| {
            block(&Aabb {
                low: [x, y, z],
                high: [x + 1.0, y + 1.0, z + 5.0],
            })
        };
        assert!(
            obstructed(&tray, &post(30.0, 10.0, 1.0)).is_some(),
            "in front of it"
        );
        assert!(
            obstructed(&tray, &post(30.0, 10.0, 2.5)).is_none(),
            "above its way"
        );
        assert!(
            obstructed(&tray, &post(30.0, 101.0, 1.0)).is_none(),
            "behind it"
        );
    }
}
