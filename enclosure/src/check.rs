// SPDX-License-Identifier: Apache-2.0
//! What is measured on the solids. Each function answers with one line for each thing that is wrong; none: it fits.

use racklet_boards::dimensions::Dimensions;

use crate::air;
use crate::cables;
use crate::filament;
use crate::latch;
use crate::layout::Layout;
use crate::mesh::{Aabb, Mesh};
use crate::solids::{Part, hosts};

/// What a printer spans without support.
const BRIDGE: f64 = 20.0;

/// How far the middles of a header and its socket may be apart: pins of 0.64 mm in a HAT that is held by four screws.
const HEADER: f64 = 0.3;

/// Everything.
#[must_use]
pub fn all(layout: &Layout, parts: &[Part]) -> Vec<String> {
    let mut found = Vec::new();
    for part in parts {
        found.extend(printable(layout, part));
    }
    found.extend(filament::check(layout, parts));
    found.extend(case(layout, parts));
    found.extend(latch::bears(layout));
    for host in hosts() {
        found.extend(mating(layout, &host));
        found.extend(slots(layout, parts, &host));
        found.extend(latch::holds(layout, parts, &host));
        found.extend(air::check(layout, parts, &host));
        found.extend(cables::check(layout, parts, &host));
    }
    found
}

/// Closed, thick enough, within the bed, without support.
#[must_use]
pub fn printable(layout: &Layout, part: &Part) -> Vec<String> {
    let (print, mesh, name) = (layout.rack.print, &part.printed, &part.name);
    let mut found = Vec::new();
    let open = mesh.open_edges();
    if open > 0 || mesh.volume() <= 0.0 {
        found.push(format!("{name}: not closed, {open} open edges"));
    }
    if let Some((thin, at)) = mesh.thinner_than(print.least_wall) {
        found.push(format!("{name}: a wall of {thin:.2} mm at {at:.1?}"));
    }
    let bounds = mesh.bounds();
    if (0..3).any(|axis| bounds.high[axis] - bounds.low[axis] > print.bed) {
        found.push(format!("{name}: larger than the bed: {bounds:.1?}"));
    }
    if let Some(area) = mesh.overhang(BRIDGE) {
        found.push(format!("{name}: needs support at {area:.1?}"));
    }
    found
}

/// Parts of the case among each other and with what is bought; screws can be reached.
#[must_use]
pub fn case(layout: &Layout, parts: &[Part]) -> Vec<String> {
    let case: Vec<_> = parts.iter().filter(|part| part.count == 1).collect();
    let mut found = Vec::new();
    for (index, part) in case.iter().enumerate() {
        for other in &case[index + 1..] {
            if part.placed.meets(&other.placed) {
                found.push(format!(
                    "{} and {} are in each other",
                    part.name, other.name
                ));
            }
        }
    }
    let mut bought = layout.fan_boxes();
    for switch in &layout.rack.switches {
        let shape = layout.switch(switch);
        bought.push((switch.name.clone(), shape));
        bought.push((
            format!("the power plug of {}", switch.name),
            layout.power_plug(&shape),
        ));
    }
    bought.extend(layout.backplane(&layout.backplane.sockets));
    for (name, shape) in &bought {
        for part in &case {
            if part.placed.meets_box(shape) {
                found.push(format!("{name} and {} are in each other", part.name));
            }
        }
    }
    // A driver of 3.2 mm, 100 mm long, and the screw itself; from below and from above.
    for [x, y] in layout.screws() {
        for z in [
            [-100.0, -layout.rack.print.plate + 0.5],
            [
                layout.height + layout.rack.print.plate - 0.5,
                layout.height + 100.0,
            ],
        ] {
            let driver = Aabb {
                low: [x - 1.6, y - 1.6, z[0]],
                high: [x + 1.6, y + 1.6, z[1]],
            };
            for part in &case {
                if part.placed.meets_box(&driver) {
                    found.push(format!(
                        "the screw at {x:.1}, {y:.1} is behind {}",
                        part.name
                    ));
                }
            }
        }
        for z in [
            [-layout.rack.print.plate, 5.0],
            [layout.height - 5.0, layout.height + layout.rack.print.plate],
        ] {
            let screw = Aabb {
                low: [x - 1.0, y - 1.0, z[0]],
                high: [x + 1.0, y + 1.0, z[1]],
            };
            for part in &case {
                if part.placed.meets_box(&screw) {
                    found.push(format!(
                        "the screw at {x:.1}, {y:.1} has no hole in {}",
                        part.name
                    ));
                }
            }
        }
    }
    found
}

