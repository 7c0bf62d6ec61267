// SPDX-License-Identifier: Apache-2.0
//! A board as KiCad 9's `.kicad_pcb`. All UUIDs follow from names, so that the same board is the same file.

mod layers;

use std::fmt;

use super::geometry::{Point, mm, nm};
use super::{Board, Edge, Keepout, PlacedPart, Text, Zone};
use crate::footprints::LAYER_NAMES;
use crate::sexpr::{Sexpr, atom, list, number, text};
use crate::uuid::uuid;
use layers::{LAYERS, setup};

pub use layers::STACK;

fn words(name: &str, words: &[&str]) -> Sexpr {
    list(name, words.iter().map(|it| atom(*it)))
}

fn texts(name: &str, words: &[&str]) -> Sexpr {
    list(name, words.iter().map(|it| text(*it)))
}

fn place(name: &str, point: Point) -> Sexpr {
    list(name, [number(mm(point.x)), number(mm(point.y))])
}

fn length(name: &str, nanometres: i64) -> Sexpr {
    list(name, [number(mm(nanometres))])
}

fn stroke(width: i64) -> Sexpr {
    list(
        "stroke",
        [length("width", width), words("type", &["solid"])],
    )
}

fn points(outline: &[Point]) -> Sexpr {
    list("pts", outline.iter().map(|point| place("xy", *point)))
}

fn font(size: i64, thickness: i64) -> Sexpr {
    list(
        "font",
        [
            list("size", [number(mm(size)), number(mm(size))]),
            length("thickness", thickness),
        ],
    )
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Writer { board: self }.file().fmt(f)
    }
}

struct Writer<'b> {
    board: &'b Board,
}

