// SPDX-License-Identifier: Apache-2.0
//! The way of the air, from right to left: in through the right wall's holes, across the boards, out through the divider's holes, around
//! the fans' edges into them, out through the left wall's grilles. Free areas are measured on the solids; flow and warming follow from
//! the fans' data sheet. No model of what air does between two places: it is where it gets through that counts here.

use racklet_boards::dimensions::{Dimensions, Load};

use crate::layout::Layout;
use crate::mesh::{Aabb, Mesh};
use crate::solids::Part;

/// Between two lines across a section, in millimetres.
const STEP: f64 = 0.1;
/// Between two sections through the trays.
const SLICE: f64 = 2.0;
/// Sections lie beside the faces' own coordinates, which are multiples of a tenth.
const BESIDE: f64 = 0.037;

/// A place that all the air goes through.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Where it is.
    pub name: &'static str,
    /// What is free there, in square millimetres.
    pub free: f64,
}

/// The path's places, and what comes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// In the order in which the air passes them.
    pub places: Vec<Place>,
    /// The fans' own opening, in square millimetres.
    pub opening: f64,
    /// What flows, in m3/h.
    pub flow: f64,
    /// What the fans have to press with for that, in pascals.
    pub pressure: f64,
    /// How much warmer the air leaves, in kelvins.
    pub rise: Load,
}

impl Path {
    /// The narrowest of its places.
    ///
    /// # Panics
    /// Without places, which there are.
    #[must_use]
    pub fn narrowest(&self) -> &Place {
        let least = self.places.iter().min_by(|a, b| a.free.total_cmp(&b.free));
        least.expect("air passes several places")
    }
}

/// The path through a rack full of trays of one host.
///
/// # Errors
/// Which part is missing.
pub fn path(layout: &Layout, parts: &[Part], host: &Dimensions) -> Result<Path, String> {
    let of = |name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        part.map(|part| &part.placed)
            .ok_or_else(|| format!("{name} is missing"))
    };
    let (left, right) = (of("left-wall")?, of("right-wall")?);
    let (divider, tray) = (of("divider")?, of(&format!("tray-{}", host.name))?);
    let rack = &layout.rack;
    let (wall, fan) = (rack.case.wall, &rack.fan);
    let room = [
        [0.0, layout.backplane_y],
        [layout.deck_z + rack.print.plate, layout.height],
    ];

    let plane = layout.width - wall / 2.0;
    // The latches' holes are filled by their catches; the connectors' openings by connectors, behind the room.
    let catches: Vec<Aabb> = (1..=rack.slots)
        .map(|slot| {
            let z = layout.tray_z(slot);
            Aabb {
                low: [plane - 1.0, rack.latch.face - 1.0, z - 1.0],
                high: [
                    plane + 1.0,
                    rack.latch.face + 7.0,
                    z + rack.tray.plate + 1.0,
                ],
            }
        })
        .collect();
    let intake = free(&[right], &catches, plane, room);

    let trays: Vec<Mesh> = (1..=rack.slots)
        .map(|slot| tray.moved([0.0, 0.0, layout.tray_z(slot) - layout.tray_z(1)]))
        .collect();
    let boards: Vec<Aabb> = (1..=rack.slots)
        .flat_map(|slot| layout.boards(host, slot))
        .chain(layout.backplane(&layout.backplane.sockets))
        .map(|(_, shape)| shape)
        .collect();
    let mut solids: Vec<&Mesh> = trays.iter().collect();
    solids.extend([right, divider]);
    let (mut x, mut across) = (layout.zone_x + BESIDE, f64::INFINITY);
    while x < layout.width - wall {
        across = across.min(free(&solids, &boards, x, room));
        x += SLICE;
    }

    let out = free(&[divider], &[], layout.zone_x - wall / 2.0, room);
    let edge = std::f64::consts::PI * fan.opening;
    let plenum = layout.zone_x - wall - (wall + rack.print.fit + fan.thickness);
    let around = f64::from(fan.count) * edge * plenum;
    let grilles = layout.fans().map(|[y, z]| {
        let half = fan.opening / 2.0;
        let window = [[y - half, y + half], [z - half, z + half]];
        // Screws are in the holes around.
        let screws = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]].map(|[a, b]| {
            let (y, z) = (y + a * fan.hole_pitch / 2.0, z + b * fan.hole_pitch / 2.0);
            Aabb {
                low: [0.0, y - 2.0, z - 2.0],
                high: [wall, y + 2.0, z + 2.0],
            }
        });
        free(&[left], &screws, wall / 2.0, window)
    });
    let places = vec![
        Place {
            name: "in: holes of the right wall",
            free: intake,
        },
        Place {
            name: "across: beside trays and boards, where it is narrowest",
            free: across,
        },
        Place {
            name: "holes of the divider",
            free: out,
        },
        Place {
            name: "from the divider around the fans' edges",
            free: around,
        },
        Place {
            name: "out: grilles of the left wall",
            free: grilles.sum(),
        },
    ];
    Ok(flow(layout, places))
}

