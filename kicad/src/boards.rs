// SPDX-License-Identifier: Apache-2.0
//! The boards, one row each: what is drawn, laid out, checked and bought follows from the rows, and nothing else lists boards.
//!
//! What holds two boards together (a tray's fingers and the backplane's sockets, the power that both pass on) is checked between
//! every pair of a tray's board and a backplane, in [`faults`].

use racklet_boards::{
    dimensions::{self, Dimensions},
    pins::{Controller, rp2350_bmc, rp2350_rmc},
};

use crate::check::{
    Fault, clamps, drive, i2c, layout as rules, layout::copper::Copper, pins, power, ratings,
};
use crate::check::{supplies, values};
use crate::design::Design;
use crate::drawing::{self, Section};
use crate::pcb::build::Draft;
use crate::{circuits, layout};

/// Where a board is in a rack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// On a tray: one in each slot.
    Tray,
    /// Behind the trays: one.
    Backplane,
}

impl Role {
    /// How many a full rack has.
    #[must_use]
    pub fn pieces(self) -> u32 {
        match self {
            Self::Tray => dimensions::rack().slots,
            Self::Backplane => 1,
        }
    }
}

/// What there is of a board.
#[derive(Debug)]
pub struct Row {
    /// Its project's folder in `kicad/`; its circuit is called the same.
    pub name: &'static str,
    /// In a list of what is bought.
    pub article: &'static str,
    /// Where it is in a rack.
    pub role: Role,
    /// Its controller's pins. Its dimensions are in the same folder of `boards/controllers/`.
    pub controller: &'static Controller,
    /// The intent.
    pub circuit: fn() -> Design,
    /// How its sheets are laid out for a reader.
    pub sections: fn() -> Vec<Section>,
    /// Where its parts and the tracks drawn by hand are.
    pub lay_out: fn(&mut Draft<'_>),
    /// What datasheets ask of its copper.
    pub rules: fn(&Copper, &Design) -> Vec<Fault>,
    /// What its parts' values must give, and what only this board has.
    pub values: fn(&Design) -> Vec<Fault>,
}

/// All of them, a tray's first.
static ROWS: [Row; 2] = [
    Row {
        name: "bmc",
        article: "a BMC board",
        role: Role::Tray,
        controller: &rp2350_bmc::CONTROLLER,
        circuit: circuits::bmc::design,
        sections: drawing::bmc::sections,
        lay_out: layout::bmc::lay_out,
        rules: rules::bmc::rules,
        values: |design| [pins::pi_header(design), values::bmc(design)].concat(),
    },
    Row {
        name: "backplane",
        article: "the backplane",
        role: Role::Backplane,
        controller: &rp2350_rmc::CONTROLLER,
        circuit: circuits::backplane::design,
        sections: drawing::backplane::sections,
        lay_out: layout::backplane::lay_out,
        rules: rules::backplane::rules,
        values: values::backplane,
    },
];

impl Row {
    /// Its mechanical dimensions, which the enclosure has, too.
    #[must_use]
    pub fn dimensions(&self) -> Dimensions {
        dimensions::find(self.controller.board).expect("the build wants both files in the folder")
    }
}

/// A board and its circuit: as it is meant, or spoilt by a test.
#[derive(Debug)]
pub struct Board {
    /// What there is of it.
    pub row: &'static Row,
    /// Its circuit.
    pub design: Design,
}

impl Board {
    fn new(row: &'static Row) -> Self {
        let design = (row.circuit)();
        Self { row, design }
    }
}

/// The row called `name`.
#[must_use]
pub fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// The board called `name`, as it is meant.
#[must_use]
pub fn find(name: &str) -> Option<Board> {
    row(name).map(Board::new)
}

/// All boards as they are meant, a tray's first.
#[must_use]
pub fn all() -> Vec<Board> {
    ROWS.iter().map(Board::new).collect()
}

/// All checks of these boards' circuits.
#[must_use]
pub fn faults(boards: &[Board]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for Board { row, design } in boards {
        faults.extend(pins::controller(design, row.controller));
        faults.extend(i2c::buses(design, row.controller));
        faults.extend(supplies::decoupling(design));
        faults.extend(ratings::ratings(design));
        faults.extend(clamps::clamps(design));
        faults.extend(drive::gates(design, row.controller));
        faults.extend(drive::transceivers(design));
        faults.extend((row.values)(design));
    }
    let of = |role| boards.iter().filter(move |board| board.row.role == role);
    for tray in of(Role::Tray) {
        for backplane in of(Role::Backplane) {
            faults.extend(pins::slots(&tray.design, &backplane.design));
            faults.extend(power::budget(&tray.design, &backplane.design).faults());
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Project;
    use std::path::Path;

    #[test]
    fn the_circuits_are_without_fault() {
        let faults = faults(&all());
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{}", said.join("\n"));
    }

    #[test]
    fn every_row_has_a_project_and_every_project_a_row() {
        let mut rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        rows.sort_unstable();
        let projects = Project::all(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(projects.iter().map(|it| &*it.name).eq(rows));
        for Board { row, design } in all() {
            assert_eq!(row.name, design.name);
        }
    }

    #[test]
    fn every_controller_on_the_shelf_is_on_a_board() {
        for controller in racklet_boards::pins::ALL {
            let on = |row: &&Row| row.controller.board == controller.board;
            assert_eq!(ROWS.iter().filter(on).count(), 1, "{}", controller.board);
        }
    }
}
