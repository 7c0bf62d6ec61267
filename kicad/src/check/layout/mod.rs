// SPDX-License-Identifier: Apache-2.0
//! What datasheets ask of a board's layout, checked on the `.kicad_pcb` as it is on disk: each rule a pure function from copper
//! to faults, whatever drew that copper.

pub mod backplane;
pub mod bmc;
pub mod copper;
pub mod current;
pub mod distance;
pub mod pairs;
pub mod rp2350;

#[cfg(test)]
mod spoilt {
    use std::{fs, path::Path};

    use super::copper::Copper;
    use crate::check::Fault;
    use crate::pcb::geometry::nm;

    /// The committed board of a project.
    pub(super) fn board(name: &str) -> Copper {
        let path = format!("{name}/{name}.kicad_pcb");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Copper::read(&fs::read_to_string(&path).unwrap()).unwrap()
    }

    /// What is said, line by line.
    pub(super) fn lines(faults: &[Fault]) -> String {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    #[track_caller]
    pub(super) fn refused(faults: &str, says: &str) {
        assert!(faults.contains(says), "{says}: {faults}");
    }

    /// Moves a part's pads by millimetres.
    pub(super) fn shift(copper: &mut Copper, part: &str, x: f64, y: f64) {
        for pad in copper.pads.iter_mut().filter(|pad| pad.part == part) {
            let corners = pad.copper.iter_mut().flat_map(|shape| &mut shape.corners);
            for corner in corners.chain([&mut pad.centre]) {
                corner.x += nm(x);
                corner.y += nm(y);
            }
        }
    }
}
