// SPDX-License-Identifier: Apache-2.0
//! What a circuit is meant to be: parts, which net each of their pads is on, and what the nets carry.
//!
//! It says nothing of where symbols stand on a sheet or footprints on a board: drawing and layout are made elsewhere and
//! compared with this.

use std::collections::{BTreeMap, BTreeSet};

/// A board's circuit.
#[derive(Debug, Clone)]
pub struct Design {
    /// The project's name: the folder under `kicad/` and the stem of its files.
    pub name: &'static str,
    /// The board's title, as on title block and silk.
    pub title: &'static str,
    /// The board's revision.
    pub revision: &'static str,
    /// The sheets of the schematic, in reading order.
    pub sheets: Vec<Sheet>,
    /// All parts, in the order they were added.
    pub parts: Vec<Part>,
    /// What is known of each net; a net that only parts name is of class [`SIGNAL`].
    pub nets: BTreeMap<&'static str, Net>,
}

/// One sheet of the schematic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// A short name, part of the file's name: `power`, `controller`.
    pub name: &'static str,
    /// The sheet's title.
    pub title: &'static str,
}

/// One part.
#[derive(Debug, Clone)]
pub struct Part {
    /// The reference designator: `U3`.
    pub reference: &'static str,
    /// The symbol, `library:name`, from KiCad's stock libraries or the project's own (`racklet:`).
    pub symbol: &'static str,
    /// The footprint, `library:name`, likewise.
    pub footprint: &'static str,
    /// The value as drawn: `10k`, `INA226`.
    pub value: String,
    /// The key of its entry in the bill of materials (`kicad/parts.toml`); none for what is not bought (test points, fiducials).
    pub bom: Option<&'static str>,
    /// The name of the sheet that shows it.
    pub sheet: &'static str,
    /// What it is there for, shown in the schematic's field and the documentation.
    pub note: &'static str,
    /// The pads in order. Pads that are deliberately open are on [`OPEN`].
    pub pins: Vec<Pin>,
}

/// One pad of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The pad's number in the symbol and the footprint.
    pub number: &'static str,
    /// The name the symbol gives it (`~` where it has none): compared, so that a misread datasheet is noticed.
    pub name: &'static str,
    /// The net.
    pub net: &'static str,
}

/// The net of a pad that is deliberately not connected.
pub const OPEN: &str = "";

/// What a net carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Net {
    /// Its class.
    pub class: Class,
    /// The current that its copper must carry continuously, in amperes.
    pub current: f64,
    /// The highest voltage against ground, in volts.
    pub voltage: f64,
}

/// A class of nets with one rule for tracks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Class {
    /// As in KiCad's board setup.
    pub name: &'static str,
    /// The narrowest track, in millimetres; follows from the current by the ampacity rule where there is one.
    pub width: f64,
    /// The smallest distance to other nets, in millimetres.
    pub clearance: f64,
}

/// Ordinary signals.
pub const SIGNAL: Class = Class {
    name: "Default",
    width: 0.15,
    clearance: 0.15,
};

impl Design {
    /// An empty design.
    #[must_use]
    pub fn new(name: &'static str, title: &'static str, revision: &'static str) -> Self {
        Self {
            name,
            title,
            revision,
            sheets: Vec::new(),
            parts: Vec::new(),
            nets: BTreeMap::new(),
        }
    }

    /// Every net that at least one pad is on, with its pads as (reference, pad number).
    #[must_use]
    pub fn connections(&self) -> BTreeMap<&'static str, BTreeSet<(&'static str, &'static str)>> {
        let mut nets: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for part in &self.parts {
            for pin in part.pins.iter().filter(|pin| pin.net != OPEN) {
                nets.entry(pin.net)
                    .or_default()
                    .insert((part.reference, pin.number));
            }
        }
        nets
    }

    /// What the net carries.
    #[must_use]
    pub fn net(&self, name: &str) -> Net {
        self.nets.get(name).copied().unwrap_or(Net {
            class: SIGNAL,
            current: 0.1,
            voltage: 3.3,
        })
    }

    /// The part called `reference`.
    #[must_use]
    pub fn part(&self, reference: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.reference == reference)
    }
}
