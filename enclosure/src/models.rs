// SPDX-License-Identifier: Apache-2.0
//! What is bought, as pictures show it. Boxes are where the layout has them; what is on them (ports, chips, blades) is only to be looked
//! at, and nothing is measured on it.

use std::f64::consts::TAU;

use racklet_boards::dimensions::{Dimensions, Switch};

use crate::cables;
use crate::layout::Layout;
use crate::mesh::{Aabb, Mesh, block};
use crate::picture::{Colour, colour};
use crate::vector::{Vec3, add, cross, dot, scale, sub, unit};

/// A solid and its colour.
pub type Model = (Mesh, Colour);

const SILVER: u32 = 0xc3_c8_cd;
const BLACK: u32 = 0x20_22_26;
const HOLE: u32 = 0x08_09_0b;
const GOLD: u32 = 0xd8_b0_4a;
const GREEN: u32 = 0x1f_7d_4e;
const BLUE: u32 = 0x1b_4a_8c;

fn boxed(low: Vec3, high: Vec3, hex: u32) -> Model {
    (block(&Aabb { low, high }), colour(hex))
}

fn solid(shape: &Aabb, hex: u32) -> Model {
    boxed(shape.low, shape.high, hex)
}

/// The host and the HAT in a slot.
#[must_use]
pub fn boards(layout: &Layout, host: &Dimensions, slot: u32) -> Vec<Model> {
    let mut models = Vec::new();
    for (name, shape) in layout.boards(host, slot) {
        match name.as_str() {
            name if name == host.name => {
                models.push(solid(&shape, GREEN));
                models.extend(chips(&shape, HOST));
            }
            name if name == layout.hat.name => {
                models.push(solid(&shape, BLUE));
                models.extend(chips(&shape, HAT));
            }
            // Its parts are drawn one by one.
            "parts" => {}
            "tab" => {
                models.push(solid(&shape, BLUE));
                models.extend(fingers(&shape));
            }
            "ethernet" => models.extend(jack(&shape)),
            name if name.starts_with("usb") && shape.high[2] - shape.low[2] > 10.0 => {
                models.extend(usb(&shape, name));
            }
            name if name.contains("header") => models.push(solid(&shape, BLACK)),
            "sd card" => models.push(solid(&shape, BLACK)),
            // USB-C, HDMI and audio: what is between them is air.
            _ => models.extend(along(&shape)),
        }
    }
    models
}

/// On a board: from its rear edge, from its left edge, size along these, height, colour.
type Chip = ([f64; 2], [f64; 2], f64, u32);

/// What a Raspberry Pi shows.
const HOST: &[Chip] = &[
    ([25.0, 24.0], [15.0, 15.0], 2.2, SILVER),
    ([42.0, 25.0], [12.0, 12.0], 1.1, BLACK),
    ([60.0, 8.0], [7.0, 7.0], 1.0, BLACK),
    ([4.0, 36.0], [12.0, 9.0], 1.6, SILVER),
];

/// What a BMC board shows: controller, flash, crystal, inductor, capacitors, eFuse, USB-C, buttons.
const HAT: &[Chip] = &[
    ([36.0, 20.0], [7.0, 7.0], 0.9, BLACK),
    ([45.5, 21.0], [5.3, 5.3], 1.8, BLACK),
    ([37.0, 29.5], [3.2, 2.5], 0.8, SILVER),
    ([17.0, 36.0], [7.0, 7.0], 4.8, 0x4a_4d_52),
    ([26.5, 35.0], [6.6, 6.6], 5.8, 0xa9_ae_b5),
    ([26.5, 35.0], [6.6, 1.6], 5.9, 0x2a_3d_8f),
    ([5.0, 22.0], [6.5, 4.5], 1.1, BLACK),
    ([13.0, 24.0], [6.4, 3.2], 0.7, BLACK),
    ([8.0, 31.0], [4.0, 5.0], 1.5, BLACK),
    ([57.5, 22.0], [7.4, 9.0], 3.2, SILVER),
    ([58.0, 9.0], [4.5, 4.5], 2.0, SILVER),
    ([58.0, 36.0], [4.5, 4.5], 2.0, SILVER),
    ([45.0, 10.0], [5.0, 4.0], 1.5, BLACK),
    ([33.0, 9.0], [5.0, 4.0], 1.5, BLACK),
    ([20.0, 12.0], [5.0, 6.0], 1.5, BLACK),
    ([21.0, 28.0], [3.2, 1.6], 1.2, 0xb5_95_6a),
    ([30.0, 28.0], [3.2, 1.6], 1.2, 0xb5_95_6a),
    ([48.0, 31.0], [3.2, 1.6], 1.2, 0xb5_95_6a),
    ([10.0, 12.0], [5.1, 10.2], 1.4, BLACK),
];

