// SPDX-License-Identifier: Apache-2.0
//! Patch cables: from each tray's jack, and from the backplane's in the right wall, to the switch at the bottom. A cable leaves its plug
//! straight, bends, runs to in front of its port, bends back, and goes in straight. Ports are counted from the left: the way out has the
//! first, trays the others from the right, the backplane the last.

use std::f64::consts::FRAC_PI_2;

use racklet_boards::dimensions::{Dimensions, Switch};

use crate::layout::Layout;
use crate::mesh::Aabb;
use crate::solids::Part;

/// What a cable must be longer than its shortest way, so that it hangs freely.
const LOOSE: f64 = 1.05;

/// A patch cable.
#[derive(Debug, Clone, PartialEq)]
pub struct Cable {
    /// From where.
    pub from: String,
    /// To which port.
    pub port: u32,
    /// The shortest way, from end to end, in millimetres.
    pub shortest: f64,
    /// The length that is bought.
    pub bought: f64,
}

/// The middle of a port's face.
#[must_use]
pub fn port(layout: &Layout, switch: &Switch, port: u32) -> [f64; 3] {
    let (shape, bay) = (layout.switch(switch), layout.rack.bay);
    let spread = switch.size[0] - 2.0 * bay.margin;
    let part = f64::from(port - 1) / f64::from(bay.ports - 1);
    [
        shape.low[0] + bay.margin + part * spread,
        shape.low[1],
        f64::midpoint(shape.low[2], shape.high[2]),
    ]
}

/// All cables of a rack with one kind of hosts; those of the backplane last.
///
/// # Errors
/// What has no jack, or is too near for a cable's bends.
pub fn all(layout: &Layout, host: &Dimensions, switch: &Switch) -> Result<Vec<Cable>, String> {
    let patch = layout.rack.patch;
    // Two straight plugs and the bends between them and the run.
    let ends = 2.0 * (patch.plug + patch.inside);
    let turn = FRAC_PI_2 * patch.bend;
    let mut cables = Vec::new();
    for slot in 1..=layout.rack.slots {
        let no = |what| format!("slot {slot} with {}: {what}", host.name);
        let jack = layout
            .jack(host, slot)
            .ok_or_else(|| no("no network jack"))?;
        let number = layout.rack.bay.ports - slot;
        let to = port(layout, switch, number);
        let down = jack[2] - to[2] - 2.0 * patch.bend;
        if down < 0.0 {
            return Err(no("its jack is too near to the switch for two bends"));
        }
        cables.push(Cable {
            from: format!("tray {slot}"),
            port: number,
            // The plugs end at different depths.
            shortest: ends + 2.0 * turn + down.hypot(jack[0] - to[0]) + (jack[1] - to[1]).abs(),
            bought: patch.tray,
        });
    }
    let jack = layout
        .backplane_jack()
        .ok_or("the backplane has no network jack")?;
    let to = port(layout, switch, layout.rack.bay.ports);
    // To the right, forward and down beside the wall, to the left in front, and back into the port.
    let beside = jack[0] + patch.plug + patch.bend;
    let before = to[1] - patch.plug - patch.bend;
    let run = (jack[1] - before - 2.0 * patch.bend).hypot(jack[2] - to[2]);
    let back = beside - to[0] - 2.0 * patch.bend;
    if back < 0.0 {
        return Err("the last port is too far right for the backplane's cable".to_owned());
    }
    cables.push(Cable {
        from: "backplane".to_owned(),
        port: layout.rack.bay.ports,
        shortest: ends + 3.0 * turn + run + back,
        bought: patch.backplane,
    });
    Ok(cables)
}

/// Every cable is long enough for every switch, and every plug has its room.
#[must_use]
pub fn check(layout: &Layout, parts: &[Part], host: &Dimensions) -> Vec<String> {
    let mut found = Vec::new();
    for switch in &layout.rack.switches {
        match all(layout, host, switch) {
            Ok(cables) => found.extend(
                cables
                    .iter()
                    .filter(|cable| cable.bought < LOOSE * cable.shortest)
                    .map(|cable| {
                        format!(
                            "the cable from {} with {} to {} needs {:.0} mm and has {}",
                            cable.from, host.name, switch.name, cable.shortest, cable.bought
                        )
                    }),
            ),
            Err(why) => found.push(why),
        }
        found.extend(plugs(layout, parts, host, switch));
    }
    found
}

/// Plugs in neither the case nor a tray; a tray's own has its opening there.
fn plugs(layout: &Layout, parts: &[Part], host: &Dimensions, switch: &Switch) -> Vec<String> {
    let patch = layout.rack.patch;
    let plug = |[x, y, z]: [f64; 3]| {
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
    let name = format!("tray-{}", host.name);
    let mut found = Vec::new();
    for (of, shape) in ports.chain(jacks) {
        for part in parts {
            let slots = match part.count {
                1 => 1..=1,
                _ if part.name == name => 1..=layout.rack.slots,
                _ => continue,
            };
            for slot in slots {
                let down = layout.tray_z(slot) - layout.tray_z(1);
                let down = if part.count == 1 { 0.0 } else { down };
                let mut there = shape;
                there.low[2] -= down;
                there.high[2] -= down;
                if part.placed.meets_box(&there) {
                    found.push(format!("the plug of {of} is in {}", part.name));
                }
            }
        }
    }
    found
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
    fn a_short_cable_and_a_stiff_one_are_refused() {
        let short = of(|layout| layout.rack.patch.tray = 250.0);
        assert!(short[0].contains("from tray 1 with"), "{short:?}");
        let short = of(|layout| layout.rack.patch.backplane = 300.0);
        assert!(short[0].contains("from backplane with"), "{short:?}");
        let stiff = of(|layout| layout.rack.patch.bend = 30.0);
        assert!(
            stiff.iter().any(|line| line.contains("too near")),
            "{stiff:?}"
        );
    }
}
