// SPDX-License-Identifier: Apache-2.0
//! Symbols of KiCad's stock libraries and of the project's own: where their pins are, and their text as a schematic embeds it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::sexpr::{Sexpr, SexprError, text};

/// Where KiCad's stock symbols are.
const STOCK: &str = "/usr/share/kicad/symbols";

/// The grid of schematics, in millimetres: pins are on it.
pub const GRID: f64 = 1.27;

/// How many symbols may be derived from one another in a row.
const MAX_BASES: usize = 4;

/// Why a symbol cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// The library is not there: KiCad's symbols are not installed.
    #[error("read {0}; the stock symbols are Debian's package `kicad-symbols`")]
    Library(PathBuf, #[source] io::Error),
    /// The library is not one.
    #[error("{0}")]
    Syntax(PathBuf, #[source] SexprError),
    /// A name without a library, or that the library has not.
    #[error("there is no symbol {0}")]
    Unknown(String),
    /// A symbol that is not as all are.
    #[error("symbol {symbol}: {reason}")]
    Strange {
        /// Which.
        symbol: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A point or a vector on the grid; y grows downwards, as on a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// To the right.
    pub x: i32,
    /// Downwards.
    pub y: i32,
}

impl Point {
    /// The point (x, y).
    #[must_use]
    pub const fn new(x: i32, y: i32) -> Self {
        Self { x, y }
    }
}

impl Point {
    /// Turned about the origin by quarters against the clock.
    #[must_use]
    pub const fn turned(self, turns: u8) -> Self {
        match turns % 4 {
            0 => self,
            1 => Self::new(self.y, -self.x),
            2 => Self::new(-self.x, -self.y),
            _ => Self::new(-self.y, self.x),
        }
    }
}

impl std::ops::Add for Point {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.y + other.y)
    }
}

impl std::ops::Sub for Point {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.y - other.y)
    }
}

/// The way a pin's wire leaves a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Upwards.
    Up,
    /// Downwards.
    Down,
}

impl Side {
    /// Turned by quarters against the clock.
    #[must_use]
    pub const fn turned(self, turns: u8) -> Self {
        let once = match self {
            Self::Right => Self::Up,
            Self::Up => Self::Left,
            Self::Left => Self::Down,
            Self::Down => Self::Right,
        };
        match turns % 4 {
            0 => self,
            1 => once,
            more => once.turned(more - 1),
        }
    }

    /// One step that way.
    #[must_use]
    pub const fn step(self) -> Point {
        match self {
            Self::Left => Point::new(-1, 0),
            Self::Right => Point::new(1, 0),
            Self::Up => Point::new(0, -1),
            Self::Down => Point::new(0, 1),
        }
    }
}

/// A pin of a symbol that is not turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolPin {
    /// The pad's number.
    pub number: String,
    /// Its name, `~` where it has none.
    pub name: String,
    /// KiCad's electrical type: `passive`, `power_in`.
    pub kind: String,
    /// Where its wire begins, from the symbol's origin.
    pub at: Point,
    /// The way its wire leaves.
    pub side: Side,
    /// The symbol's unit it belongs to; 0 for all.
    pub unit: u32,
}

/// A symbol.
#[derive(Debug, Clone)]
pub struct Symbol {
    /// `library:name`.
    pub id: String,
    /// Its text for `lib_symbols`, named by the id.
    pub definition: Sexpr,
    /// Its pins, in the library's order.
    pub pins: Vec<SymbolPin>,
    /// The corners of what is drawn, pins included.
    pub low: Point,
    /// The other corner.
    pub high: Point,
    /// How many units it has.
    pub units: u32,
}

impl Symbol {
    /// The same with pins and corners turned by quarters against the clock; its definition stays.
    #[must_use]
    pub fn turned(&self, turns: u8) -> Self {
        let mut turned = self.clone();
        for pin in &mut turned.pins {
            pin.at = pin.at.turned(turns);
            pin.side = pin.side.turned(turns);
        }
        let (one, other) = (self.low.turned(turns), self.high.turned(turns));
        turned.low = Point::new(one.x.min(other.x), one.y.min(other.y));
        turned.high = Point::new(one.x.max(other.x), one.y.max(other.y));
        turned
    }
}

/// Symbols, each read once.
#[derive(Debug, Default)]
pub struct Symbols {
    libraries: BTreeMap<String, Sexpr>,
    own: PathBuf,
}

impl Symbols {
    /// Symbols of the stock libraries and, as `racklet:`, of the file `own`.
    #[must_use]
    pub fn new(own: &Path) -> Self {
        Self {
            libraries: BTreeMap::new(),
            own: own.to_owned(),
        }
    }

