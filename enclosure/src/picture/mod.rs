// SPDX-License-Identifier: Apache-2.0
//! Draws coloured solids: one sun with shadows, light from the sky, dark corners, thin lines along edges. No display and no graphics
//! card, and the same picture everywhere. Knows nothing of the rack.
//!
//! ```text
//! triangles ─ nearest for each sample (2 x 2 or 3 x 3 for a pixel) ─ light, edges ─ mean ─▶ rows of red, green, blue
//! ```

use std::thread;

mod camera;
mod light;

use crate::mesh::Mesh;
use crate::vector::{Vec3, add, cross, dot, scale, sub, unit};
use camera::Camera;
use light::Light;

/// Red, green, blue, 0 to 1, as light: squares of what a screen is sent.
pub type Colour = [f64; 3];

/// A colour written as `0xd9573f`.
#[must_use]
pub fn colour(hex: u32) -> Colour {
    [16, 8, 0].map(|shift| (f64::from(hex >> shift & 0xff) / 255.0).powi(2))
}

/// What is drawn.
#[derive(Debug, Default, Clone)]
pub struct Scene {
    triangles: Vec<[Vec3; 3]>,
    /// Of each triangle: which solid, and the solid's colour.
    of: Vec<usize>,
    colours: Vec<Colour>,
}

impl Scene {
    /// Adds a solid.
    pub fn add(&mut self, mesh: &Mesh, colour: Colour) {
        let count = mesh.triangles().len();
        self.triangles.extend_from_slice(mesh.triangles());
        self.of
            .extend(std::iter::repeat_n(self.colours.len(), count));
        self.colours.push(colour);
    }
}

/// From where, and how large.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Degrees around the scene, from its front to the right.
    pub around: f64,
    /// Degrees above the floor.
    pub above: f64,
    /// In pixels.
    pub size: [usize; 2],
    /// Samples along a pixel's side.
    pub samples: usize,
    /// Colours are rounded to multiples of this, which makes files smaller; 1: they are not.
    pub coarse: u8,
}

const SKY: Colour = [0.93, 0.945, 0.965];
/// How far away things darken a corner, in millimetres.
const CORNER: f64 = 16.0;

/// A scene seen from somewhere, as rows of pixels of three bytes.
#[must_use]
pub fn draw(scene: &Scene, view: &View) -> Vec<u8> {
    let [width, height] = view.size;
    let camera = Camera::around(scene, view);
    let light = Light::of(scene);
    let seen = Seen::of(scene, &camera);
    let shade = Shade {
        scene,
        camera: &camera,
        light: &light,
        seen: &seen,
        normals: scene.triangles.iter().map(normal).collect(),
    };
    let mut rows = vec![0; width * height * 3];
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = height.div_ceil(workers);
    thread::scope(|scope| {
        for (part, rows) in rows.chunks_mut(share * width * 3).enumerate() {
            let shade = &shade;
            scope.spawn(move || {
                for (index, pixel) in rows.chunks_exact_mut(3).enumerate() {
                    let (x, y) = (index % width, part * share + index / width);
                    let exact = shade.pixel(x, y, view.samples);
                    pixel.copy_from_slice(&exact.map(|part| part / view.coarse * view.coarse));
                }
            });
        }
    });
    rows
}

/// The nearest triangle for each sample.
struct Seen {
    width: usize,
    away: Vec<f32>,
    triangle: Vec<u32>,
}

/// No triangle.
const NONE: u32 = u32::MAX;

impl Seen {
    fn of(scene: &Scene, camera: &Camera) -> Self {
        let [width, height] = camera.size;
        let mut seen = Self {
            width,
            away: vec![f32::INFINITY; width * height],
            triangle: vec![NONE; width * height],
        };
        for (index, triangle) in scene.triangles.iter().enumerate() {
            let corners = triangle.map(|point| camera.seen(point));
            fill(&corners, camera.size, |at, weights| {
                // Distances are linear upside down.
                let sum: f64 = (0..3).map(|i| weights[i] / corners[i][2]).sum();
                let away = single(1.0 / sum);
                if away < seen.away[at] {
                    seen.away[at] = away;
                    seen.triangle[at] = u32::try_from(index).expect("triangles are counted");
                }
            });
        }
        seen
    }
}