fn chips(board: &Aabb, chips: &[Chip]) -> Vec<Model> {
    let top = board.high[2];
    chips
        .iter()
        .map(|&([from_rear, from_left], [deep, wide], height, hex)| {
            let (x, y) = (board.low[0] + from_left, board.high[1] - from_rear);
            boxed([x, y - deep, top], [x + wide, y, top + height], hex)
        })
        .collect()
}

/// Gold on a card's edge.
fn fingers(tab: &Aabb) -> Vec<Model> {
    let mut models = Vec::new();
    let mut x = tab.low[0] + 0.8;
    while x + 0.7 < tab.high[0] {
        // The key is not drawn.
        let (low, high) = (tab.low[1] + 2.0, tab.high[1] - 0.6);
        models.push(boxed(
            [x, low, tab.low[2] - 0.06],
            [x + 0.7, high, tab.high[2] + 0.06],
            GOLD,
        ));
        x += 1.0;
    }
    models
}

/// A network jack, open to the front.
fn jack(shape: &Aabb) -> Vec<Model> {
    let (front, middle) = (shape.low[1], f64::midpoint(shape.low[0], shape.high[0]));
    let z = shape.low[2] + 2.2;
    vec![
        solid(shape, SILVER),
        boxed(
            [middle - 5.9, front - 0.1, z],
            [middle + 5.9, front + 1.0, z + 7.2],
            HOLE,
        ),
        boxed(
            [middle - 2.9, front - 0.1, z + 7.2],
            [middle + 2.9, front + 1.0, z + 9.6],
            HOLE,
        ),
        boxed(
            [middle - 4.2, front - 0.2, z],
            [middle + 4.2, front + 1.0, z + 1.3],
            GOLD,
        ),
    ]
}

/// Two USB ports above each other, open to the front.
fn usb(shape: &Aabb, name: &str) -> Vec<Model> {
    let tongue = if name.contains('3') {
        0x2f_6f_e0
    } else {
        0xe4_e6_ea
    };
    let mut models = vec![solid(shape, SILVER)];
    let (front, height) = (shape.low[1], shape.high[2] - shape.low[2]);
    for z in [shape.low[2] + 1.2, shape.low[2] + height / 2.0 + 0.6] {
        let (low, high) = (shape.low[0] + 0.9, shape.high[0] - 0.9);
        let top = z + height / 2.0 - 2.0;
        models.push(boxed([low, front - 0.1, z], [high, front + 1.0, top], HOLE));
        models.push(boxed(
            [low + 0.7, front - 0.2, top - 2.6],
            [high - 0.7, front + 1.0, top - 0.8],
            tongue,
        ));
    }
    models
}

/// Connectors in a row along a board's edge.
fn along(shape: &Aabb) -> Vec<Model> {
    let long = shape.high[1] - shape.low[1];
    [(0.04, 0.18), (0.34, 0.13), (0.60, 0.13), (0.84, 0.14)]
        .into_iter()
        .map(|(from, part)| {
            let high = shape.high[1] - from * long;
            let deep = if part > 0.15 { 0.45 } else { 0.7 };
            let mut piece = *shape;
            (piece.low[1], piece.high[1]) = (high - part * long, high);
            piece.high[2] = shape.low[2] + (shape.high[2] - shape.low[2]) * deep;
            piece.high[0] = shape.low[0] + (shape.high[0] - shape.low[0]) * 0.8;
            solid(&piece, SILVER)
        })
        .collect()
}

