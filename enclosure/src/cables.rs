// SPDX-License-Identifier: Apache-2.0
//! Patch cables: from each tray's jack, and from the backplane's in the right wall, to the switch at the bottom. A cable leaves its plug
//! straight, bends, runs to in front of its port, bends back, and goes in straight. Ports are counted from the left: the way out has the
//! first, trays the others from the right, the backplane the last.

use std::f64::consts::FRAC_PI_2;

use racklet_boards::dimensions::{Dimensions, Switch};

use crate::layout::Layout;
use crate::mesh::Aabb;
use crate::solids::Part;
use crate::vector::{Vec3, add, dot, scale, sub, unit};

/// What a cable must be longer than its shortest way, so that it hangs freely.
const LOOSE: f64 = 1.05;

/// A patch cable.
#[derive(Debug, Clone, PartialEq)]
pub struct Cable {
    /// From where.
    pub from: String,
    /// Its way, from one jack's face to the other's.
    pub way: Vec<Vec3>,
    /// To which port.
    pub port: u32,
    /// The shortest way, from end to end, in millimetres.
    pub shortest: f64,
    /// The length that is bought.
    pub bought: f64,
}

/// The middle of a port's face.
#[must_use]
pub fn port(layout: &Layout, switch: &Switch, port: u32) -> Vec3 {
    let (shape, bay) = (layout.switch(switch), layout.rack.bay);
    let spread = switch.size[0] - 2.0 * bay.margin;
    let part = f64::from(port - 1) / f64::from(bay.ports - 1);
    [
        shape.low[0] + bay.margin + part * spread,
        shape.low[1],
        f64::midpoint(shape.low[2], shape.high[2]),
    ]
}

/// All cables of a rack with one kind of hosts; that of the backplane last.
///
/// # Errors
/// What has no jack, or is too near for a cable's bends.
pub fn all(layout: &Layout, host: &Dimensions, switch: &Switch) -> Result<Vec<Cable>, String> {
    let patch = layout.rack.patch;
    let bay = layout.rack.bay;
    let cable = |from: String, port, bought, way: Way| Cable {
        from,
        port,
        shortest: way.length() + 2.0 * patch.inside,
        bought,
        way: way.points,
    };
    let mut cables = Vec::new();
    for slot in 1..=layout.rack.slots {
        let no = |what| format!("slot {slot} with {}: {what}", host.name);
        let jack = layout.jack(host, slot);
        let jack = jack.ok_or_else(|| no("no network jack"))?;
        let number = bay.ports - slot;
        let way = from_tray(layout, jack, port(layout, switch, number));
        let way = way.ok_or_else(|| no("its jack is too near to the switch for two bends"))?;
        cables.push(cable(format!("tray {slot}"), number, patch.tray, way));
    }
    let jack = layout
        .backplane_jack()
        .ok_or("the backplane has no network jack")?;
    let way = from_backplane(layout, jack, port(layout, switch, bay.ports))
        .ok_or("the last port is too near to the backplane's jack for three bends")?;
    cables.push(cable(
        "backplane".to_owned(),
        bay.ports,
        patch.backplane,
        way,
    ));
    Ok(cables)
}

/// Out of the tray, down in front of the rack, into the port.
fn from_tray(layout: &Layout, jack: Vec3, port: Vec3) -> Option<Way> {
    let patch = layout.rack.patch;
    // Plugs end at different depths: both go on to the one further out.
    let before = jack[1].min(port[1]) - patch.plug;
    let run = [port[0] - jack[0], 0.0, port[2] - jack[2]];
    let long = dot(run, run).sqrt() - 2.0 * patch.bend;
    let run = unit(run);
    let mut way = Way::from(jack, patch.bend);
    way.straight(FORWARD, jack[1] - before);
    way.bend(FORWARD, run);
    way.straight(run, long);
    way.bend(run, BACK);
    way.straight(BACK, port[1] - before);
    (long > 0.0).then_some(way)
}