struct Shade<'s> {
    scene: &'s Scene,
    camera: &'s Camera,
    light: &'s Light,
    seen: &'s Seen,
    normals: Vec<Vec3>,
}

impl Shade<'_> {
    fn pixel(&self, x: usize, y: usize, samples: usize) -> [u8; 3] {
        let mut sum = [0.0; 3];
        for down in 0..samples {
            for right in 0..samples {
                let one = self.sample(x * samples + right, y * samples + down);
                sum = add(sum, one);
            }
        }
        sum.map(|light| byte((light / real(samples * samples)).min(1.0).sqrt()))
    }

    fn sample(&self, x: usize, y: usize) -> Colour {
        let at = y * self.seen.width + x;
        let triangle = self.seen.triangle[at];
        let ray = self.camera.ray(real(x) + 0.5, real(y) + 0.5);
        if triangle == NONE {
            return SKY;
        }
        let which = triangle as usize;
        let point = add(self.camera.eye, scale(ray, f64::from(self.seen.away[at])));
        let mut normal = self.normals[which];
        if dot(normal, ray) > 0.0 {
            normal = scale(normal, -1.0);
        }
        let facing = dot(normal, self.light.sun).max(0.0);
        let lit = if facing > 0.0 {
            facing * self.light.reaches(add(point, scale(normal, 0.5)))
        } else {
            0.0
        };
        let open = self.open(point, normal, at);
        let sky = (0.44 + 0.20 * normal[2] + 0.10 * normal[0]) * open;
        // A little of the light is mirrored, most where it is seen along a face.
        let glance = (1.0 + dot(normal, unit(ray))).powi(4) * 0.10 * open;
        let colour = self.scene.colours[self.scene.of[which]];
        let edge = if self.edge(x, y, which) { 0.45 } else { 1.0 };
        colour.map(|part| (part * (sky + 0.72 * lit) + glance) * edge)
    }

    /// How much of the sky is not hidden by what is near, from the distances around the sample.
    fn open(&self, point: Vec3, normal: Vec3, at: usize) -> f64 {
        let (x, y) = (at % self.seen.width, at / self.seen.width);
        let reach = CORNER * self.camera.scale / f64::from(self.seen.away[at]);
        // Turned by the sample's place, so that no pattern is seen.
        let turn = real((x * 7 + y * 11) % 9) / 9.0;
        let mut hidden = 0.0;
        for step in 0..12 {
            let angle = (f64::from(step) + turn) / 12.0 * std::f64::consts::TAU;
            let far = reach * (0.12 + 0.88 * f64::from(step * 5 % 12) / 12.0);
            let to = [
                real(x) + 0.5 + angle.cos() * far,
                real(y) + 0.5 + angle.sin() * far,
            ];
            let Some(there) = index(to, self.camera.size) else {
                continue;
            };
            if self.seen.triangle[there] == NONE {
                continue;
            }
            let away = f64::from(self.seen.away[there]);
            let other = add(self.camera.eye, scale(self.camera.ray(to[0], to[1]), away));
            let between = sub(other, point);
            let length = dot(between, between).sqrt();
            let above = dot(between, normal) / length.max(1e-6);
            let fades = (1.0 - (length / CORNER / 1.5).powi(2)).max(0.0);
            hidden += (above - 0.12).max(0.0) * fades;
        }
        (1.0 - hidden / 12.0 * 2.4).clamp(0.18, 1.0)
    }

    /// Whether an edge runs between this sample and the one to the right or below.
    fn edge(&self, x: usize, y: usize, which: usize) -> bool {
        let here = f64::from(self.seen.away[y * self.seen.width + x]);
        [[1, 0], [0, 1]].into_iter().any(|[right, down]| {
            let (x, y) = (x + right, y + down);
            if x >= self.camera.size[0] || y >= self.camera.size[1] {
                return false;
            }
            let at = y * self.seen.width + x;
            let other = self.seen.triangle[at];
            if other == NONE {
                return true;
            }
            let other = other as usize;
            let step = (f64::from(self.seen.away[at]) - here).abs();
            let bent = dot(self.normals[which], self.normals[other]) < 0.85;
            self.scene.of[which] != self.scene.of[other] || bent || step > 4.0
        })
    }
}