/// The backplane with its sockets and connectors.
#[must_use]
pub fn backplane(layout: &Layout) -> Vec<Model> {
    let mut models = Vec::new();
    for (name, shape) in layout.backplane(&layout.backplane.sockets) {
        let hex = match name.as_str() {
            name if name == layout.backplane.name => GREEN,
            name if name.starts_with("socket") => BLACK,
            "network" => SILVER,
            _ => 0x9a_a0_a8,
        };
        models.push(solid(&shape, hex));
        if name.starts_with("socket") {
            let middle = f64::midpoint(shape.low[2], shape.high[2]);
            let mut slit = shape;
            (slit.low[2], slit.high[2]) = (middle - 1.0, middle + 1.0);
            (slit.low[0], slit.high[0]) = (shape.low[0] + 1.5, shape.high[0] - 1.5);
            (slit.low[1], slit.high[1]) = (shape.low[1] - 0.1, shape.low[1] + 1.0);
            models.push(solid(&slit, HOLE));
        }
    }
    models
}

/// A switch with its ports and lights.
#[must_use]
pub fn switch(layout: &Layout, switch: &Switch) -> Vec<Model> {
    let mut models = vec![solid(&layout.switch(switch), 0x2c_4f_7c)];
    for number in 1..=layout.rack.bay.ports {
        let [x, y, z] = cables::port(layout, switch, number);
        models.extend([
            boxed(
                [x - 7.2, y - 0.1, z - 6.6],
                [x + 7.2, y + 1.0, z + 6.2],
                SILVER,
            ),
            boxed(
                [x - 5.9, y - 0.2, z - 4.6],
                [x + 5.9, y + 1.0, z + 3.4],
                HOLE,
            ),
            boxed(
                [x - 2.9, y - 0.2, z + 3.4],
                [x + 2.9, y + 1.0, z + 5.4],
                HOLE,
            ),
            boxed(
                [x - 1.0, y - 0.2, z + 8.0],
                [x + 1.0, y + 1.0, z + 9.4],
                0x58_e0_7a,
            ),
        ]);
    }
    models
}

/// The patch cables, but for that of a tray which is out, with their plugs.
#[must_use]
pub fn cables(layout: &Layout, host: &Dimensions, out: u32) -> Vec<Model> {
    const COLOURS: [u32; 6] = [
        0xf2_b1_34, 0x5b_c0_8f, 0x4f_a3_e3, 0xb0_7c_e8, 0xe8_6f_91, 0xb8_bf_c8,
    ];
    let patch = layout.rack.patch;
    let Ok(cables) = cables::all(layout, host, &layout.rack.switches[0]) else {
        return Vec::new();
    };
    let without = format!("tray {out}");
    let mut models = Vec::new();
    for (cable, hex) in cables.iter().zip(COLOURS) {
        if cable.from == without {
            continue;
        }
        models.push((tube(&cable.way, patch.thickness / 2.0), colour(hex)));
        let ends = [
            &cable.way[..2],
            &[
                cable.way[cable.way.len() - 1],
                cable.way[cable.way.len() - 2],
            ],
        ];
        for end in ends {
            let out = unit(sub(end[1], end[0]));
            for (far, wide, hex) in [(9.0, 0.92, 0xd9_df_e4), (patch.plug - 3.0, 0.72, hex)] {
                let tip = add(end[0], scale(out, far));
                let half = [0, 1, 2].map(|axis| {
                    // Across: a plug is wider than high; along: nothing.
                    let side = if axis == 2 {
                        patch.body[1] * 0.8
                    } else {
                        patch.body[0]
                    };
                    side * wide / 2.0 * (1.0 - out[axis].abs())
                });
                let low = [0, 1, 2].map(|axis| f64::min(end[0][axis], tip[axis]) - half[axis]);
                let high = [0, 1, 2].map(|axis| f64::max(end[0][axis], tip[axis]) + half[axis]);
                models.push(boxed(low, high, hex));
            }
        }
    }
    models
}

