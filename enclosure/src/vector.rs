// SPDX-License-Identifier: Apache-2.0
//! Points and directions in space, as three numbers.

/// A point or a direction.
pub type Vec3 = [f64; 3];

/// The sum.
#[must_use]
pub fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// From `b` to `a`.
#[must_use]
pub fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// As long as `by` times.
#[must_use]
pub fn scale(a: Vec3, by: f64) -> Vec3 {
    a.map(|value| value * by)
}

/// How far one goes along the other, times its length.
#[must_use]
pub fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Upright on both.
#[must_use]
pub fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

/// The same direction, one long; a direction of no length stays.
#[must_use]
pub fn unit(a: Vec3) -> Vec3 {
    scale(a, 1.0 / dot(a, a).sqrt().max(1e-12))
}
