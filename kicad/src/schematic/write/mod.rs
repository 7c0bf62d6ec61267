// SPDX-License-Identifier: Apache-2.0
//! Drawings as KiCad 9 files.

mod items;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Drawing,
    connect::{ends, touches},
    page::{A4, Paper},
    root_uuid, sheet_uuid,
};
use crate::{
    design::Design,
    sexpr::{Sexpr, atom, list, number, text},
    symbols::Point,
    uuid::uuid,
};
use items::{id, label_item, millimetres, note_item, sheet_box, stroke, symbol_item, word, xy};

/// The version of the file format: KiCad 9.0.
const VERSION: &str = "20250114";
/// The date in the title blocks: the design's, not the day's.
const DATE: &str = "2026-11-25";

/// The file of one sheet.
pub(super) fn sheet(design: &Design, index: usize, paper: Paper, drawing: &Drawing) -> String {
    let sheet = design.sheets[index];
    let path = format!(
        "/{}/{}",
        root_uuid(design.name),
        sheet_uuid(design.name, sheet.name)
    );
    let mut items = head(
        design,
        &uuid(&[design.name, "file", sheet.name]),
        paper,
        sheet.title,
        index + 2,
    );
    items.push(library(drawing));
    items.extend(content(design, sheet.name, &path, drawing));
    items.push(word("embedded_fonts", "no"));
    list("kicad_sch", items).to_string()
}

/// The root file.
pub(super) fn root(design: &Design, drawing: &Drawing) -> String {
    let tallest = drawing
        .sheets
        .iter()
        .map(|sheet| sheet.at.y + sheet.size.y)
        .max();
    let paper = match tallest {
        Some(lowest) if lowest > 130 => super::page::A3,
        _ => A4,
    };
    let mut items = head(design, &root_uuid(design.name), paper, design.title, 1);
    items.push(list("lib_symbols", []));
    items.extend(content(design, "root", "", drawing));
    for (index, sheet) in drawing.sheets.iter().enumerate() {
        items.push(sheet_box(design, sheet, index));
    }
    items.push(list(
        "sheet_instances",
        [list("path", [text("/"), list("page", [text("1")])])],
    ));
    items.push(word("embedded_fonts", "no"));
    list("kicad_sch", items).to_string()
}

fn head(design: &Design, own: &str, paper: Paper, title: &str, page: usize) -> Vec<Sexpr> {
    let comment = |index: i32, line: &str| list("comment", [atom(index.to_string()), text(line)]);
    vec![
        word("version", VERSION),
        list("generator", [text("racklet")]),
        list("generator_version", [text("9.0")]),
        id(own.to_owned()),
        list("paper", [text(paper.name)]),
        list(
            "title_block",
            [
                list("title", [text(title)]),
                list("date", [text(DATE)]),
                list("rev", [text(design.revision)]),
                list("company", [text("Racklet")]),
                comment(
                    1,
                    &format!(
                        "{}, sheet {page} of {}",
                        design.title,
                        design.sheets.len() + 1
                    ),
                ),
                comment(2, "Licence: CERN-OHL-P-2.0"),
                comment(3, "Never fabricated yet"),
            ],
        ),
    ]
}

/// The symbols that are used, each once, by name.
fn library(drawing: &Drawing) -> Sexpr {
    let used: BTreeMap<&str, &Sexpr> = drawing
        .symbols
        .iter()
        .map(|placed| (&*placed.symbol.id, &placed.symbol.definition))
        .collect();
    list("lib_symbols", used.into_values().cloned())
}

fn content(design: &Design, sheet: &str, path: &str, drawing: &Drawing) -> Vec<Sexpr> {
    let unique = |kind: &str, what: String| uuid(&[design.name, sheet, kind, &what]);
    let mut items = Vec::new();
    for (index, note) in drawing.notes.iter().enumerate() {
        items.push(note_item(note, unique("note", index.to_string())));
    }
    for (low, high) in &drawing.frames {
        let corner = |name: &str, point: &Point| {
            list(
                name,
                [number(millimetres(point.x)), number(millimetres(point.y))],
            )
        };
        items.push(list(
            "rectangle",
            [
                corner("start", low),
                corner("end", high),
                list(
                    "stroke",
                    [list("width", [number(0.0)]), word("type", "dash")],
                ),
                list("fill", [word("type", "none")]),
                id(unique("frame", format!("{low:?}"))),
            ],
        ));
    }
    for point in junctions(drawing) {
        items.push(list(
            "junction",
            [
                list(
                    "at",
                    [number(millimetres(point.x)), number(millimetres(point.y))],
                ),
                list("diameter", [number(0.0)]),
                list("color", [0.0, 0.0, 0.0, 0.0].map(number)),
                id(unique("junction", format!("{point:?}"))),
            ],
        ));
    }
    for point in &drawing.open {
        items.push(list(
            "no_connect",
            [
                list(
                    "at",
                    [number(millimetres(point.x)), number(millimetres(point.y))],
                ),
                id(unique("open", format!("{point:?}"))),
            ],
        ));
    }
    for (from, to) in wires(drawing) {
        items.push(list(
            "wire",
            [
                list("pts", [xy(from), xy(to)]),
                stroke(),
                id(unique("wire", format!("{from:?} {to:?}"))),
            ],
        ));
    }
    for label in &drawing.labels {
        items.push(label_item(
            label,
            unique("label", format!("{} {:?}", label.net, label.at)),
        ));
    }
    for (index, placed) in drawing.symbols.iter().enumerate() {
        items.push(symbol_item(design, sheet, path, placed, index));
    }
    items
}

/// Wires without those that are there twice.
fn wires(drawing: &Drawing) -> BTreeSet<(Point, Point)> {
    drawing
        .wires
        .iter()
        .map(|(from, to)| (*from.min(to), *from.max(to)))
        .collect()
}

/// Where a dot belongs: three ends or more, or an end on a wire that passes.
fn junctions(drawing: &Drawing) -> Vec<Point> {
    let wires = wires(drawing);
    let mut ways: BTreeMap<Point, usize> = BTreeMap::new();
    for point in ends(drawing) {
        ways.entry(point).or_default();
    }
    for (point, ways) in &mut ways {
        for wire in wires.iter().filter(|wire| touches(*point, **wire)) {
            *ways += if wire.0 == *point || wire.1 == *point {
                1
            } else {
                2
            };
        }
        for placed in &drawing.symbols {
            let pins = placed.symbol.pins.iter();
            *ways += usize::from(
                pins.filter(|pin| pin.unit == placed.unit || pin.unit == 0)
                    .any(|pin| placed.at + super::turned(pin.at, placed.turns) == *point),
            );
        }
    }
    ways.into_iter()
        .filter(|(_, ways)| *ways > 2)
        .map(|(point, _)| point)
        .collect()
}
