// SPDX-License-Identifier: Apache-2.0
//! What no longer fits trays, case and Raspberry Pi.

use racklet_kicad::{
    check::project::Link,
    sexpr::{Sexpr, atom, number, text},
};

use crate::spoilt::{Spoilt, argument, is, pads, part, shift};

/// A connector of each board whose place is given.
fn connector(copy: &Spoilt) -> &'static str {
    match &*copy.project.name {
        "bmc" => "J1",
        _ => "J11",
    }
}

#[track_caller]
fn refused(says: &[&str], spoil: impl Fn(&mut Vec<Sexpr>)) {
    for copy in Spoilt::boards() {
        copy.board(&spoil);
        copy.refused(Link::Mechanics, says);
    }
}

#[test]
fn a_moved_connector_is_refused() {
    for copy in Spoilt::boards() {
        let name = connector(&copy);
        copy.board(|board| shift(part(board, name), "at", 1, 0.1));
        copy.refused(Link::Mechanics, &[name, " is at ", ", not at "]);
    }
}

#[test]
fn a_moved_header_is_refused() {
    for copy in Spoilt::bmc() {
        copy.board(|board| shift(part(board, "J4"), "at", 0, 2.54));
        copy.refused(Link::Mechanics, &["J4: its pad 1 is at "]);
    }
}

#[test]
fn a_header_on_the_other_face_is_refused() {
    for copy in Spoilt::bmc() {
        copy.board(|board| *argument(part(board, "J4"), "layer", 0) = text("F.Cu"));
        copy.refused(Link::Mechanics, &["J4: it is not on the lower face"]);
    }
}

#[test]
fn a_connector_that_is_turned_about_is_refused() {
    for copy in Spoilt::boards() {
        let name = connector(&copy);
        copy.board(|board| shift(part(board, name), "at", 2, 180.0));
        copy.refused(Link::Mechanics, &[name, "its "]);
    }
}

#[test]
fn a_socket_whose_rows_are_exchanged_is_refused() {
    for copy in Spoilt::of("backplane") {
        copy.board(|board| {
            for pad in pads(part(board, "J13")) {
                let name = pad.argument(0).unwrap().to_owned();
                let other = match name.split_at_checked(1) {
                    Some(("a", place)) => format!("b{place}"),
                    Some(("b", place)) => format!("a{place}"),
                    _ => name,
                };
                pad.items_mut().unwrap()[1] = text(other);
            }
        });
        copy.refused(Link::Mechanics, &["J13: its row b is not above"]);
    }
}

#[test]
fn a_card_edge_whose_faces_are_exchanged_is_refused() {
    for copy in Spoilt::bmc() {
        copy.board(|board| {
            for pad in pads(part(board, "J1")) {
                let layers = pad.get_mut("layers").unwrap().items_mut().unwrap();
                let top = layers[1].value() == Some("F.Cu");
                layers[1] = text(if top { "B.Cu" } else { "F.Cu" });
            }
        });
        copy.refused(Link::Mechanics, &["fingers b are not on the upper face"]);
    }
}

#[test]
fn a_moved_a_missing_and_a_changed_hole_are_refused() {
    refused(&["H1: there is no hole at"], |board| {
        shift(part(board, "H1"), "at", 0, 0.5);
    });
    refused(&["H2: a hole of 2 mm"], |board| {
        for pad in pads(part(board, "H2")) {
            *argument(pad, "drill", 0) = number(2.0);
        }
    });
    refused(&["holes: there is none at"], |board| {
        board.retain(|item| !crate::spoilt::is_part(item, "H3"));
    });
}

#[test]
fn another_outline_or_thickness_is_refused() {
    refused(&["outline: "], |board| {
        let line = board.iter_mut().find(|item| is(item, "gr_line")).unwrap();
        shift(line, "start", 1, 0.3);
        shift(line, "end", 1, 0.3);
    });
    refused(&["outline: 1 mm thick"], |board| {
        let general = board.iter_mut().find(|item| is(item, "general")).unwrap();
        *argument(general, "thickness", 0) = atom("1.0");
    });
}

#[test]
fn a_plug_behind_no_opening_is_refused() {
    for copy in Spoilt::of("backplane") {
        copy.board(|board| shift(part(board, "J16"), "at", 1, -12.0));
        copy.refused(Link::Mechanics, &["J16: ", "behind no opening"]);
        let nothing = "nothing is behind the opening \"network\"";
        copy.refused(Link::Mechanics, &[nothing]);
    }
}

#[test]
fn a_board_that_does_not_say_what_it_is_is_refused() {
    for words in ["never fabricated yet", "CERN-OHL-P-2.0", "rev A"] {
        for copy in Spoilt::boards() {
            copy.board(|board| {
                board.retain(|it| {
                    !(is(it, "gr_text") && it.argument(0).is_some_and(|it| it.contains(words)))
                });
            });
            copy.refused(Link::Mechanics, &["silk: nowhere says", words]);
        }
    }
}
