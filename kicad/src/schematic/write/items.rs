// SPDX-License-Identifier: Apache-2.0
//! One function for each kind of thing on a sheet.

use super::super::{
    Label, Note, Placed, SheetBox, What, root_uuid, sheet_file, sheet_uuid, symbol_uuid,
};
use crate::{
    design::Design,
    sexpr::{Sexpr, atom, list, number, text},
    symbols::{GRID, Point, Side},
    uuid::uuid,
};

pub(super) fn millimetres(steps: i32) -> f64 {
    f64::from(steps) * GRID
}

pub(super) fn xy(point: Point) -> Sexpr {
    list(
        "xy",
        [number(millimetres(point.x)), number(millimetres(point.y))],
    )
}

fn at(point: Point, angle: f64) -> Sexpr {
    let (x, y) = (millimetres(point.x), millimetres(point.y));
    list("at", [number(x), number(y), number(angle)])
}

pub(super) fn id(uuid: String) -> Sexpr {
    list("uuid", [text(uuid)])
}

pub(super) fn word(name: &str, value: &str) -> Sexpr {
    list(name, [atom(value)])
}

fn font(size: f64) -> Sexpr {
    list("font", [list("size", [number(size), number(size)])])
}

fn effects(justify: &[&str], hidden: bool) -> Sexpr {
    let mut items = vec![font(1.27)];
    if !justify.is_empty() {
        items.push(list("justify", justify.iter().map(|word| atom(*word))));
    }
    if hidden {
        items.push(word("hide", "yes"));
    }
    list("effects", items)
}

pub(super) fn stroke() -> Sexpr {
    list(
        "stroke",
        [list("width", [number(0.0)]), word("type", "default")],
    )
}

pub(super) fn note_item(note: &Note, own: String) -> Sexpr {
    list(
        "text",
        [
            text(note.text.clone()),
            word("exclude_from_sim", "no"),
            at(note.at, 0.0),
            list(
                "effects",
                [
                    if note.bold {
                        list(
                            "font",
                            [
                                list("size", [number(note.size), number(note.size)]),
                                word("bold", "yes"),
                            ],
                        )
                    } else {
                        font(note.size)
                    },
                    list("justify", [atom("left"), atom("top")]),
                ],
            ),
            id(own),
        ],
    )
}

pub(super) fn label_item(label: &Label, own: String) -> Sexpr {
    let (angle, justify) = match label.side {
        Side::Right => (0.0, "left"),
        Side::Left => (180.0, "right"),
        Side::Up => (90.0, "left"),
        Side::Down => (270.0, "right"),
    };
    if label.crossing {
        return list(
            "hierarchical_label",
            [
                text(label.net),
                word("shape", "bidirectional"),
                at(label.at, angle),
                effects(&[justify], false),
                id(own),
            ],
        );
    }
    list(
        "label",
        [
            text(label.net),
            at(label.at, angle),
            effects(&[justify, "bottom"], false),
            id(own),
        ],
    )
}

