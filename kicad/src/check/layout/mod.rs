// SPDX-License-Identifier: Apache-2.0
//! What datasheets ask of a board's layout, checked on the `.kicad_pcb` as it is on disk: each rule a pure function from copper
//! to faults, whatever drew that copper.

pub mod backplane;
pub mod bmc;
pub mod copper;
pub mod current;
pub mod distance;
pub mod pairs;

use crate::check::Fault;
use crate::design::Design;

/// The rules of the design's board.
#[must_use]
pub fn rules(copper: &copper::Copper, design: &Design) -> Vec<Fault> {
    match design.name {
        "backplane" => backplane::rules(copper, design),
        "bmc" => bmc::rules(copper, design),
        other => vec![Fault::at(other, "nobody has written its layout's rules")],
    }
}