impl Writer<'_> {
    fn id(&self, path: &[&str]) -> Sexpr {
        let mut names = vec![self.board.project, "board"];
        names.extend(path);
        texts("uuid", &[&uuid(&names)])
    }

    fn file(&self) -> Sexpr {
        let board = self.board;
        let mut items = vec![
            words("version", &["20241229"]),
            texts("generator", &["racklet"]),
            texts("generator_version", &["9.0"]),
            list(
                "general",
                [
                    words("thickness", &["1.6"]),
                    words("legacy_teardrops", &["no"]),
                ],
            ),
            texts("paper", &["A4"]),
            list(
                "title_block",
                [
                    texts("title", &[board.title]),
                    texts("rev", &[board.revision]),
                    texts("company", &["The Racklet Project"]),
                    list("comment", [atom("1"), text("CERN-OHL-P-2.0")]),
                    list("comment", [atom("2"), text("Never fabricated yet")]),
                ],
            ),
            list(
                "layers",
                LAYERS.iter().map(|(id, name, kind, title)| {
                    let mut layer = vec![atom(*id), text(*name), atom(*kind)];
                    layer.extend(title.map(text));
                    Sexpr::List(layer)
                }),
            ),
            setup(),
        ];
        items.extend(
            board
                .nets
                .iter()
                .enumerate()
                .map(|(index, name)| list("net", [atom(index.to_string()), text(name)])),
        );
        items.extend(board.parts.iter().map(|part| self.part(part)));
        items.extend(self.outline());
        items.extend(
            board
                .texts
                .iter()
                .enumerate()
                .map(|(i, it)| self.text(i, it)),
        );
        items.extend(self.lines());
        items.extend(self.copper());
        items.extend(board.zones.iter().map(|zone| self.zone(zone)));
        items.extend(board.keepouts.iter().map(|area| self.keepout(area)));
        items.extend(self.taps());
        items.push(words("embedded_fonts", &["no"]));
        list("kicad_pcb", items)
    }

    fn outline(&self) -> Vec<Sexpr> {
        let edges = self.board.outline.iter().enumerate();
        edges
            .map(|(index, edge)| {
                let (kind, mut items) = match *edge {
                    Edge::Line(a, b) => ("gr_line", vec![place("start", a), place("end", b)]),
                    Edge::Arc(a, middle, b) => (
                        "gr_arc",
                        vec![place("start", a), place("mid", middle), place("end", b)],
                    ),
                };
                items.extend([
                    stroke(nm(0.1)),
                    texts("layer", &["Edge.Cuts"]),
                    self.id(&["edge", &index.to_string()]),
                ]);
                list(kind, items)
            })
            .collect()
    }

    fn lines(&self) -> Vec<Sexpr> {
        let lines = self.board.silk_lines.iter().enumerate();
        lines
            .map(|(index, &(back, a, b))| {
                list(
                    "gr_line",
                    [
                        place("start", a),
                        place("end", b),
                        stroke(nm(0.15)),
                        texts("layer", &[if back { "B.SilkS" } else { "F.SilkS" }]),
                        self.id(&["silk", &index.to_string()]),
                    ],
                )
            })
            .collect()
    }

    fn text(&self, index: usize, it: &Text) -> Sexpr {
        let mut effects = vec![font(it.size, it.size * 3 / 20)];
        if it.back {
            effects.push(words("justify", &["mirror"]));
        }
        list(
            "gr_text",
            [
                text(&it.text),
                list(
                    "at",
                    [number(mm(it.at.x)), number(mm(it.at.y)), number(it.angle)],
                ),
                texts("layer", &[if it.back { "B.SilkS" } else { "F.SilkS" }]),
                self.id(&["text", &index.to_string()]),
                list("effects", effects),
            ],
        )
    }

    fn copper(&self) -> Vec<Sexpr> {
        let board = self.board;
        let tracks = board.tracks.iter().enumerate().map(|(index, track)| {
            list(
                "segment",
                [
                    place("start", track.start),
                    place("end", track.end),
                    length("width", track.width),
                    texts("layer", &[LAYER_NAMES[usize::from(track.layer)]]),
                    list("net", [atom(track.net.to_string())]),
                    self.id(&["track", &index.to_string()]),
                ],
            )
        });
        let vias = board.vias.iter().enumerate().map(|(index, via)| {
            list(
                "via",
                [
                    place("at", via.at),
                    length("size", super::build::VIA.diameter),
                    length("drill", super::build::VIA.drill),
                    texts("layers", &["F.Cu", "B.Cu"]),
                    list("net", [atom(via.net.to_string())]),
                    self.id(&["via", &index.to_string()]),
                ],
            )
        });
        tracks.chain(vias).collect()
    }

    /// The rules ask less of these tracks: KiCad knows them as a group.
    fn taps(&self) -> Option<Sexpr> {
        let members: Vec<_> = self
            .board
            .tracks
            .iter()
            .enumerate()
            .filter(|(_, track)| track.tap)
            .map(|(index, _)| {
                text(uuid(&[
                    self.board.project,
                    "board",
                    "track",
                    &index.to_string(),
                ]))
            })
            .collect();
        (!members.is_empty()).then(|| {
            list(
                "group",
                [
                    text(super::rules::TAPS),
                    self.id(&["group", super::rules::TAPS]),
                    list("members", members),
                ],
            )
        })
    }

    fn zone(&self, zone: &Zone) -> Sexpr {
        let layer = LAYER_NAMES[usize::from(zone.layer)];
        // Spokes at leads only: reflow heats a small pad whole, a soldering iron does not heat a plane.
        let spokes = if zone.solid { "yes" } else { "thru_hole_only" };
        let connect = [atom(spokes), length("clearance", zone.clearance)];
        let mut items = vec![
            list("net", [atom(zone.net.to_string())]),
            texts("net_name", &[&self.board.nets[zone.net]]),
            texts("layer", &[layer]),
            self.id(&["zone", &zone.name, layer]),
            texts("name", &[&zone.name]),
            list("hatch", [atom("edge"), atom("0.5")]),
            list("priority", [atom(zone.priority.to_string())]),
            list("connect_pads", connect),
            length("min_thickness", zone.least),
            words("filled_areas_thickness", &["no"]),
            list(
                "fill",
                [
                    atom("yes"),
                    words("thermal_gap", &["0.2"]),
                    words("thermal_bridge_width", &["0.3"]),
                ],
            ),
            list("polygon", [points(&zone.outline)]),
        ];
        items.extend(zone.filled.iter().map(|outline| {
            list(
                "filled_polygon",
                [texts("layer", &[layer]), points(outline)],
            )
        }));
        list("zone", items)
    }

    fn keepout(&self, area: &Keepout) -> Sexpr {
        let layers = LAYER_NAMES.iter().enumerate();
        let layers: Vec<&str> = layers
            .filter(|(bit, _)| area.layers & (1 << bit) != 0)
            .map(|(_, name)| *name)
            .collect();
        let allowed = |not: bool| if not { "not_allowed" } else { "allowed" };
        list(
            "zone",
            [
                list("net", [atom("0")]),
                texts("net_name", &[""]),
                texts("layers", &layers),
                self.id(&["keepout", &area.name]),
                texts("name", &[&area.name]),
                list("hatch", [atom("edge"), atom("0.5")]),
                list("connect_pads", [words("clearance", &["0"])]),
                words("min_thickness", &["0.25"]),
                words("filled_areas_thickness", &["no"]),
                list(
                    "keepout",
                    [
                        words("tracks", &[allowed(area.tracks)]),
                        words("vias", &[allowed(area.tracks)]),
                        words("pads", &["allowed"]),
                        words("copperpour", &[allowed(area.zones)]),
                        words("footprints", &["allowed"]),
                    ],
                ),
                list(
                    "fill",
                    [
                        words("thermal_gap", &["0.5"]),
                        words("thermal_bridge_width", &["0.5"]),
                    ],
                ),
                list("polygon", [points(&area.outline)]),
            ],
        )
    }

    fn part(&self, part: &PlacedPart) -> Sexpr {
        let mut items = vec![
            text(&part.footprint.name),
            texts("layer", &[if part.place.back { "B.Cu" } else { "F.Cu" }]),
            self.id(&["part", part.reference]),
            list(
                "at",
                [
                    number(mm(part.place.at.x)),
                    number(mm(part.place.at.y)),
                    number(part.place.angle),
                ],
            ),
        ];
        let body = part.footprint.body.items();
        let mut children = Vec::new();
        for (index, child) in body.iter().enumerate().skip(2) {
            match child.name().unwrap_or_default() {
                "version" | "generator" | "generator_version" | "layer" | "uuid" | "tedit" => {}
                "descr" | "tags" => items.push(child.clone()),
                _ => children.push(self.child(part, index, child)),
            }
        }
        let properties = children.iter().filter(|it| it.name() == Some("property"));
        items.extend(properties.cloned());
        if let Some(symbol) = &part.symbol {
            items.extend([
                texts("path", &[&symbol.path]),
                texts("sheetname", &[&symbol.sheet_name]),
                texts("sheetfile", &[&symbol.sheet_file]),
            ]);
        }
        children.retain(|it| it.name() != Some("property"));
        items.extend(children);
        list("footprint", items)
    }

    /// A part of a footprint, as KiCad keeps it on a board: mirrored on the lower side, angles those of the board, with its UUID.
    fn child(&self, part: &PlacedPart, index: usize, child: &Sexpr) -> Sexpr {
        let mut child = child.clone();
        let kind = child.name().unwrap_or_default().to_owned();
        if part.place.back {
            mirror(&mut child);
        }
        let is_text = matches!(kind.as_str(), "property" | "fp_text");
        if is_text || kind == "pad" {
            let back = part.place.back;
            let angle = part.place.angle;
            if let Some(items) = child.get_mut("at").and_then(Sexpr::items_mut) {
                let own = items.get(3).and_then(Sexpr::number).unwrap_or(0.0);
                let own = match (back, is_text) {
                    (false, _) => own + angle,
                    (true, false) => angle - own,
                    (true, true) => angle + 180.0 - own,
                };
                items.truncate(3);
                let own = own.rem_euclid(360.0);
                if own != 0.0 || is_text {
                    items.push(number(own));
                }
            }
        }
        if is_text && part.place.back {
            add_mirror(&mut child);
        }
        if kind == "property" {
            self.property(part, &mut child);
        }
        if kind == "pad" {
            let net = child
                .argument(0)
                .and_then(|pad| part.nets.get(pad))
                .map_or(0, |net| *net);
            if net != 0
                && let Some(items) = child.items_mut()
            {
                items.push(list(
                    "net",
                    [atom(net.to_string()), text(&self.board.nets[net])],
                ));
            }
        }
        let has_id = is_text || kind == "pad" || (kind.starts_with("fp_") || kind == "zone");
        if has_id && let Some(items) = child.items_mut() {
            items.retain(|it| it.name() != Some("uuid"));
            items.push(self.id(&["part", part.reference, &index.to_string()]));
        }
        child
    }

    fn property(&self, part: &PlacedPart, child: &mut Sexpr) {
        let name = child.argument(0).unwrap_or_default().to_owned();
        let value = match name.as_str() {
            "Reference" => part.reference,
            "Value" => &part.value,
            _ => return,
        };
        let Some(items) = child.items_mut() else {
            return;
        };
        items[2] = text(value);
        if name != "Reference" {
            return;
        }
        items.retain(|it| it.name() != Some("hide"));
        let Some(label) = part.label else {
            let after_layer = items.len().min(5);
            items.insert(after_layer, words("hide", &["yes"]));
            return;
        };
        // Relative to the footprint, but its angle is that of the board.
        let mut local = Point {
            x: label.at.x - part.place.at.x,
            y: label.at.y - part.place.at.y,
        }
        .turned(-part.place.angle);
        if part.place.back {
            local.y = -local.y;
        }
        items.retain(|it| !matches!(it.name(), Some("at" | "effects")));
        items.insert(
            3,
            list(
                "at",
                [
                    number(mm(local.x)),
                    number(mm(local.y)),
                    number(label.angle),
                ],
            ),
        );
        let mut effects = vec![font(label.size, label.size * 3 / 20)];
        if part.place.back {
            effects.push(words("justify", &["mirror"]));
        }
        items.push(list("effects", effects));
    }
}

/// F to B and back, y negated, as KiCad turns a footprint over.
fn mirror(item: &mut Sexpr) {
    let name = item.name().unwrap_or_default().to_owned();
    let Some(items) = item.items_mut() else {
        return;
    };
    match name.as_str() {
        "layer" | "layers" => {
            for layer in items.iter_mut().skip(1) {
                if let Sexpr::Text(layer) = layer {
                    if let Some(rest) = layer.strip_prefix("F.") {
                        *layer = format!("B.{rest}");
                    } else if let Some(rest) = layer.strip_prefix("B.") {
                        *layer = format!("F.{rest}");
                    }
                }
            }
        }
        "at" | "start" | "mid" | "end" | "center" | "xy" => {
            if let Some(y) = items.get(2).and_then(Sexpr::number) {
                items[2] = number(-y);
            }
        }
        "model" | "font" | "size" => {}
        _ => items.iter_mut().for_each(mirror),
    }
}

fn add_mirror(text: &mut Sexpr) {
    if let Some(effects) = text.get_mut("effects").and_then(Sexpr::items_mut) {
        effects.retain(|it| it.name() != Some("justify"));
        effects.push(words("justify", &["mirror"]));
    }
}
