// SPDX-License-Identifier: Apache-2.0
//! Schematics: a design drawn on sheets that a person can review, as KiCad 9 files.
//!
//! A sheet is made of framed sections (`section`), which [`crate::drawing`] lists: the parts that matter, in reading order. Each
//! such part is drawn with what hangs on its pins around it (`block`, `lane`): wires to the passive parts, power symbols for the
//! rails; labels of neighbours become wires (`route`), every net gets its name (`names`). Sections go on the smallest page that
//! holds them (`page`), and the root sheet joins the sheets by wires (`root`). Before KiCad sees it, `connect` reads the
//! drawing back and compares it with the design, and a test finds what covers anything else (`ink`). No position is written down
//! by hand: both boards are drawn by the same rules.

mod block;
mod connect;
pub mod generate;
mod ink;
mod lane;
mod names;
mod page;
mod root;
mod route;
mod rows;
mod section;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};

use crate::{
    design::{Design, OPEN},
    symbols::{Point, Symbol, SymbolError, Symbols},
    uuid::uuid,
};

pub use connect::Misdrawn;

/// Why a design cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SchematicError {
    /// A symbol.
    #[error("{reference} cannot be drawn")]
    Symbol {
        /// Of which part.
        reference: String,
        /// Why.
        #[source]
        error: SymbolError,
    },
    /// The design and a symbol disagree on a pad.
    #[error(
        "{reference}: pad {number} is called {expected} in the design and {found} in the symbol"
    )]
    PinName {
        /// Of which part.
        reference: &'static str,
        /// Which pad.
        number: String,
        /// What the design says.
        expected: String,
        /// What the symbol says.
        found: String,
    },
    /// A part is on a sheet that there is not.
    #[error("{reference} is on sheet {sheet}, which the design has not")]
    NoSheet {
        /// Which part.
        reference: &'static str,
        /// Its sheet.
        sheet: &'static str,
    },
    /// What is drawn is not what is meant.
    #[error("sheet {sheet}")]
    Misdrawn {
        /// Which sheet.
        sheet: &'static str,
        /// How.
        #[source]
        error: Misdrawn,
    },
    /// More than the largest page holds.
    #[error("sheet {0} has more on it than a page of A1 holds: make it two sheets")]
    TooLarge(&'static str),
}

/// The files of a schematic: name and content.
pub type Files = Vec<(String, String)>;

/// The UUID of a sheet's symbol on the root sheet, as in a footprint's path.
#[must_use]
pub fn sheet_uuid(board: &str, sheet: &str) -> String {
    uuid(&[board, "sheet", sheet])
}

/// The UUID of a part's symbol, as in a footprint's path.
#[must_use]
pub fn symbol_uuid(board: &str, reference: &str) -> String {
    uuid(&[board, "symbol", reference])
}

/// The root sheet's UUID.
#[must_use]
pub fn root_uuid(board: &str) -> String {
    uuid(&[board, "root"])
}

/// The file of a sheet.
#[must_use]
pub fn sheet_file(sheet: &str) -> String {
    format!("{sheet}.kicad_sch")
}

/// Draws `design`; symbols called `racklet:` are in the file `own`.
///
/// # Errors
/// [`SchematicError`].
pub fn draw(design: &Design, own: &Path) -> Result<Files, SchematicError> {
    let mut symbols = Symbols::new(own);
    let plan = Plan::new(design, &mut symbols)?;
    let mut files = vec![(
        format!("{}.kicad_sch", design.name),
        write::root(design, &root::draw(&plan)),
    )];
    for (index, sheet) in design.sheets.iter().enumerate() {
        let misdrawn = |error| SchematicError::Misdrawn {
            sheet: sheet.name,
            error,
        };
        let framed = section::framed(&plan, sheet.name).map_err(misdrawn)?;
        let (paper, drawing) = page::arrange(framed).ok_or(SchematicError::TooLarge(sheet.name))?;
        connect::check(&plan, sheet.name, &drawing).map_err(misdrawn)?;
        files.push((
            sheet_file(sheet.name),
            write::sheet(design, index, paper, &drawing),
        ));
    }
    Ok(files)
}

