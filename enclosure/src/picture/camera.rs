// SPDX-License-Identifier: Apache-2.0
//! Where the eye is, and what of the world is in which sample.

use super::{Scene, View, real};
use crate::vector::{Vec3, add, cross, dot, scale, sub, unit};

/// Angle of view, as half the picture's height at a distance of one.
const LENS: f64 = 0.20;

/// Where what is in the picture lies in the world, and the other way.
pub(super) struct Camera {
    pub(super) eye: Vec3,
    right: Vec3,
    up: Vec3,
    ahead: Vec3,
    /// Samples across and down, and how many are one at a distance of one.
    pub(super) size: [usize; 2],
    pub(super) scale: f64,
}

impl Camera {
    pub(super) fn around(scene: &Scene, view: &View) -> Self {
        let (around, above) = (view.around.to_radians(), view.above.to_radians());
        let back = [
            around.sin() * above.cos(),
            -around.cos() * above.cos(),
            above.sin(),
        ];
        let ahead = scale(back, -1.0);
        let right = unit(cross(ahead, [0.0, 0.0, 1.0]));
        let up = cross(right, ahead);
        let size = view.size.map(|side| side * view.samples);
        let across = real(size[0]) / real(size[1]);
        let mut camera = Self {
            eye: [0.0; 3],
            right,
            up,
            ahead,
            size,
            scale: real(size[1]) / 2.0 / LENS,
        };
        // Far enough for every corner, and so that the picture's middle is the scene's: a few rounds do.
        let points: Vec<Vec3> = scene.triangles.iter().flatten().copied().collect();
        let Some(mut middle) = points.first().copied() else {
            return camera;
        };
        let mut far = 1000.0;
        for _ in 0..12 {
            camera.eye = sub(middle, scale(ahead, far));
            let mut low = [f64::INFINITY; 2];
            let mut high = [f64::NEG_INFINITY; 2];
            for point in &points {
                let [x, y, away] = camera.turned(*point);
                for (axis, at) in [x / away / across, y / away].into_iter().enumerate() {
                    low[axis] = low[axis].min(at);
                    high[axis] = high[axis].max(at);
                }
            }
            let most = (0..2)
                .map(|axis| (high[axis] - low[axis]) / 2.0)
                .fold(0.0, f64::max);
            let off = [0, 1].map(|axis| f64::midpoint(low[axis], high[axis]) * far);
            middle = add(
                middle,
                add(scale(right, off[0] * across), scale(up, off[1])),
            );
            far *= most / (LENS * 0.93);
        }
        camera.eye = sub(middle, scale(ahead, far));
        camera
    }

    /// To the right, up and away from the eye.
    pub(super) fn turned(&self, point: Vec3) -> Vec3 {
        let from = sub(point, self.eye);
        [
            dot(from, self.right),
            dot(from, self.up),
            dot(from, self.ahead),
        ]
    }

    /// The sample that a point is in, as x, y and how far away.
    pub(super) fn seen(&self, point: Vec3) -> Vec3 {
        let [x, y, away] = self.turned(point);
        [
            real(self.size[0]) / 2.0 + x / away * self.scale,
            real(self.size[1]) / 2.0 - y / away * self.scale,
            away,
        ]
    }

    /// From the eye through a sample; one long along the way ahead.
    pub(super) fn ray(&self, x: f64, y: f64) -> Vec3 {
        let right = (x - real(self.size[0]) / 2.0) / self.scale;
        let up = (real(self.size[1]) / 2.0 - y) / self.scale;
        add(
            self.ahead,
            add(scale(self.right, right), scale(self.up, up)),
        )
    }
}