/// Cards meet their sockets: middle to middle within what the socket takes, after the tray has sagged onto its rail.
#[must_use]
pub fn mating(layout: &Layout, host: &Dimensions) -> Vec<String> {
    let (rack, sockets) = (&layout.rack, &layout.backplane.sockets);
    if sockets.len() != rack.slots as usize {
        return vec![format!(
            "{} sockets for {} slots",
            sockets.len(),
            rack.slots
        )];
    }
    let mut found = Vec::new();
    for (slot, (is, arrives)) in (1..).zip(sockets.iter().zip(layout.sockets(host))) {
        let off = [is[0] - arrives[0], is[1] - arrives[1]];
        if off[0].abs() > rack.socket.tolerance
            || off[1].abs() + rack.case.clearance > rack.socket.tolerance
        {
            found.push(format!(
                "slot {slot} with {}: socket and card are {off:.2?} apart",
                host.name
            ));
        }
    }
    match layout.header_off(host) {
        Some(off) if off.iter().all(|by| by.abs() <= HEADER) => {}
        off => found.push(format!(
            "{}: its header is {off:.2?} from the HAT's",
            host.name
        )),
    }
    let standoff = layout.standoff(host);
    let hanging = host
        .bodies
        .iter()
        .map(|body| body.below)
        .fold(host.below, f64::max);
    if hanging + rack.case.clearance > standoff {
        found.push(format!(
            "{}: {hanging} mm below the board, {standoff} mm to the tray",
            host.name
        ));
    }
    found
}

/// Every slot filled with trays of one host: nothing in each other, and boards slide in past all that is there; the tray's own way
/// in is that of its [`latch`], since its catch has to be drawn in.
#[must_use]
pub fn slots(layout: &Layout, parts: &[Part], host: &Dimensions) -> Vec<String> {
    let name = format!("tray-{}", host.name);
    let Some(tray) = parts.iter().find(|part| part.name == name) else {
        return vec![format!("{name} is missing")];
    };
    let case: Vec<_> = parts.iter().filter(|part| part.count == 1).collect();
    let fixed = layout.backplane(&layout.backplane.sockets);
    let mut found = Vec::new();
    let at = |slot: u32| {
        let down = layout.tray_z(slot) - layout.tray_z(1);
        tray.placed.moved([0.0, 0.0, down])
    };
    let trays: Vec<(u32, Mesh)> = (1..=layout.rack.slots)
        .map(|slot| (slot, at(slot)))
        .collect();
    for (slot, mesh) in &trays {
        let where_ = format!("slot {slot} with {}", host.name);
        let mut no = |what: String| found.push(format!("{where_}: {what}"));
        for part in &case {
            if part.placed.meets(mesh) {
                no(format!("the tray is in {}", part.name));
            }
        }
        for (body, shape) in &layout.boards(host, *slot) {
            // All the way from the front.
            let mut way = *shape;
            way.low[1] = -200.0;
            for part in &case {
                if part.placed.meets_box(&way) {
                    no(format!("{body} runs into {}", part.name));
                }
            }
            for (other, stands) in &fixed {
                let own = body == "tab" && *other == format!("socket {slot}");
                if !own && way.overlaps(stands) {
                    no(format!("{body} runs into {other}"));
                }
            }
            for (neighbour, mesh) in &trays {
                let mut moving = way;
                if neighbour == slot {
                    moving = *shape;
                }
                if mesh.meets_box(&moving) {
                    no(format!("{body} is in the tray of slot {neighbour}"));
                }
            }
        }
        for (neighbour, other) in &trays {
            if neighbour > slot && mesh.meets(other) {
                no(format!("the tray is in that of slot {neighbour}"));
            }
        }
    }
    found
}