/// A design with its symbols, and what follows from both.
struct Plan<'d> {
    design: &'d Design,
    symbols: BTreeMap<&'static str, Rc<Symbol>>,
    ground: Rc<Symbol>,
    rail: Rc<Symbol>,
    flag: Rc<Symbol>,
    /// Nets that are drawn as power symbols.
    rails: BTreeSet<&'static str>,
    /// Nets that are on more than one sheet and not rails.
    crossing: BTreeSet<&'static str>,
    /// Nets that need a flag for KiCad to know that they are fed, with the sheet where it stands.
    flags: BTreeMap<&'static str, &'static str>,
}

impl<'d> Plan<'d> {
    fn new(design: &'d Design, symbols: &mut Symbols) -> Result<Self, SchematicError> {
        let mut get = |reference: &str, id: &str| {
            let found = symbols.get(id).map_err(|error| SchematicError::Symbol {
                reference: reference.to_owned(),
                error,
            });
            found.map(Rc::new)
        };
        let mut of_parts = BTreeMap::new();
        for part in &design.parts {
            if !design.sheets.iter().any(|sheet| sheet.name == part.sheet) {
                return Err(SchematicError::NoSheet {
                    reference: part.reference,
                    sheet: part.sheet,
                });
            }
            let symbol = get(part.reference, part.symbol)?;
            names_agree(part, &symbol)?;
            of_parts.insert(part.reference, symbol);
        }
        let mut plan = Self {
            design,
            symbols: of_parts,
            ground: get("GND", "power:GND")?,
            rail: get("rails", "power:VCC")?,
            flag: get("flags", "power:PWR_FLAG")?,
            rails: BTreeSet::new(),
            crossing: BTreeSet::new(),
            flags: BTreeMap::new(),
        };
        plan.sort_nets();
        Ok(plan)
    }

    fn sort_nets(&mut self) {
        for (net, pads) in self.design.connections() {
            let known = self.design.nets.get(net);
            let is_supply = known.is_some_and(|known| known.current >= 0.1 && pads.len() >= 5);
            let parts = || {
                pads.iter()
                    .filter_map(|(reference, _)| self.design.part(reference))
            };
            let sheets: BTreeSet<_> = parts().map(|part| part.sheet).collect();
            if net == "GND" || is_supply {
                self.rails.insert(net);
            } else if sheets.len() > 1 {
                self.crossing.insert(net);
            }
            let kinds = |wanted: &str| {
                pads.iter().any(|(reference, number)| {
                    self.symbols[reference]
                        .pins
                        .iter()
                        .any(|pin| pin.number == *number && pin.kind == wanted)
                })
            };
            if (kinds("power_in") || self.rails.contains(net)) && !kinds("power_out") {
                let first = self
                    .design
                    .sheets
                    .iter()
                    .find(|sheet| sheets.contains(sheet.name));
                if let Some(sheet) = first {
                    self.flags.insert(net, sheet.name);
                }
            }
        }
    }

    /// Whether the net is drawn as a power symbol.
    fn is_rail(&self, net: &str) -> bool {
        self.rails.contains(net)
    }

    /// The symbol of a rail.
    fn rail_symbol(&self, net: &str) -> Rc<Symbol> {
        match net {
            "GND" => Rc::clone(&self.ground),
            _ => Rc::clone(&self.rail),
        }
    }

    /// The net of a part's pad.
    fn net(&self, reference: &str, number: &str) -> &'static str {
        self.design
            .part(reference)
            .and_then(|part| part.pins.iter().find(|pin| pin.number == number))
            .map_or(OPEN, |pin| pin.net)
    }
}

fn names_agree(part: &crate::design::Part, symbol: &Symbol) -> Result<(), SchematicError> {
    for pin in &part.pins {
        let found = symbol.pins.iter().find(|found| found.number == pin.number);
        let found = found.map_or("nothing", |found| &found.name);
        if found != pin.name {
            return Err(SchematicError::PinName {
                reference: part.reference,
                number: pin.number.to_owned(),
                expected: pin.name.to_owned(),
                found: found.to_owned(),
            });
        }
    }
    let known = |number: &str| part.pins.iter().any(|pin| pin.number == number);
    match symbol.pins.iter().find(|pin| !known(&pin.number)) {
        Some(pin) => Err(SchematicError::PinName {
            reference: part.reference,
            number: pin.number.clone(),
            expected: "nothing".to_owned(),
            found: pin.name.clone(),
        }),
        None => Ok(()),
    }
}

