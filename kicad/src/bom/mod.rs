// SPDX-License-Identifier: Apache-2.0
//! The bill of materials: what the designs' parts are bought as, and what a rack costs.
//!
//! `kicad/parts.toml` has the makers' numbers, alternates and dated prices; the designs say how many of each. What people
//! and board houses read is made here as CSV and Markdown; [`check`] refuses what is missing, stale or out of range.

pub mod check;
mod date;
mod file;
pub mod total;

use crate::design::{Design, Part};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use date::Date;
pub use file::{Alternate, Entry, Item, Parts, PartsError};

/// One line of a board's bill: all parts of one entry and value.
#[derive(Debug, Clone)]
pub struct Line<'p> {
    /// The designators, in the order of the design.
    pub references: Vec<&'static str>,
    /// The value as drawn.
    pub value: String,
    /// The footprint.
    pub footprint: &'static str,
    /// What it is bought as.
    pub entry: &'p Entry,
    /// The maker's number for this value.
    pub number: String,
    /// The alternate's number for this value.
    pub alternate: String,
}

impl Parts {
    /// A board's bill, in the order of its parts. What has no entry is left to [`check`].
    #[must_use]
    pub fn lines(&self, design: &Design) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        let mut index: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        for part in &design.parts {
            let Some((key, entry)) = part.bom.and_then(|key| Some((key, self.part(key)?))) else {
                continue;
            };
            let at = (key, part.value.as_str(), part.footprint);
            if let Some(line) = index.get(&at) {
                lines[*line].references.push(part.reference);
                continue;
            }
            index.insert(at, lines.len());
            lines.push(Line {
                references: vec![part.reference],
                value: part.value.clone(),
                footprint: part.footprint,
                entry,
                number: number_for(&entry.number, part),
                alternate: number_for(&entry.alternate.number, part),
            });
        }
        lines
    }

    /// A board's bill as CSV (RFC 4180), for board houses and spreadsheets.
    #[must_use]
    pub fn csv(&self, design: &Design) -> String {
        let mut out = String::from(
            "References,Quantity,Value,Footprint,Maker,Number,Alternate maker,Alternate number,Alternate note,EUR each,EUR\r\n",
        );
        for line in self.lines(design) {
            let quantity = line.references.len();
            let entry = line.entry;
            let footprint = line.footprint.split(':').next_back().unwrap_or_default();
            let fields = [
                line.references.join(" "),
                quantity.to_string(),
                line.value.clone(),
                footprint.to_owned(),
                entry.maker.clone(),
                line.number.clone(),
                entry.alternate.maker.clone(),
                line.alternate.clone(),
                entry.alternate.note.clone(),
                format!("{:.3}", entry.price),
                format!("{:.3}", entry.price * quantity as f64),
            ];
            let fields: Vec<_> = fields.iter().map(|field| quoted(field)).collect();
            write!(out, "{}\r\n", fields.join(",")).expect("strings grow");
        }
        out
    }
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// The number of a family with the part's value in its place: `{value}` as resistors are coded (`4K7`), `{code}` as
/// capacitors are (`104`), `{code4}` as precise resistors are (`2432`).
fn number_for(pattern: &str, part: &Part) -> String {
    let word = part.value.split(' ').next().unwrap_or_default();
    let value = word.to_uppercase();
    let digits = |count: usize| {
        let scale = if part.reference.starts_with('C') {
            1e12
        } else {
            1.0
        };
        coded(
            crate::spice::values::parse(&part.value).unwrap_or(0.0) * scale,
            count,
        )
    };
    pattern
        .replace("{value}", &value)
        .replace("{code4}", &digits(3))
        .replace("{code}", &digits(2))
}

/// Significant digits and the power of ten that follows: 100000 with two is `104`.
fn coded(value: f64, digits: usize) -> String {
    let mut power = 0;
    let limit = 10f64.powi(i32::try_from(digits).unwrap_or(2));
    let mut rest = value;
    while rest >= limit - 1e-6 {
        rest /= 10.0;
        power += 1;
    }
    format!("{rest:.0}{power}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::{self, Board};
    use crate::circuits::bmc;

    fn number(reference: &str) -> String {
        let design = bmc::design();
        let parts = Parts::ours().unwrap();
        let lines = parts.lines(&design);
        let line = lines
            .iter()
            .find(|line| line.references.contains(&reference));
        line.unwrap().number.clone()
    }

    #[test]
    fn families_become_makers_numbers() {
        for (reference, expected) in [
            ("R10", "RC0603FR-07422KL"),
            ("R39", "RC0603FR-074K7L"),
            ("R3", "RC0603FR-0727RL"),
            ("R26", "ERA-3AEB2432V"),
            ("R25", "ERA-3AEB1003V"),
            ("C25", "CL10B473KB8NNNC"),
            ("C33", "CL10B224KB8NNNC"),
            ("C35", "CL10B105KB8NNNC"),
        ] {
            assert_eq!(number(reference), expected, "{reference}");
        }
    }

    #[test]
    fn every_part_that_is_bought_is_on_exactly_one_line() {
        let parts = Parts::ours().unwrap();
        for Board { design, .. } in boards::all() {
            let bought = design.parts.iter().filter(|part| part.bom.is_some());
            let listed: usize = parts
                .lines(&design)
                .iter()
                .map(|line| line.references.len())
                .sum();
            assert_eq!(listed, bought.count());
            let csv = parts.csv(&design);
            assert!(csv.lines().all(|line| !line.contains('{')));
        }
    }
}