/// Every sample whose middle is in the triangle, with its weights.
fn fill(corners: &[Vec3; 3], size: [usize; 2], mut with: impl FnMut(usize, [f64; 3])) {
    let [a, b, c] = corners;
    let area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
    if area.abs() < 1e-12 {
        return;
    }
    let range = |axis: usize| {
        let values = corners.map(|corner| corner[axis]);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        whole(least, size[axis])..whole(most + 1.0, size[axis])
    };
    let columns = range(0);
    for row in range(1) {
        for column in columns.clone() {
            let (x, y) = (real(column) + 0.5, real(row) + 0.5);
            let u = ((x - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (y - a[1])) / area;
            let v = ((b[0] - a[0]) * (y - a[1]) - (x - a[0]) * (b[1] - a[1])) / area;
            if u >= 0.0 && v >= 0.0 && u + v <= 1.0 {
                with(row * size[0] + column, [1.0 - u - v, u, v]);
            }
        }
    }
}

/// The sample at (x, y), if it is in the picture.
fn index(at: [f64; 2], size: [usize; 2]) -> Option<usize> {
    let inside = (0..2).all(|axis| at[axis] >= 0.0 && at[axis] < real(size[axis]));
    inside.then(|| whole(at[1], size[1]) * size[0] + whole(at[0], size[0]))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to the picture"
)]
fn whole(value: f64, most: usize) -> usize {
    (value.max(0.0) as usize).min(most)
}

#[expect(clippy::cast_precision_loss, reason = "some thousand samples")]
fn real(value: usize) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a hundredth of a millimetre is enough"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 255"
)]
fn byte(part: f64) -> u8 {
    (part * 255.0 + 0.5) as u8
}

fn normal(triangle: &[Vec3; 3]) -> Vec3 {
    unit(cross(
        sub(triangle[1], triangle[0]),
        sub(triangle[2], triangle[0]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Aabb, block};

    fn scene(with_roof: bool) -> Scene {
        let mut scene = Scene::default();
        let (low, high) = ([0.0; 3], [20.0, 20.0, 20.0]);
        scene.add(&block(&Aabb { low, high }), colour(0xff_00_00));
        if with_roof {
            // Between the block and the sun, and not between the block and the eye.
            let (low, high) = ([0.0, -40.0, 44.0], [60.0, 20.0, 46.0]);
            scene.add(&block(&Aabb { low, high }), colour(0x00_ff_00));
        }
        scene
    }

    fn at(rows: &[u8], size: [usize; 2], x: usize, y: usize) -> [u8; 3] {
        let at = (y * size[0] + x) * 3;
        [rows[at], rows[at + 1], rows[at + 2]]
    }

    const VIEW: View = View {
        around: 0.0,
        above: 10.0,
        size: [80, 60],
        samples: 2,
        coarse: 1,
    };

    #[test]
    fn a_block_is_in_the_middle_and_the_sky_around_it() {
        let rows = draw(&scene(false), &VIEW);
        let [red, green, blue] = at(&rows, VIEW.size, 40, 35);
        assert!(red > 120 && green < 90 && blue < 90, "{red} {green} {blue}");
        let sky = SKY.map(|part| byte(part.sqrt()));
        assert_eq!(at(&rows, VIEW.size, 1, 1), sky);
        assert!(rows == draw(&scene(false), &VIEW), "it is the same again");
        let coarse = draw(&scene(false), &View { coarse: 8, ..VIEW });
        assert!(coarse.iter().all(|part| part % 8 == 0));
    }

    #[test]
    fn what_is_nearer_hides_and_what_is_towards_the_sun_shades() {
        let brightest = |with_roof: bool| {
            let rows = draw(&scene(with_roof), &VIEW);
            let red = rows.chunks_exact(3).filter(|pixel| pixel[0] / 2 > pixel[1]);
            red.map(|pixel| u32::from(pixel[0]))
                .max()
                .expect("the block is seen")
        };
        assert!(
            brightest(true) + 15 < brightest(false),
            "{} {}",
            brightest(true),
            brightest(false)
        );
        // From above the roof is before the block.
        let above = View {
            above: 89.0,
            ..VIEW
        };
        let rows = draw(&scene(true), &above);
        let green = rows.chunks_exact(3).filter(|pixel| pixel[1] / 2 > pixel[0]);
        assert!(green.count() > 500);
    }
}