/// To the right out of the wall, forward and down beside it, to the left in front of the switch, into the port.
fn from_backplane(layout: &Layout, jack: Vec3, port: Vec3) -> Option<Way> {
    let patch = layout.rack.patch;
    let before = port[1] - patch.plug;
    let run = [0.0, before - patch.bend - jack[1], port[2] - jack[2]];
    let long = dot(run, run).sqrt() - 2.0 * patch.bend;
    let left = jack[0] + patch.plug - port[0] - patch.bend;
    let run = unit(run);
    let mut way = Way::from(jack, patch.bend);
    way.straight(RIGHT, patch.plug);
    way.bend(RIGHT, run);
    way.straight(run, long);
    way.bend(run, LEFT);
    way.straight(LEFT, left);
    way.bend(LEFT, BACK);
    way.straight(BACK, patch.plug);
    (long > 0.0 && left > 0.0).then_some(way)
}

const RIGHT: Vec3 = [1.0, 0.0, 0.0];
const LEFT: Vec3 = [-1.0, 0.0, 0.0];
const FORWARD: Vec3 = [0.0, -1.0, 0.0];
const BACK: Vec3 = [0.0, 1.0, 0.0];

/// A way made of straight pieces and quarters of circles.
struct Way {
    points: Vec<Vec3>,
    radius: f64,
}

impl Way {
    fn from(start: Vec3, radius: f64) -> Self {
        Self {
            points: vec![start],
            radius,
        }
    }

    fn at(&self) -> Vec3 {
        *self.points.last().expect("it starts somewhere")
    }

    fn straight(&mut self, along: Vec3, far: f64) {
        let start = self.at();
        // Points at most 2 mm apart are near enough to look for what is in the way.
        let parts = (far / 2.0).max(0.0).ceil();
        let mut part = 1.0;
        while part <= parts {
            self.points
                .push(add(start, scale(along, far * part / parts)));
            part += 1.0;
        }
    }

    /// From one direction into another that is upright on it.
    fn bend(&mut self, from: Vec3, into: Vec3) {
        let start = self.at();
        for part in 1..=16 {
            let (sin, cos) = (f64::from(part) / 16.0 * FRAC_PI_2).sin_cos();
            let ahead = scale(from, self.radius * sin);
            let aside = scale(into, self.radius * (1.0 - cos));
            self.points.push(add(start, add(ahead, aside)));
        }
    }

    fn length(&self) -> f64 {
        let pieces = self.points.windows(2).map(|ends| sub(ends[1], ends[0]));
        pieces.map(|piece| dot(piece, piece).sqrt()).sum()
    }
}

/// Every cable is long enough for every switch, and every plug has its room.
#[must_use]
pub fn check(layout: &Layout, parts: &[Part], host: &Dimensions) -> Vec<String> {
    let mut found = Vec::new();
    for switch in &layout.rack.switches {
        match all(layout, host, switch) {
            Ok(cables) => {
                found.extend(blocked(layout, parts, host, &cables));
                found.extend(
                    cables
                        .iter()
                        .filter(|cable| cable.bought < LOOSE * cable.shortest)
                        .map(|cable| {
                            format!(
                                "the cable from {} with {} to {} needs {:.0} mm and has {}",
                                cable.from, host.name, switch.name, cable.shortest, cable.bought
                            )
                        }),
                );
            }
            Err(why) => found.push(why),
        }
        found.extend(plugs(layout, parts, host, switch));
    }
    found
}

