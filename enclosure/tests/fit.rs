// SPDX-License-Identifier: Apache-2.0
//! The enclosure fits, and the checks that say so are seen to fail. Needs OpenSCAD; without it the test of the solids says
//! that it did not run. What needs none runs everywhere.

use racklet_enclosure::layout::Layout;
use racklet_enclosure::mesh::{Aabb, Mesh, block};
use racklet_enclosure::solids::{self, Part};
use racklet_enclosure::{air, cables, check, filament, latch, layout, report};

fn moved(parts: &[Part], name: &str, by: [f64; 3]) -> Vec<Part> {
    let mut parts = parts.to_vec();
    let part = parts.iter_mut().find(|part| part.name == name);
    let part = part.expect("there is such a part");
    part.placed = part.placed.moved(by);
    parts
}

fn says(found: &[String], what: &str) {
    assert!(
        found.iter().any(|line| line.contains(what)),
        "{what:?} is not in {found:#?}"
    );
}

fn cables_and_switch_have_their_room(layout: &Layout, parts: &[Part]) {
    let host = &solids::hosts()[0];
    // A switch that is wider, higher or deeper than its bay.
    for (axis, by) in [(0, 8.0), (1, 3.0), (2, 1.0)] {
        let mut layout = layout.clone();
        layout.rack.switches[0].size[axis] += by;
        says(&check::case(&layout, parts), "TP-Link TL-SG108 and ");
    }
    // Plugs that are thicker than a tray's opening, ports at the very side.
    let mut thick = layout.clone();
    thick.rack.patch.body[1] = 26.0;
    says(
        &cables::check(&thick, parts, host),
        "the plug of tray 5 is in tray-",
    );
    let forward = moved(parts, "front", [60.0, -48.0, 0.0]);
    says(
        &cables::check(layout, &forward, host),
        "the cable from tray 1 runs into front",
    );
    let mut aside = layout.clone();
    aside.rack.bay.margin = 4.0;
    says(
        &cables::check(&aside, parts, host),
        "the plug of port 1 is in left-wall",
    );
}

fn the_latch_holds_and_lets_go(layout: &Layout, parts: &[Part]) {
    let host = &solids::hosts()[0];
    let tray = format!("tray-{}", host.name);
    let holds = |parts: &[Part]| latch::holds(layout, parts, host);
    // A wall further away, or with its holes elsewhere, or without any.
    let away = moved(parts, "right-wall", [0.5, 0.0, 0.0]);
    says(&holds(&away), "the catch holds by less than 1.2 mm");
    let forward = moved(parts, "right-wall", [0.0, -0.5, 0.0]);
    says(&holds(&forward), "the catch holds by less than 1.2 mm");
    let back = moved(parts, "right-wall", [0.0, 0.4, 0.0]);
    says(&holds(&back), "the catch does not find its hole");
    // A wall so near that the catch, drawn in, still runs into it.
    let near = moved(parts, "right-wall", [-0.5, 0.0, 0.0]);
    says(&holds(&near), "with its catch drawn in the tray runs into");
    // A latch that was computed thinner or shorter than it is made.
    for spoil in [
        (|latch| latch.thickness -= 0.2) as fn(&mut racklet_boards::dimensions::Latch),
        |latch| latch.thickness += 0.2,
        |latch| latch.length += 3.0,
        |latch| latch.length -= 3.0,
    ] {
        let mut other = layout.clone();
        spoil(&mut other.rack.latch);
        says(&latch::holds(&other, parts, host), "its arm is not");
    }
    // An arm that is pressed further than its gap is wide, and a tray without a latch.
    let spoilt = |spoil: fn(&mut Option<latch::Solids>)| {
        let mut parts = parts.to_vec();
        let part = parts.iter_mut().find(|part| part.name == tray);
        spoil(&mut part.expect("there is such a tray").latch);
        holds(&parts)
    };
    let far = spoilt(|latch| {
        let solids = latch.as_mut().expect("it has one");
        solids.arm = solids.arm.moved([-1.5, 0.0, 0.0]);
    });
    says(&far, "the arm runs into the tray");
    says(&spoilt(|latch| *latch = None), "has no latch");
}