/// What is on a sheet, or on a piece of one. Positions are steps of the grid.
#[derive(Debug, Clone, Default)]
struct Drawing {
    symbols: Vec<Placed>,
    wires: Vec<(Point, Point)>,
    labels: Vec<Label>,
    open: Vec<Point>,
    notes: Vec<Note>,
    frames: Vec<(Point, Point)>,
    sheets: Vec<SheetBox>,
}

/// A symbol on a sheet.
#[derive(Debug, Clone)]
struct Placed {
    symbol: Rc<Symbol>,
    unit: u32,
    at: Point,
    /// Quarter turns, counter-clockwise.
    turns: u8,
    what: What,
    /// A part's value.
    value: String,
    /// Where the reference's text begins, or its middle, in steps.
    reference_at: (f64, f64),
    /// The same of the value's text.
    value_at: (f64, f64),
    /// Whether these are the texts' left ends and not their middles.
    from_left: bool,
}

/// What a symbol stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A part, by its reference.
    Part(&'static str),
    /// A rail, by its net.
    Rail(&'static str),
    /// That a net is fed.
    Flag,
}

/// A net's name at a wire's end.
#[derive(Debug, Clone)]
struct Label {
    net: &'static str,
    at: Point,
    /// The way the text goes from there.
    side: crate::symbols::Side,
    /// Whether the net goes to other sheets from here.
    crossing: bool,
}

/// Text for people.
#[derive(Debug, Clone)]
struct Note {
    text: String,
    /// The upper left corner.
    at: Point,
    /// The height of letters, in millimetres.
    size: f64,
    bold: bool,
}

/// A sheet on the root sheet.
#[derive(Debug, Clone)]
struct SheetBox {
    name: &'static str,
    title: &'static str,
    at: Point,
    size: Point,
    /// Nets and where their pins are.
    pins: Vec<(&'static str, Point)>,
}

impl Drawing {
    fn wire(&mut self, from: Point, to: Point) {
        if from != to {
            self.wires.push((from, to));
        }
    }

    /// Puts another drawing into this one.
    fn put(&mut self, other: Self, by: Point) {
        let moved = |(x, y): (f64, f64)| (x + f64::from(by.x), y + f64::from(by.y));
        self.symbols
            .extend(other.symbols.into_iter().map(|placed| Placed {
                at: placed.at + by,
                reference_at: moved(placed.reference_at),
                value_at: moved(placed.value_at),
                ..placed
            }));
        self.wires.extend(
            other
                .wires
                .into_iter()
                .map(|(from, to)| (from + by, to + by)),
        );
        self.labels
            .extend(other.labels.into_iter().map(|label| Label {
                at: label.at + by,
                ..label
            }));
        self.open.extend(other.open.into_iter().map(|at| at + by));
        self.frames.extend(
            other
                .frames
                .into_iter()
                .map(|(low, high)| (low + by, high + by)),
        );
        self.notes.extend(other.notes.into_iter().map(|note| Note {
            at: note.at + by,
            ..note
        }));
    }
}

/// A point of a symbol, turned.
const fn turned(point: Point, turns: u8) -> Point {
    point.turned(turns)
}

/// About how many steps a text is wide.
#[allow(clippy::cast_precision_loss, reason = "a few words")]
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 1.03
}

/// As [`text_width`], rounded up.
#[allow(clippy::cast_possible_truncation, reason = "a few words")]
fn text_steps(text: &str) -> i32 {
    text_width(text).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::{self, Board};

    #[test]
    fn nothing_covers_anything_on_any_board_s_sheets() {
        if !Path::new("/usr/share/kicad/symbols").exists() {
            eprintln!("skipped: KiCad's symbols are not installed");
            return;
        }
        let mut found = Vec::new();
        for Board { design, .. } in boards::all() {
            let mut symbols = Symbols::new(Path::new(""));
            let plan = Plan::new(&design, &mut symbols).unwrap();
            for sheet in &design.sheets {
                let framed = section::framed(&plan, sheet.name).unwrap();
                let (_, drawing) = page::arrange(framed).unwrap();
                let overlaps = ink::overlaps(&drawing);
                found.extend(
                    overlaps
                        .into_iter()
                        .map(|what| format!("{} {}: {what}", design.name, sheet.name)),
                );
            }
        }
        assert!(found.is_empty(), "{}\n{}", found.len(), found.join("\n"));
    }
}