    /// The symbol `library:name`.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn get(&mut self, id: &str) -> Result<Symbol, SymbolError> {
        let unknown = || SymbolError::Unknown(id.to_owned());
        let (library, name) = id.split_once(':').ok_or_else(unknown)?;
        let file = self.library(library)?;
        let find = |name: &str| {
            file.all("symbol")
                .find(|item| item.argument(0) == Some(name))
        };
        let mut definition = find(name).ok_or_else(unknown)?.clone();
        // A base may itself be derived.
        for _ in 0..MAX_BASES {
            let Some(base) = definition.field("extends").map(str::to_owned) else {
                break;
            };
            definition = derived(find(&base).ok_or_else(unknown)?, &definition, &base, name);
        }
        symbol(id, definition)
    }

    fn library(&mut self, name: &str) -> Result<&Sexpr, SymbolError> {
        if !self.libraries.contains_key(name) {
            let path = match name {
                "racklet" => self.own.clone(),
                stock => Path::new(STOCK).join(format!("{stock}.kicad_sym")),
            };
            let source = fs::read_to_string(&path)
                .map_err(|error| SymbolError::Library(path.clone(), error))?;
            let parsed =
                Sexpr::parse(&source).map_err(|error| SymbolError::Syntax(path.clone(), error))?;
            self.libraries.insert(name.to_owned(), parsed);
        }
        Ok(&self.libraries[name])
    }
}

/// A symbol that differs from its base in properties only, written out as KiCad does when it embeds one.
fn derived(base: &Sexpr, own: &Sexpr, base_name: &str, name: &str) -> Sexpr {
    let mut items = Vec::new();
    for item in base.items() {
        match item.name() {
            Some("property") => {
                let key = item.argument(0);
                let own = own.all("property").find(|own| own.argument(0) == key);
                items.push(own.unwrap_or(item).clone());
            }
            Some("symbol") => {
                let mut unit = item.clone();
                let unit_name = item.argument(0).unwrap_or_default();
                let suffix = unit_name.strip_prefix(base_name).unwrap_or_default();
                if let Some(items) = unit.items_mut() {
                    items[1] = text(format!("{name}{suffix}"));
                }
                items.push(unit);
            }
            _ => items.push(item.clone()),
        }
    }
    let known = |key: Option<&str>| base.all("property").any(|item| item.argument(0) == key);
    let more: Vec<_> = own
        .all("property")
        .filter(|item| !known(item.argument(0)))
        .cloned()
        .collect();
    let at = items
        .iter()
        .rposition(|item| item.name() == Some("property"))
        .map_or(items.len(), |last| last + 1);
    items.splice(at..at, more);
    items[1] = text(name);
    Sexpr::List(items)
}

fn symbol(id: &str, mut definition: Sexpr) -> Result<Symbol, SymbolError> {
    let strange = |reason| SymbolError::Strange {
        symbol: id.to_owned(),
        reason,
    };
    let mut pins = Vec::new();
    let mut corners = Corners::default();
    let mut units = 1;
    for part in definition.all("symbol") {
        let mut numbers = part.argument(0).unwrap_or_default().rsplit('_');
        let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
        let (style, unit) = (number(), number());
        let (Some(style), Some(unit)) = (style, unit) else {
            return Err(strange("a unit without a number"));
        };
        // The other body style is De Morgan's; nobody draws it.
        if style > 1 {
            continue;
        }
        units = units.max(unit);
        for item in part.items() {
            if item.name() == Some("pin") {
                let pin = pin(item, unit).ok_or_else(|| strange("a pin that is off the grid"))?;
                corners.add(pin.at);
                pins.push(pin);
            } else {
                corners.add_all(item);
            }
        }
    }
    let (low, high) = corners.0.unwrap_or((Point::new(0, 0), Point::new(0, 0)));
    if let Some(items) = definition.items_mut() {
        items[1] = text(id);
    }
    Ok(Symbol {
        id: id.to_owned(),
        definition,
        pins,
        low,
        high,
        units,
    })
}

fn pin(item: &Sexpr, unit: u32) -> Option<SymbolPin> {
    let at = item.get("at")?;
    let number = |index: usize| at.items().get(index)?.number();
    let side = match item.get("at")?.argument(2)? {
        "0" => Side::Left,
        "180" => Side::Right,
        "90" => Side::Down,
        "270" => Side::Up,
        _ => return None,
    };
    Some(SymbolPin {
        number: item.field("number")?.to_owned(),
        name: item.field("name")?.to_owned(),
        kind: item.argument(0)?.to_owned(),
        at: Point::new(on_grid(number(1)?)?, on_grid(-number(2)?)?),
        side,
        unit,
    })
}

