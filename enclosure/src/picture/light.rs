// SPDX-License-Identifier: Apache-2.0
//! The sun, and what is in its way.

use super::{Scene, fill, index, real, single};
use crate::vector::{Vec3, cross, dot, unit};

/// Between the sun's rays that a point is looked at with, in millimetres.
const PATCH: f64 = 0.4;
/// The side of the map of shadows.
const MAP: usize = 3000;
const SUN: Vec3 = [0.42, -0.66, 0.82];
/// What the sun reaches: for each of its rays how far.
pub(super) struct Light {
    pub(super) sun: Vec3,
    right: Vec3,
    up: Vec3,
    low: [f64; 2],
    side: f64,
    near: Vec<f32>,
}

impl Light {
    pub(super) fn of(scene: &Scene) -> Self {
        let sun = unit(SUN);
        let right = unit(cross(sun, [0.0, 0.0, 1.0]));
        let up = cross(right, sun);
        let mut low = [f64::INFINITY; 2];
        let mut high = [f64::NEG_INFINITY; 2];
        for point in scene.triangles.iter().flatten() {
            for (axis, at) in [dot(*point, right), dot(*point, up)]
                .into_iter()
                .enumerate()
            {
                low[axis] = low[axis].min(at);
                high[axis] = high[axis].max(at);
            }
        }
        let side = (high[0] - low[0]).max(high[1] - low[1]).max(1.0) / real(MAP);
        let mut light = Self {
            sun,
            right,
            up,
            low,
            side,
            near: vec![f32::NEG_INFINITY; MAP * MAP],
        };
        for triangle in &scene.triangles {
            let corners = triangle.map(|point| light.turned(point));
            let mut near = std::mem::take(&mut light.near);
            fill(&corners, [MAP, MAP], |at, weights| {
                let to_sun = single((0..3).map(|i| weights[i] * corners[i][2]).sum());
                near[at] = near[at].max(to_sun);
            });
            light.near = near;
        }
        light
    }

    pub(super) fn turned(&self, point: Vec3) -> Vec3 {
        [
            (dot(point, self.right) - self.low[0]) / self.side,
            (dot(point, self.up) - self.low[1]) / self.side,
            dot(point, self.sun),
        ]
    }

    /// The part of a patch around the point that the sun reaches; so shadows have soft edges.
    pub(super) fn reaches(&self, point: Vec3) -> f64 {
        let [x, y, to_sun] = self.turned(point);
        let mut lit = 0.0;
        for dx in -2..=2 {
            for dy in -2..=2 {
                let at = [
                    x + f64::from(dx) * PATCH / self.side,
                    y + f64::from(dy) * PATCH / self.side,
                ];
                let near = index(at, [MAP, MAP]).map_or(f32::NEG_INFINITY, |at| self.near[at]);
                if f64::from(near) < to_sun + 0.6 {
                    lit += 1.0 / 25.0;
                }
            }
        }
        lit
    }
}
