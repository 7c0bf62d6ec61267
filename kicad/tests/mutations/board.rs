// SPDX-License-Identifier: Apache-2.0
//! Mistakes in copper, parts and zones.

use racklet_kicad::{
    check::project::Link,
    sexpr::{Sexpr, atom, list, number, text},
};

use crate::spoilt::{Spoilt, argument, is, is_part, net, pads, part, shift};

/// The BMC's board after a mistake that has nothing to do with creepage.
fn spoilt(spoil: impl Fn(&mut Vec<Sexpr>)) -> Vec<Spoilt> {
    let copies = with_creepage(spoil);
    copies.iter().for_each(Spoilt::no_creepage);
    copies
}

/// The same, with all rules.
fn with_creepage(spoil: impl Fn(&mut Vec<Sexpr>)) -> Vec<Spoilt> {
    let copies = Spoilt::bmc();
    for copy in &copies {
        copy.board(&spoil);
    }
    copies
}

fn of_net(item: &Sexpr, number: &str) -> bool {
    item.field("net") == Some(number)
}

/// A track between two places of a net.
fn track(net: &str, from: (f64, f64), to: (f64, f64), width: f64, id: &str) -> Sexpr {
    let spot = |name, (x, y): (f64, f64)| list(name, [number(x), number(y)]);
    let items = [
        spot("start", from),
        spot("end", to),
        list("width", [number(width)]),
        list("layer", [text("F.Cu")]),
        list("net", [atom(net)]),
        list("uuid", [text(id)]),
    ];
    list("segment", items)
}

/// Where fingers and transistor of the busbar are, in the file's coordinates.
const BUSBAR: ((f64, f64), (f64, f64)) = ((99.5, 83.25), (107.0, 83.25));
const OWN: &str = "00000000-0000-4000-8000-000000000001";