/// Millimetres as steps of the grid, if they are on it.
fn on_grid(millimetres: f64) -> Option<i32> {
    let steps = millimetres / GRID;
    #[allow(clippy::cast_possible_truncation, reason = "symbols are small")]
    let whole = steps.round() as i32;
    ((steps - f64::from(whole)).abs() < 1e-3).then_some(whole)
}

/// The box around points.
#[derive(Default)]
struct Corners(Option<(Point, Point)>);

impl Corners {
    fn add(&mut self, point: Point) {
        let (low, high) = self.0.unwrap_or((point, point));
        self.0 = Some((
            Point::new(low.x.min(point.x), low.y.min(point.y)),
            Point::new(high.x.max(point.x), high.y.max(point.y)),
        ));
    }

    /// Everything in a shape that is a position.
    fn add_all(&mut self, shape: &Sexpr) {
        if let (Some(center), Some(radius)) = (shape.get("center"), shape.get("radius")) {
            let number = |item: &Sexpr, index: usize| item.items().get(index)?.number();
            if let (Some(x), Some(y), Some(radius)) =
                (number(center, 1), number(center, 2), number(radius, 1))
            {
                #[allow(clippy::cast_possible_truncation, reason = "symbols are small")]
                let step = |value: f64, away: fn(f64) -> f64| away(value / GRID) as i32;
                self.add(Point::new(
                    step(x - radius, f64::floor),
                    step(-y - radius, f64::floor),
                ));
                self.add(Point::new(
                    step(x + radius, f64::ceil),
                    step(-y + radius, f64::ceil),
                ));
            }
            return;
        }
        for item in shape.items() {
            if matches!(item.name(), Some("xy" | "start" | "end" | "mid" | "center")) {
                let number = |index: usize| item.items().get(index)?.number();
                if let (Some(x), Some(y)) = (number(1), number(2)) {
                    #[allow(clippy::cast_possible_truncation, reason = "symbols are small")]
                    let step = |value: f64, away: fn(f64) -> f64| away(value / GRID) as i32;
                    self.add(Point::new(step(x, f64::floor), step(-y, f64::floor)));
                    self.add(Point::new(step(x, f64::ceil), step(-y, f64::ceil)));
                }
            } else if item.name() == Some("pts") {
                self.add_all(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = r#"(kicad_symbol_lib
        (symbol "BASE" (property "Reference" "U" (at 0 0 0)) (property "Value" "BASE" (at 0 0 0))
            (symbol "BASE_0_1" (rectangle (start -5.08 5.08) (end 5.08 -5.08)))
            (symbol "BASE_1_1"
                (pin power_in line (at -7.62 2.54 0) (length 2.54) (name "IN") (number "3"))
                (pin output line (at 7.62 -2.54 180) (length 2.54) (name "OUT") (number "1"))))
        (symbol "CHILD" (extends "BASE") (property "Value" "CHILD" (at 0 0 0)) (property "Datasheet" "x" (at 0 0 0))))"#;

    fn symbols() -> (tempfile::TempDir, Symbols) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.kicad_sym");
        fs::write(&path, LIBRARY).unwrap();
        (folder, Symbols::new(&path))
    }

    #[test]
    fn pins_are_where_the_library_says() {
        let (_folder, mut symbols) = symbols();
        let symbol = symbols.get("racklet:BASE").unwrap();
        assert_eq!(symbol.pins.len(), 2);
        assert_eq!(symbol.pins[0].at, Point::new(-6, -2));
        assert_eq!(symbol.pins[0].side, Side::Left);
        assert_eq!(symbol.pins[1].side, Side::Right);
        assert_eq!(
            (symbol.low, symbol.high),
            (Point::new(-6, -4), Point::new(6, 4))
        );
    }

    #[test]
    fn a_derived_symbol_is_its_base_with_its_own_properties() {
        let (_folder, mut symbols) = symbols();
        let symbol = symbols.get("racklet:CHILD").unwrap();
        assert_eq!(symbol.definition.argument(0), Some("racklet:CHILD"));
        assert!(symbol.definition.get("extends").is_none());
        let properties: Vec<_> = symbol
            .definition
            .all("property")
            .map(|property| property.argument(1).unwrap())
            .collect();
        assert_eq!(properties, ["U", "CHILD", "x"]);
        assert!(symbol.definition.to_string().contains("CHILD_1_1"));
        assert_eq!(symbol.pins.len(), 2);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (_folder, mut symbols) = symbols();
        for id in ["racklet:NONE", "nolibrary"] {
            assert!(symbols.get(id).unwrap_err().to_string().contains(id));
        }
    }
}
