// SPDX-License-Identifier: Apache-2.0
//! The pads of every part against KiCad's stock libraries, where they are installed: a misread datasheet, a wrong
//! footprint and a forgotten pad are noticed here, before anything is drawn.

use racklet_kicad::boards;
use racklet_kicad::design::{Design, Part};
use racklet_kicad::sexpr::Sexpr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SYMBOLS: &str = "/usr/share/kicad/symbols";
const FOOTPRINTS: &str = "/usr/share/kicad/footprints";

/// The pins of one library's symbols, as number to name.
type Library = BTreeMap<String, BTreeMap<String, String>>;

fn designs() -> Vec<Design> {
    boards::all().into_iter().map(|it| it.design).collect()
}

fn library(name: &str) -> Library {
    let path = format!("{SYMBOLS}/{name}.kicad_sym");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file = Sexpr::parse(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let symbols: BTreeMap<_, _> = file
        .all("symbol")
        .map(|symbol| {
            (
                symbol.argument(0).expect("symbols have names").to_owned(),
                symbol,
            )
        })
        .collect();
    symbols
        .iter()
        .map(|(name, symbol)| {
            let mut base = *symbol;
            while let Some(parent) = base.field("extends") {
                base = symbols[parent];
            }
            let pins = base
                .all("symbol")
                .flat_map(|unit| unit.all("pin"))
                .map(|pin| {
                    (
                        pin.field("number").expect("pins have numbers").to_owned(),
                        pin.field("name").expect("pins have names").to_owned(),
                    )
                })
                .collect();
            (name.clone(), pins)
        })
        .collect()
}

fn every_part(check: impl Fn(&Part)) {
    for design in designs() {
        for part in &design.parts {
            check(part);
        }
    }
}

#[test]
fn every_pad_is_called_as_in_its_symbol_and_none_is_forgotten() {
    if !Path::new(SYMBOLS).exists() {
        eprintln!("skipped: KiCad's symbols are not installed");
        return;
    }
    let libraries: BTreeMap<_, _> = designs()
        .iter()
        .flat_map(|design| &design.parts)
        .map(|part| part.symbol.split_once(':').unwrap().0)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|name| (name, library(name)))
        .collect();
    every_part(|part| {
        let (library, name) = part.symbol.split_once(':').unwrap();
        let symbol = libraries[library]
            .get(name)
            .unwrap_or_else(|| panic!("{}: there is no symbol {}", part.reference, part.symbol));
        let ours: BTreeMap<_, _> = part
            .pins
            .iter()
            .map(|pin| (pin.number.to_owned(), pin.name.to_owned()))
            .collect();
        assert_eq!(&ours, symbol, "{}, {}", part.reference, part.symbol);
        assert_eq!(ours.len(), part.pins.len(), "{}", part.reference);
    });
}

#[test]
fn every_footprint_is_there_and_has_the_pads_of_its_part() {
    if !Path::new(FOOTPRINTS).exists() {
        eprintln!("skipped: KiCad's footprints are not installed");
        return;
    }
    every_part(|part| {
        let (library, name) = part.footprint.split_once(':').unwrap();
        if library == "racklet" {
            return;
        }
        let path = format!("{FOOTPRINTS}/{library}.pretty/{name}.kicad_mod");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {path}: {error}", part.reference));
        let footprint = Sexpr::parse(&text).unwrap();
        let pads: BTreeSet<_> = footprint
            .all("pad")
            .filter_map(|pad| pad.argument(0))
            .filter(|number| !number.is_empty())
            .collect();
        let ours: BTreeSet<_> = part.pins.iter().map(|pin| pin.number).collect();
        assert_eq!(ours, pads, "{}, {}", part.reference, part.footprint);
    });
}