#[test]
fn a_thin_power_track_is_refused() {
    let copies = spoilt(|board| {
        let busbar = net(board, "BUSBAR");
        board.push(track(&busbar, BUSBAR.0, BUSBAR.1, 0.15, OWN));
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[track_width]", "[BUSBAR]"]);
    }
}

#[test]
fn a_power_path_of_a_thin_track_that_calls_itself_a_tap_is_refused() {
    let copies = spoilt(|board| {
        let busbar = net(board, "BUSBAR");
        board.retain(|item| !(is(item, "zone") && of_net(item, &busbar)));
        board.push(track(&busbar, BUSBAR.0, BUSBAR.1, 0.15, OWN));
        let taps = board.iter_mut().find(|it| is(it, "group")).unwrap();
        let members = taps.get_mut("members").unwrap().items_mut().unwrap();
        members.push(text(OWN));
    });
    for copy in copies {
        copy.refused(Link::Layout, &["BUSBAR: ", "of copper from J1 to Q1"]);
    }
}

#[test]
fn a_removed_segment_is_refused() {
    let copies = spoilt(|board| {
        let console = net(board, "CONSOLE_TX");
        let index = board
            .iter()
            .position(|item| is(item, "segment") && of_net(item, &console));
        board.remove(index.unwrap());
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[unconnected_items]", "CONSOLE_TX"]);
        copy.refused(Link::Copper, &["open: ", "CONSOLE_TX"]);
    }
}

#[test]
fn a_via_off_its_track_is_refused() {
    let copies = spoilt(|board| {
        let console = net(board, "CONSOLE_TX");
        let via = board
            .iter_mut()
            .find(|item| is(item, "via") && of_net(item, &console))
            .unwrap();
        shift(via, "at", 0, 0.8);
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[unconnected_items]", "CONSOLE_TX"]);
        copy.refused(Link::Copper, &["CONSOLE_TX"]);
    }
}

#[test]
fn a_via_with_a_smaller_hole_is_refused() {
    let copies = spoilt(|board| {
        let via = board.iter_mut().find(|item| is(item, "via")).unwrap();
        *argument(via, "drill", 0) = number(0.2);
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[drill_out_of_range]"]);
    }
}

#[test]
fn a_part_that_differs_from_its_library_is_refused() {
    let copies = spoilt(|board| {
        for pad in pads(part(board, "J4")) {
            *argument(pad, "drill", 0) = number(0.6);
        }
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[lib_footprint_mismatch]", "J4"]);
    }
}

#[test]
fn tracks_that_come_too_near_are_refused() {
    let copies = spoilt(|board| {
        let console = net(board, "CONSOLE_TX");
        for item in board.iter_mut() {
            if is(item, "segment") && of_net(item, &console) {
                *argument(item, "width", 0) = number(0.8);
            }
        }
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[clearance]", "CONSOLE_TX"]);
    }
}

#[test]
fn a_signal_that_creeps_up_to_the_input_is_refused() {
    let copies = with_creepage(|board| {
        let first = |name: &str| {
            let number = net(board, name);
            let mut tracks = board.iter().filter(|it| is(it, "segment"));
            let start = tracks.find(|it| of_net(it, &number)).unwrap().get("start");
            let spot = |index: usize| start.unwrap().items()[index].number().unwrap();
            (number.clone(), (spot(1), spot(2)))
        };
        // From where the signal is to where the input is: KiCad takes a track that touches nothing for its neighbour's.
        let ((console, from), (_, to)) = (first("CONSOLE_TX"), first("BUSBAR"));
        board.push(track(&console, from, to, 0.15, OWN));
    });
    for copy in copies {
        let found = copy.findings(Link::Drc);
        copy.among(&found, &["[creepage]", "creepage at the input"]);
        copy.among(&found, &["[clearance]", "clearance of Input"]);
    }
}

#[test]
fn a_removed_decoupling_capacitor_is_refused() {
    let copies = spoilt(|board| board.retain(|item| !is_part(item, "C13")));
    for copy in copies {
        copy.refused(Link::Drc, &["[missing_footprint]", "C13"]);
        copy.refused(Link::Layout, &["C13: not on the net of U1, pad 6"]);
    }
}

#[test]
fn a_decoupling_capacitor_that_moved_away_is_refused() {
    let copies = spoilt(|board| shift(part(board, "C13"), "at", 0, 6.0));
    for copy in copies {
        copy.refused(Link::Layout, &["C13: ", " mm from U1, pad 6"]);
    }
}

#[test]
fn a_part_on_the_other_face_is_refused() {
    let copies = spoilt(|board| {
        let flipped = part(board, "C13");
        *argument(flipped, "layer", 0) = text("B.Cu");
        for pad in pads(flipped) {
            let layers = pad.get_mut("layers").unwrap().items_mut().unwrap();
            for layer in &mut layers[1..] {
                *layer = text(layer.value().unwrap().replace("F.", "B."));
            }
        }
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[unconnected_items]", "C13"]);
        copy.refused(Link::Copper, &["C13"]);
    }
}

#[test]
fn pads_of_a_part_on_each_others_nets_are_refused() {
    let copies = spoilt(|board| {
        let mut pads: Vec<_> = pads(part(board, "R22")).collect();
        let (one, other) = pads.split_at_mut(1);
        std::mem::swap(
            one[0].get_mut("net").unwrap(),
            other[other.len() - 1].get_mut("net").unwrap(),
        );
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[net_conflict]", "R22"]);
        copy.refused(Link::Copper, &["R22"]);
    }
}

/// Consistent in itself, names and copper: only parity and the intent know better.
#[test]
fn a_swapped_pair_is_refused() {
    let copies = spoilt(|board| {
        for pad in pads(part(board, "U1")) {
            let other = match pad.argument(0) {
                Some("51") => "52",
                Some("52") => "51",
                _ => continue,
            };
            pad.items_mut().unwrap()[1] = text(other);
        }
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[net_conflict]", "USB_D"]);
        copy.refused(Link::Copper, &["U1", "USB_D"]);
    }
}

#[test]
fn a_removed_zone_is_refused() {
    let copies = spoilt(|board| {
        let busbar = net(board, "BUSBAR");
        board.retain(|item| !(is(item, "zone") && of_net(item, &busbar)));
    });
    for copy in copies {
        copy.refused(Link::Drc, &["[unconnected_items]", "BUSBAR"]);
        copy.refused(Link::Layout, &["BUSBAR: ", "of copper from J1 to Q1"]);
        copy.refused(Link::Copper, &["BUSBAR"]);
    }
}

#[test]
fn a_zone_that_is_not_filled_is_refused() {
    let copies = spoilt(|board| {
        for zone in board.iter_mut().filter(|item| is(item, "zone")) {
            let items = zone.items_mut().unwrap();
            items.retain(|item| !is(item, "filled_polygon"));
        }
    });
    for copy in copies {
        assert_ne!(copy.findings(Link::Drc), [""; 0]);
        copy.refused(Link::Layout, &["the ground below it is broken"]);
        copy.refused(Link::Copper, &["open: ", "GND"]);
    }
}
