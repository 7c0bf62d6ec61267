// SPDX-License-Identifier: Apache-2.0
//! `kicad/parts.toml`, read and turned into entries with dates.

use super::Date;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The file as part of this crate.
const OURS: &str = include_str!("../../parts.toml");

/// Why the file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// It is not the TOML that is expected.
    #[error("kicad/parts.toml")]
    Syntax(#[from] toml::de::Error),
    /// A date is none.
    #[error("kicad/parts.toml: {key}: {date:?} is no date such as 2026-11-25")]
    Date {
        /// The entry.
        key: String,
        /// What it says.
        date: String,
    },
    /// A source is not described.
    #[error("kicad/parts.toml: {key}: no source is called {source_name:?}")]
    Source {
        /// The entry.
        key: String,
        /// What it says.
        source_name: String,
    },
    /// Two entries have one key.
    #[error("kicad/parts.toml: {0} is there twice")]
    Twice(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: BTreeMap<String, RawSource>,
    part: Vec<RawEntry>,
    item: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    key: String,
    what: String,
    #[serde(default)]
    quantity: BTreeMap<String, f64>,
    maker: String,
    number: String,
    price: f64,
    date: String,
    source: String,
    alternate: RawAlternate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlternate {
    maker: String,
    number: String,
    price: f64,
    #[serde(default)]
    note: String,
    #[serde(default = "fits")]
    fits: bool,
}

/// An alternate fits unless it says otherwise.
fn fits() -> bool {
    true
}

/// What a part may be bought as instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternate {
    /// Its maker.
    pub maker: String,
    /// The maker's number, or its pattern.
    pub number: String,
    /// EUR a piece, without tax, in tens.
    pub price: f64,
    /// What is different; empty when nothing is.
    pub note: String,
    /// Whether it takes the first choice's place on the boards as they are.
    pub fits: bool,
}

/// What a part is bought as.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The name that designs call it by.
    pub key: String,
    /// For people.
    pub what: String,
    /// The maker.
    pub maker: String,
    /// The maker's number, or its pattern.
    pub number: String,
    /// EUR a piece, without tax, in tens.
    pub price: f64,
    /// When the price was noted.
    pub date: Date,
    /// Where the price is from.
    pub source: String,
    /// The second choice.
    pub alternate: Alternate,
}

/// Something that no board carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is bought as.
    pub entry: Entry,
    /// How many of it, by profile.
    pub quantity: BTreeMap<String, f64>,
}

/// The file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Parts of boards.
    pub parts: Vec<Entry>,
    /// What else a rack needs.
    pub items: Vec<Item>,
}

impl Parts {
    /// The project's own file.
    ///
    /// # Errors
    /// [`PartsError`] when it is not well-formed.
    pub fn ours() -> Result<Self, PartsError> {
        Self::parse(OURS)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// [`PartsError`] when it is not well-formed.
    pub fn parse(text: &str) -> Result<Self, PartsError> {
        let file: File = toml::from_str(text)?;
        let mut keys = Vec::new();
        for raw in file.part.iter().chain(&file.item) {
            if keys.contains(&&raw.key) {
                return Err(PartsError::Twice(raw.key.clone()));
            }
            keys.push(&raw.key);
        }
        let parts = file.part.into_iter();
        let parts: Result<_, _> = parts.map(|raw| entry(raw, &file.source)).collect();
        let items = file.item.into_iter();
        let items: Result<_, _> = items
            .map(|mut raw| {
                let quantity = std::mem::take(&mut raw.quantity);
                entry(raw, &file.source).map(|entry| Item { entry, quantity })
            })
            .collect();
        Ok(Self {
            parts: parts?,
            items: items?,
        })
    }

    /// The entry that designs call by that name.
    #[must_use]
    pub fn part(&self, key: &str) -> Option<&Entry> {
        self.parts.iter().find(|entry| entry.key == key)
    }
}

fn entry(raw: RawEntry, sources: &BTreeMap<String, RawSource>) -> Result<Entry, PartsError> {
    let Some(date) = Date::parse(&raw.date) else {
        return Err(PartsError::Date {
            key: raw.key,
            date: raw.date,
        });
    };
    let Some(source) = sources.get(&raw.source) else {
        return Err(PartsError::Source {
            key: raw.key,
            source_name: raw.source,
        });
    };
    Ok(Entry {
        key: raw.key,
        what: raw.what,
        maker: raw.maker,
        number: raw.number,
        price: raw.price,
        date,
        source: source.what.clone(),
        alternate: Alternate {
            maker: raw.alternate.maker,
            number: raw.alternate.number,
            price: raw.alternate.price,
            note: raw.alternate.note,
            fits: raw.alternate.fits,
        },
    })
}
