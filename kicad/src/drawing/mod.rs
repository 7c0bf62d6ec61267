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

/// The sections of a board's sheets; none for a board that is drawn without.
#[must_use]
pub fn sections(board: &str) -> &'static [Section] {
    match board {
        "bmc" => bmc::SECTIONS,
        "backplane" => backplane::SECTIONS,
        _ => &[],
    }
}

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
    use super::*;
    use crate::circuits;

    #[test]
    fn every_section_is_about_parts_of_its_sheet_and_no_part_is_named_twice() {
        for design in [circuits::bmc::design(), circuits::backplane::design()] {
            let mut seen = std::collections::BTreeSet::new();
            for section in sections(design.name) {
                for (reference, _) in section.parts {
                    let part = design.part(reference).expect(reference);
                    assert_eq!(part.sheet, section.sheet, "{reference}");
                    assert!(seen.insert(reference), "{reference}");
                }
            }
        }
    }
}
