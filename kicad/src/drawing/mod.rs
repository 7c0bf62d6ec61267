// SPDX-License-Identifier: Apache-2.0
//! How the sheets of each board are laid out for a reader: sections with a title, in reading order, and in each the parts that it
//! is about, from left to right along the signal or the current. What hangs on these parts' pins follows from the design.

pub mod backplane;
pub mod bmc;

/// A framed part of a sheet.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The sheet's name.
    pub sheet: &'static str,
    /// What it is, above the frame.
    pub title: &'static str,
    /// Its parts from left to right, with quarter turns against the clock. Those that are not named in any section hang on one that
    /// is, stand with the part that their note names, or are in their sheet's last section.
    pub parts: &'static [(&'static str, u8)],
}

/// The controller's sheet is the same on every board.
const CONTROLLER: &[Section] = &[
    section("controller", "USB, for recovery", &[("J2", 0), ("U3", 0)]),
    section("controller", "Crystal", &[("Y1", 0)]),
    section("controller", "Flash", &[("U2", 0)]),
    section("controller", "Debug port, reset", &[("J3", 0)]),
    section("controller", "Controller", &[("U1", 0)]),
    section(
        "controller",
        "Core supply, decoupling",
        &[("L1", 0), ("R1", 0)],
    ),
];

const fn section(
    sheet: &'static str,
    title: &'static str,
    parts: &'static [(&'static str, u8)],
) -> Section {
    Section {
        sheet,
        title,
        parts,
    }
}

#[cfg(test)]
mod tests {
    use crate::boards;

    #[test]
    fn every_section_is_about_parts_of_its_sheet_and_no_part_is_named_twice() {
        for boards::Board { row, design } in boards::all() {
            let mut seen = std::collections::BTreeSet::new();
            for section in (row.sections)() {
                for (reference, _) in section.parts {
                    let part = design.part(reference).expect(reference);
                    assert_eq!(part.sheet, section.sheet, "{reference}");
                    assert!(seen.insert(reference), "{reference}");
                }
            }
        }
    }
}