/// What flows through such places: where the fans' pressure, which falls in a straight line from none to free flow, is what the
/// places take one after the other.
fn flow(layout: &Layout, places: Vec<Place>) -> Path {
    let (fan, air) = (&layout.rack.fan, layout.rack.air);
    let count = f64::from(fan.count);
    let opening = count * std::f64::consts::FRAC_PI_4 * (fan.opening.powi(2) - fan.hub.powi(2));
    // In m2 and m3/s: pressure = resistance * flow^2.
    let resistance: f64 = places
        .iter()
        .map(|place| air.density / 2.0 / (air.discharge * place.free * 1e-6).powi(2))
        .sum();
    let most = count * fan.flow / 3600.0;
    let slope = fan.pressure / most;
    let flow =
        ((slope.powi(2) + 4.0 * resistance * fan.pressure).sqrt() - slope) / (2.0 * resistance);
    let rise = |heat: f64| heat / (air.density * air.capacity * flow);
    Path {
        places,
        opening,
        flow: flow * 3600.0,
        pressure: resistance * flow.powi(2),
        rise: Load {
            typical: rise(air.heat.typical),
            worst: rise(air.heat.worst),
        },
    }
}

/// No place is narrower than it may be, and the air does not become too warm.
#[must_use]
pub fn check(layout: &Layout, parts: &[Part], host: &Dimensions) -> Vec<String> {
    let path = match path(layout, parts, host) {
        Ok(path) => path,
        Err(missing) => return vec![missing],
    };
    let air = layout.rack.air;
    let mut found = Vec::new();
    let (narrow, least) = (path.narrowest(), air.share * path.opening);
    if narrow.free < least {
        found.push(format!(
            "air with {}: {:.0} mm2 are free ({}), {least:.0} are needed",
            host.name, narrow.free, narrow.name
        ));
    }
    for (when, is, may) in [
        ("in ordinary use", path.rise.typical, air.rise.typical),
        ("at worst", path.rise.worst, air.rise.worst),
    ] {
        if is > may {
            found.push(format!(
                "air with {}: {is:.1} K warmer {when}, {may} K allowed",
                host.name
            ));
        }
    }
    found
}

/// What is free of a window (y, z) in the plane at x: line by line, what no solid and no box covers.
fn free(solids: &[&Mesh], boxes: &[Aabb], x: f64, window: [[f64; 2]; 2]) -> f64 {
    let [[left, right], [low, high]] = window;
    let sections: Vec<_> = solids.iter().map(|solid| solid.section(x)).collect();
    let boxes: Vec<_> = boxes
        .iter()
        .filter(|shape| shape.low[0] < x && x < shape.high[0])
        .collect();
    let mut area = 0.0;
    let mut z = low + BESIDE;
    while z < high {
        let mut covered: Vec<[f64; 2]> = boxes
            .iter()
            .filter(|shape| shape.low[2] < z && z < shape.high[2])
            .map(|shape| [shape.low[1], shape.high[1]])
            .collect();
        for section in &sections {
            covered.extend(Mesh::spans(section, z));
        }
        covered.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let mut at = left;
        for [from, to] in covered {
            area += (from.min(right) - at).max(0.0) * STEP;
            at = at.max(to);
        }
        area += (right - at).max(0.0) * STEP;
        z += STEP;
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::mesh::block;

    #[test]
    fn what_solids_and_boxes_leave_of_a_window_is_free() {
        let shape = |low: [f64; 2], high: [f64; 2]| Aabb {
            low: [0.0, low[0], low[1]],
            high: [2.0, high[0], high[1]],
        };
        let solid = block(&shape([10.0, 10.0], [30.0, 20.0]));
        // It overlaps the solid by 10 x 10, and stands out of the window.
        let other = shape([20.0, 0.0], [60.0, 20.0]);
        let window = [[0.0, 50.0], [0.0, 40.0]];
        let area = free(&[&solid], &[other], 1.0, window);
        assert!(
            (area - (2000.0 - 200.0 - 600.0 + 100.0)).abs() < 10.0,
            "{area}"
        );
        assert!((free(&[&solid], &[other], 3.0, window) - 2000.0).abs() < 10.0);
    }

    #[test]
    fn one_hole_lets_through_what_the_handbook_says() {
        let mut layout = layout();
        let fan = &mut layout.rack.fan;
        // Pressure without slope: the free flow is far away.
        (fan.count, fan.flow, fan.pressure) = (1, 1e6, 10.0);
        layout.rack.air.discharge = 0.6;
        layout.rack.air.density = 1.2;
        let hole = Place {
            name: "hole",
            free: 1000.0,
        };
        // 0.6 * 0.001 m2 * sqrt(2 * 10 / 1.2) m/s
        let flow = flow(&layout, vec![hole]).flow / 3600.0;
        assert!((flow - 0.002_449).abs() < 1e-5, "{flow}");
    }
}