/// A round solid along a way.
fn tube(way: &[Vec3], radius: f64) -> Mesh {
    const SIDES: u32 = 14;
    let mut aside = [0.0, 0.0, 1.0];
    let rings: Vec<Vec<Vec3>> = (0..way.len())
        .map(|at| {
            let (before, after) = (way[at.saturating_sub(1)], way[(at + 1).min(way.len() - 1)]);
            let along = unit(sub(after, before));
            // The same side goes along, turned as little as the way turns.
            aside = unit(sub(aside, scale(along, dot(aside, along))));
            let other = cross(along, aside);
            let around = (0..SIDES).map(|side| {
                let (sin, cos) = (f64::from(side) / f64::from(SIDES) * TAU).sin_cos();
                let from = add(scale(aside, cos * radius), scale(other, sin * radius));
                add(way[at], from)
            });
            around.collect()
        })
        .collect();
    let mut triangles = Vec::new();
    for pair in rings.windows(2) {
        for side in 0..pair[0].len() {
            let next = (side + 1) % pair[0].len();
            let [a, b, c, d] = [pair[0][side], pair[0][next], pair[1][next], pair[1][side]];
            triangles.extend([[a, b, c], [a, c, d]]);
        }
    }
    Mesh::new(triangles)
}

/// The fans: a frame with a round opening, a hub, seven blades.
#[must_use]
pub fn fans(layout: &Layout) -> Vec<Model> {
    let fan = &layout.rack.fan;
    let mut models = Vec::new();
    for (_, shape) in layout.fan_boxes() {
        let middle = [1, 2].map(|axis| f64::midpoint(shape.low[axis], shape.high[axis]));
        let (low, high) = (shape.low[0], shape.high[0]);
        let frame = ring(middle, [low, high], fan.opening / 2.0, |angle| {
            let (sin, cos) = angle.sin_cos();
            let to_side = fan.size / 2.0 / sin.abs().max(cos.abs());
            [cos * to_side, sin * to_side]
        });
        models.push((frame, colour(0x8a_6a_4e)));
        let hub = |angle: f64| {
            let (sin, cos) = angle.sin_cos();
            [cos * fan.hub / 2.0, sin * fan.hub / 2.0]
        };
        let blade = colour(0x5a_3a_2a);
        models.push((ring(middle, [low + 2.0, high - 2.0], 0.1, hub), blade));
        let wings = (0..7).flat_map(|wing| {
            let angle = f64::from(wing) / 7.0 * TAU;
            let at = |x: f64, radius: f64, turn: f64| {
                let (sin, cos) = (angle + turn).sin_cos();
                [x, middle[0] + cos * radius, middle[1] + sin * radius]
            };
            let (root, tip) = (fan.hub / 2.0, fan.opening / 2.0 - 0.8);
            let [a, b, c, d] = [
                at(low + 4.0, root, 0.0),
                at(low + 4.0, tip, 0.15),
                at(high - 4.0, tip, 0.85),
                at(high - 4.0, root, 0.7),
            ];
            [[a, b, c], [a, c, d]]
        });
        models.push((Mesh::new(wings.collect()), blade));
    }
    models
}

/// A prism along x with a round hole.
fn ring(middle: [f64; 2], ends: [f64; 2], hole: f64, outside: impl Fn(f64) -> [f64; 2]) -> Mesh {
    const PARTS: u32 = 64;
    let mut triangles = Vec::new();
    let mut quad = |a: Vec3, b: Vec3, c: Vec3, d: Vec3| {
        triangles.extend([[a, b, c], [a, c, d]]);
    };
    for part in 0..PARTS {
        let [one, two] = [part, part + 1].map(|part| f64::from(part) / f64::from(PARTS) * TAU);
        let inner = |angle: f64, x: f64| {
            [
                x,
                middle[0] + angle.cos() * hole,
                middle[1] + angle.sin() * hole,
            ]
        };
        let outer = |angle: f64, x: f64| {
            let [y, z] = outside(angle);
            [x, middle[0] + y, middle[1] + z]
        };
        let [low, high] = ends;
        quad(
            inner(one, high),
            outer(one, high),
            outer(two, high),
            inner(two, high),
        );
        quad(
            inner(one, low),
            inner(two, low),
            outer(two, low),
            outer(one, low),
        );
        quad(
            outer(one, low),
            outer(two, low),
            outer(two, high),
            outer(one, high),
        );
        quad(
            inner(one, low),
            inner(one, high),
            inner(two, high),
            inner(two, low),
        );
    }
    Mesh::new(triangles)
}