#[test]
fn the_enclosure_fits_and_each_fault_is_found() {
    if !solids::available() {
        eprintln!("skipped: openscad is not installed");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let layout = layout();
    let parts = solids::make(&layout, scratch.path()).expect("the solids are made");
    assert_eq!(check::all(&layout, &parts), Vec::<String>::new());

    // A wall that has moved is in the way of trays, or in another part.
    let host = &solids::hosts()[0];
    says(
        &check::slots(&layout, &moved(&parts, "right-wall", [0.0, 0.0, 2.0]), host),
        "the tray is in right-wall",
    );
    says(
        &check::slots(&layout, &moved(&parts, "divider", [1.5, 0.0, 0.0]), host),
        "the tray is in divider",
    );
    says(
        &check::case(&layout, &moved(&parts, "rear-wall", [0.0, -1.0, 0.0])),
        "rear-wall",
    );
    says(
        &check::case(&layout, &moved(&parts, "top", [3.0, 0.0, 0.0])),
        "the screw at",
    );
    // A block in front of the lowest slot, where the tray passes on its way.
    let mut blocked = parts.clone();
    let z = layout.tray_z(layout.rack.slots) + 1.0;
    let x = layout.zone_x + 30.0;
    blocked[0].placed = block(&Aabb {
        low: [x, 5.0, z],
        high: [x + 2.0, 6.0, z + 0.5],
    });
    says(&latch::holds(&layout, &blocked, host), "slot 5");
    the_latch_holds_and_lets_go(&layout, &parts);
    the_document_has(&report::measured(&layout, &parts));
    cables_and_switch_have_their_room(&layout, &parts);

    // A surface with a hole in it; a part larger than the bed.
    let mut torn = parts[0].clone();
    torn.printed = Mesh::new(torn.printed.triangles()[1..].to_vec());
    says(&check::printable(&layout, &torn), "not closed");
    let mut small = layout.clone();
    small.rack.print.bed = 150.0;
    says(&check::printable(&small, &parts[0]), "larger than the bed");
    small.rack.print.least_wall = 2.6;
    says(&check::printable(&small, &parts[1]), "a wall of");
    small.rack.print.grams *= 1.02;
    assert!(filament::check(&small, &parts).is_some());
    let mut fewer = layout.clone();
    fewer.rack.print.infill = 1.0;
    assert!(filament::check(&fewer, &parts).is_some());

    // Holes that are closed, a wall without holes, fans that are too weak.
    let plate = |name: &str| {
        let mut parts = parts.clone();
        let part = parts.iter_mut().find(|part| part.name == name);
        let part = part.expect("there is such a part");
        part.placed = block(&part.placed.bounds());
        parts
    };
    let airless = air::check(&layout, &plate("left-wall"), host);
    says(&airless, "0 mm2 are free (out: grilles of the left wall)");
    says(
        &air::check(&layout, &plate("divider"), host),
        "mm2 are free",
    );
    let mut weak = layout.clone();
    weak.rack.fan.pressure = 8.0;
    says(&air::check(&weak, &parts, host), "K warmer at worst");
    weak.rack.fan.opening = 44.0;
    says(&air::check(&weak, &parts, host), "are needed");

    // A host with a taller connector, a HAT with taller parts.
    let mut tall = host.clone();
    tall.bodies[0].height = 24.0;
    says(
        &check::slots(&layout, &parts, &tall),
        "is in the tray of slot",
    );
    let mut layout = layout;
    layout.hat.bodies[0].height = 9.5;
    says(
        &check::slots(&layout, &parts, host),
        "parts is in the tray of slot",
    );

    // The same inputs give the same bytes.
    let again = tempfile::tempdir().expect("a temporary folder");
    let file =
        |folder: &std::path::Path| std::fs::read(folder.join("deck.stl")).expect("it was made");
    solids::part(&racklet_enclosure::layout(), host, again.path(), "deck", 1)
        .expect("it is made again");
    assert!(
        file(scratch.path()) == file(again.path()),
        "deck.stl differs between two runs"
    );
}

#[test]
fn every_card_meets_its_socket() {
    let hosts = solids::hosts();
    assert!(hosts.len() >= 3);
    for host in &hosts {
        assert_eq!(check::mating(&layout(), host), Vec::<String>::new());
    }
}

#[test]
fn a_moved_socket_a_moved_tab_and_a_low_standoff_are_found() {
    let host = &solids::hosts()[0];
    let mut moved = layout();
    moved.backplane.sockets[2][0] += 0.6;
    says(&check::mating(&moved, host), "slot 3");
    let mut moved = layout();
    moved.backplane.sockets[4][1] -= 0.2;
    says(&check::mating(&moved, host), "slot 5");
    // One millimetre: a socket to each side, the card's edge, the HAT's header, the host's.
    for by in [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]] {
        let mut moved = layout();
        for axis in [0, 1] {
            moved.backplane.sockets[0][axis] += by[axis];
        }
        says(&check::mating(&moved, host), "slot 1 with");
    }
    let mut moved = layout();
    let edge = moved.hat.edge.as_mut().expect("it has a tab");
    (edge.low[1], edge.high[1]) = (edge.low[1] + 1.0, edge.high[1] + 1.0);
    says(&check::mating(&moved, host), "slot 5 with");
    for axis in [0, 1] {
        let mut moved = layout();
        let header = moved
            .hat
            .bodies
            .iter_mut()
            .find(|body| body.name == "header");
        let header = header.expect("it has a header");
        header.low[axis] += 1.0;
        header.high[axis] += 1.0;
        says(&check::mating(&moved, host), "header");
        let mut other = host.clone();
        let header = other.bodies.iter_mut().find(|body| body.name == "header");
        let header = header.expect("it has a header");
        header.low[axis] -= 1.0;
        header.high[axis] -= 1.0;
        says(&check::mating(&layout(), &other), "header");
    }
    let mut without = layout();
    without.hat.bodies.retain(|body| body.name != "header");
    says(&check::mating(&without, host), "header");
    let mut moved = layout();
    moved.backplane.sockets.pop();
    says(&check::mating(&moved, host), "4 sockets for 5 slots");
    let mut moved = layout();
    let edge = moved.hat.edge.as_mut().expect("it has a tab");
    edge.low[1] += 2.0;
    says(&check::mating(&moved, host), "slot 1");
    let mut low = layout();
    low.rack.tray.standoff = 2.5;
    says(&check::mating(&low, host), "below the board");
}

fn the_document_has(tables: &[String]) {
    let document = include_str!("../../docs/hardware/enclosure.md");
    for table in tables {
        assert!(
            document.contains(table),
            "run `cargo run -p racklet-enclosure --bin case tables` for:\n{table}"
        );
    }
}

#[test]
fn the_document_has_what_is_computed() {
    the_document_has(&report::computed(&layout()));
}