pub(super) fn symbol_item(
    design: &Design,
    sheet: &str,
    path: &str,
    placed: &Placed,
    index: usize,
) -> Sexpr {
    let part = match placed.what {
        What::Part(reference) => design.part(reference),
        What::Rail(_) | What::Flag => None,
    };
    let extra = format!("{sheet} {index}");
    let (reference, value, own) = match placed.what {
        What::Part(reference) => {
            let unit = match placed.unit {
                1 => symbol_uuid(design.name, reference),
                unit => uuid(&[design.name, "symbol", reference, &unit.to_string()]),
            };
            (
                reference.to_owned(),
                part.map_or("", |part| &part.value),
                unit,
            )
        }
        What::Rail(net) => (
            format!("#PWR{}", hidden_number(design, sheet, index)),
            net,
            uuid(&[design.name, "rail", &extra]),
        ),
        What::Flag => (
            format!("#FLG{}", hidden_number(design, sheet, index)),
            "PWR_FLAG",
            uuid(&[design.name, "flag", &extra]),
        ),
    };
    let is_part = part.is_some();
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let in_bom = part.is_some_and(|part| part.bom.is_some());
    let mut items = vec![
        list("lib_id", [text(placed.symbol.id.clone())]),
        at(placed.at, f64::from(placed.turns) * 90.0),
        list("unit", [atom(placed.unit.to_string())]),
        word("exclude_from_sim", "no"),
        word("in_bom", yes_no(in_bom || !is_part)),
        word("on_board", "yes"),
        word("dnp", "no"),
        id(own.clone()),
    ];
    let upright = if placed.turns % 2 == 1 { 90.0 } else { 0.0 };
    // KiCad turns a text's sides with its symbol.
    let left = if matches!(placed.turns, 1 | 2) {
        "right"
    } else {
        "left"
    };
    let justify: &[&str] = if placed.from_left { &[left] } else { &[] };
    let field = |name: &str, value: &str, (x, y): (f64, f64), hidden: bool| {
        let justify = if matches!(name, "Reference" | "Value") {
            justify
        } else {
            &[]
        };
        list(
            "property",
            [
                text(name),
                text(value),
                list("at", [number(x * GRID), number(y * GRID), number(upright)]),
                effects(justify, hidden),
            ],
        )
    };
    let no_text = matches!(placed.what, What::Part(_)) && placed.symbol.pins.is_empty();
    items.push(field(
        "Reference",
        &reference,
        placed.reference_at,
        !is_part,
    ));
    items.push(field("Value", value, placed.value_at, no_text));
    let origin = (f64::from(placed.at.x), f64::from(placed.at.y));
    items.push(field(
        "Footprint",
        part.map_or("", |part| part.footprint),
        origin,
        true,
    ));
    let library = |name: &str| {
        let property = placed.symbol.definition.all("property");
        property
            .filter(|property| property.argument(0) == Some(name))
            .find_map(|property| property.argument(1).map(str::to_owned))
            .unwrap_or_default()
    };
    items.push(field("Datasheet", &library("Datasheet"), origin, true));
    items.push(field("Description", &library("Description"), origin, true));
    if let Some(part) = part {
        items.push(field("Note", part.note, origin, true));
        if let Some(bom) = part.bom {
            items.push(field("BOM", bom, origin, true));
        }
    }
    for pin in &placed.symbol.pins {
        items.push(list(
            "pin",
            [
                text(pin.number.clone()),
                id(uuid(&[&own, "pin", &pin.number])),
            ],
        ));
    }
    items.push(instances(
        design,
        path,
        [
            list("reference", [text(reference)]),
            list("unit", [atom(placed.unit.to_string())]),
        ],
    ));
    list("symbol", items)
}

/// What a symbol or a sheet is where its file is used, which each of ours is once.
fn instances(design: &Design, path: &str, what: impl IntoIterator<Item = Sexpr>) -> Sexpr {
    let place = std::iter::once(text(path)).chain(what);
    let project = [text(design.name), list("path", place)];
    list("instances", [list("project", project)])
}

/// A number that no other rail or flag of the design has.
fn hidden_number(design: &Design, sheet: &str, index: usize) -> usize {
    let position = design.sheets.iter().position(|known| known.name == sheet);
    (position.unwrap_or(0) + 1) * 1000 + index
}

pub(super) fn sheet_box(design: &Design, sheet: &SheetBox, index: usize) -> Sexpr {
    let own = sheet_uuid(design.name, sheet.name);
    let field = |name: &str, value: String, y: i32, justify: &str| {
        list(
            "property",
            [
                text(name),
                text(value),
                at(Point::new(sheet.at.x, y), 0.0),
                effects(&["left", justify], false),
            ],
        )
    };
    let mut items = vec![
        list(
            "at",
            [
                number(millimetres(sheet.at.x)),
                number(millimetres(sheet.at.y)),
            ],
        ),
        list(
            "size",
            [
                number(millimetres(sheet.size.x)),
                number(millimetres(sheet.size.y)),
            ],
        ),
        word("exclude_from_sim", "no"),
        word("in_bom", "yes"),
        word("on_board", "yes"),
        word("dnp", "no"),
        list(
            "stroke",
            [list("width", [number(0.1524)]), word("type", "solid")],
        ),
        list(
            "fill",
            [list("color", [255.0, 255.0, 240.0, 1.0].map(number))],
        ),
        id(own.clone()),
        field("Sheetname", sheet.name.to_owned(), sheet.at.y - 1, "bottom"),
        field(
            "Sheetfile",
            sheet_file(sheet.name),
            sheet.at.y + sheet.size.y + 1,
            "top",
        ),
        field("Title", sheet.title.to_owned(), sheet.at.y + 1, "top"),
    ];
    for (net, at_pin) in &sheet.pins {
        items.push(list(
            "pin",
            [
                text(*net),
                atom("bidirectional"),
                at(*at_pin, 0.0),
                id(uuid(&[&own, "pin", net])),
                effects(&["right"], false),
            ],
        ));
    }
    let root = format!("/{}", root_uuid(design.name));
    let page = list("page", [text((index + 2).to_string())]);
    items.push(instances(design, &root, [page]));
    list("sheet", items)
}
