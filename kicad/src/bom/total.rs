// SPDX-License-Identifier: Apache-2.0
//! What a rack of five costs, in three profiles.

use super::{Entry, Parts};
use crate::boards::Board;
use crate::design::Design;
use std::fmt::Write as _;

/// What is bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything, first choices.
    Full,
    /// Everything, the cheaper of first and second choice where that one fits the same board.
    Cheap,
    /// As full, without the switch and its cable: the rack hangs on one that is there.
    NoSwitch,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::Cheap, Self::NoSwitch];

    /// As in `parts.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Cheap => "cheap",
            Self::NoSwitch => "no-switch",
        }
    }

    /// What a piece of it costs in this profile.
    fn price(self, entry: &Entry) -> f64 {
        match self {
            Self::Cheap if entry.alternate.fits => entry.price.min(entry.alternate.price),
            _ => entry.price,
        }
    }
}

/// One line of a rack's total.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// What.
    pub what: String,
    /// How many.
    pub quantity: f64,
    /// EUR each, without tax.
    pub each: f64,
}

impl Cost {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.quantity * self.each
    }
}

/// Parts of one board, in EUR.
#[must_use]
pub fn board(parts: &Parts, design: &Design, profile: Profile) -> f64 {
    parts
        .lines(design)
        .iter()
        .map(|line| profile.price(line.entry) * line.references.len() as f64)
        .sum()
}

/// A rack's costs.
#[must_use]
pub fn rack(parts: &Parts, boards: &[Board], profile: Profile) -> Vec<Cost> {
    let cost = |it: &Board| Cost {
        what: format!("parts of {}", it.row.article),
        quantity: f64::from(it.row.role.pieces()),
        each: board(parts, &it.design, profile),
    };
    let mut costs: Vec<Cost> = boards.iter().map(cost).collect();
    costs.extend(parts.items.iter().map(|item| Cost {
        what: item.entry.what.clone(),
        quantity: item.quantity.get(profile.name()).copied().unwrap_or(0.0),
        each: profile.price(&item.entry),
    }));
    costs
}

/// What a rack costs, in EUR without tax and shipping.
#[must_use]
pub fn sum(parts: &Parts, boards: &[Board], profile: Profile) -> f64 {
    rack(parts, boards, profile).iter().map(Cost::sum).sum()
}

/// The three profiles side by side, as Markdown.
#[must_use]
pub fn markdown(parts: &Parts, boards: &[Board]) -> String {
    let columns = Profile::ALL.map(|profile| rack(parts, boards, profile));
    let mut out = String::from("| EUR | full | cheap | no switch |\n|---|---:|---:|---:|\n");
    let cell = |cost: &Cost| {
        if cost.quantity == 0.0 {
            "-".to_owned()
        } else {
            format!("{} x {:.2} = {:.2}", cost.quantity, cost.each, cost.sum())
        }
    };
    for (row, cost) in columns[0].iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|column| cell(&column[row])).collect();
        writeln!(out, "| {} | {} |", cost.what, cells.join(" | ")).expect("strings grow");
    }
    let sums = columns.map(|column| column.iter().map(Cost::sum).sum::<f64>());
    let cells: Vec<_> = sums.iter().map(|sum| format!("**{sum:.0}**")).collect();
    writeln!(out, "| **in all** | {} |", cells.join(" | ")).expect("strings grow");
    out
}