/// Cables and plugs that are in the case or in a tray; the openings for plugs are wide enough.
fn plugs(layout: &Layout, parts: &[Part], host: &Dimensions, switch: &Switch) -> Vec<String> {
    let patch = layout.rack.patch;
    let plug = |[x, y, z]: Vec3| {
        let half = patch.body.map(|side| side / 2.0);
        Aabb {
            low: [x - half[0], y - patch.plug, z - half[1]],
            high: [x + half[0], y, z + half[1]],
        }
    };
    let ports = (1..=layout.rack.bay.ports)
        .map(|number| (format!("port {number}"), plug(port(layout, switch, number))));
    let jacks = (1..=layout.rack.slots).filter_map(|slot| {
        let jack = layout.jack(host, slot)?;
        Some((format!("tray {slot}"), plug(jack)))
    });
    let mut found = Vec::new();
    for (of, shape) in ports.chain(jacks) {
        for part in meeting(layout, parts, host, &shape) {
            found.push(format!("the plug of {of} is in {part}"));
        }
    }
    found
}

/// Cables, between their plugs, in neither the case nor a tray.
fn blocked(layout: &Layout, parts: &[Part], host: &Dimensions, cables: &[Cable]) -> Vec<String> {
    let patch = layout.rack.patch;
    let half = patch.thickness / 2.0;
    let mut found = Vec::new();
    for cable in cables {
        let ends =
            [cable.way.first(), cable.way.last()].map(|end| end.copied().unwrap_or_default());
        for point in &cable.way {
            let in_plug = ends.iter().any(|end| {
                let from = sub(*point, *end);
                dot(from, from).sqrt() < patch.plug
            });
            let shape = Aabb {
                low: point.map(|at| at - half),
                high: point.map(|at| at + half),
            };
            if in_plug {
                continue;
            }
            if let Some(part) = meeting(layout, parts, host, &shape).first() {
                found.push(format!(
                    "the cable from {} runs into {part} at {point:.0?}",
                    cable.from
                ));
                break;
            }
        }
    }
    found
}

/// Parts of the case, and trays of that kind of host in any slot, that a box meets.
fn meeting<'p>(
    layout: &Layout,
    parts: &'p [Part],
    host: &Dimensions,
    shape: &Aabb,
) -> Vec<&'p str> {
    let tray = format!("tray-{}", host.name);
    let mut met = Vec::new();
    for part in parts {
        let slots = match part.count {
            1 => 1..=1,
            _ if part.name == tray => 1..=layout.rack.slots,
            _ => continue,
        };
        for slot in slots {
            let down = if part.count == 1 {
                0.0
            } else {
                layout.tray_z(slot) - layout.tray_z(1)
            };
            let mut there = *shape;
            there.low[2] -= down;
            there.high[2] -= down;
            if part.placed.meets_box(&there) {
                met.push(part.name.as_str());
            }
        }
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layout, solids};

    fn of(spoil: impl Fn(&mut Layout)) -> Vec<String> {
        let mut layout = layout();
        spoil(&mut layout);
        let hosts = solids::hosts();
        hosts
            .iter()
            .flat_map(|host| check(&layout, &[], host))
            .collect()
    }

    #[test]
    fn every_cable_that_is_bought_is_long_enough() {
        assert_eq!(of(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn a_way_is_as_long_as_its_pieces() {
        let mut way = Way::from([5.0; 3], 10.0);
        way.straight(RIGHT, 7.0);
        way.bend(RIGHT, BACK);
        way.straight(BACK, 3.0);
        assert_eq!(way.at(), [22.0, 18.0, 5.0]);
        let expected = 7.0 + 10.0 * FRAC_PI_2 + 3.0;
        assert!((way.length() - expected).abs() < 0.01, "{}", way.length());
    }

    #[test]
    fn a_short_cable_and_a_stiff_one_are_refused() {
        let short = of(|layout| layout.rack.patch.tray = 250.0);
        assert!(short[0].contains("from tray 1 with"), "{short:?}");
        let short = of(|layout| layout.rack.patch.backplane = 300.0);
        assert!(short[0].contains("from backplane with"), "{short:?}");
        let stiff = of(|layout| layout.rack.patch.bend = 60.0);
        assert!(
            stiff.iter().any(|line| line.contains("too near")),
            "{stiff:?}"
        );
    }
}
