// SPDX-License-Identifier: Apache-2.0
//! All mistakes of a document instead of the first: what a complaint is about is exchanged for something that passes, and the
//! document is read again, until it can be read or there is nothing more to try.
//!
//! What was made up stands at a place that no file has ([`MADE_UP`]): complaints about it are not told.

use super::mistake::{DeError, Mend};
use super::{Key, Node, Position, Value};
use serde::de::DeserializeOwned;

/// A person mends these and looks again; more would only scroll away.
pub(crate) const MAX_MISTAKES: usize = 50;
/// Each reading looks at the whole document. A mistake costs at most one for each of [`made_up`]'s values and for each field
/// that a missing value should have had.
const MAX_READINGS: usize = 16 * MAX_MISTAKES;

/// The line of what no file says: one of [`super::MAX_FILE`] bytes has no such line.
pub(crate) const MADE_UP: u32 = u32::MAX;

/// What reading came to. Without mistakes there is a value.
pub(crate) struct Reading<T> {
    /// With made-up parts if there are mistakes; `None` if nothing passes in the place of one of them.
    pub(crate) value: Option<T>,
    /// In the order in which they were met; at most [`MAX_MISTAKES`], and one more if there are more.
    pub(crate) mistakes: Vec<DeError>,
}

/// Reads `root`, whose object should have this `name`, and leaves it mended.
pub(crate) fn read<T: DeserializeOwned>(root: &mut Node, name: &str) -> Reading<T> {
    let mut mistakes = Vec::new();
    for _ in 0..MAX_READINGS {
        let error = match T::deserialize(&*root) {
            Ok(value) => {
                return Reading {
                    value: Some(value),
                    mistakes,
                };
            }
            Err(error) => error,
        };
        let mended = mend(root, &error, name).is_some();
        if !error.at.is_some_and(Position::is_made_up) {
            mistakes.push(error);
        }
        if !mended || mistakes.len() > MAX_MISTAKES {
            break;
        }
    }
    Reading {
        value: None,
        mistakes,
    }
}

fn mend(root: &mut Node, error: &DeError, name: &str) -> Option<()> {
    let mut way = error.path.iter().rev().map(|(index, _)| *index);
    let entry = match error.mend {
        Mend::Remove | Mend::Rename(_) => Some(way.next_back()?),
        Mend::Value | Mend::Word(_) | Mend::Add(_) => None,
    };
    let node = way.try_fold(root, Node::child_mut)?;
    match error.mend {
        Mend::Value => {
            let tried = node.at.is_made_up().then_some(node.at.column);
            *node = Node::made_up(tried.map_or(0, |tried| tried + 1), name)?;
        }
        Mend::Word(word) => {
            node.value = text(word);
            node.at = Position::made_up(0);
        }
        Mend::Add(key) => node.add(key, name)?,
        Mend::Remove | Mend::Rename(_) => {
            let Value::Mapping(entries) = &mut node.value else {
                return None;
            };
            let index = entry.filter(|index| *index < entries.len())?;
            match error.mend {
                // A misspelt field is not missing as well, and its value may have mistakes, too.
                Mend::Rename(meant) if !entries.iter().any(|(key, _)| key.text == meant) => {
                    meant.clone_into(&mut entries[index].0.text);
                }
                _ => drop(entries.remove(index)),
            }
        }
    }
    Some(())
}

impl Position {
    /// The column tells how many values were tried.
    fn made_up(tried: u32) -> Self {
        Self {
            line: MADE_UP,
            column: tried,
        }
    }

    fn is_made_up(self) -> bool {
        self.line == MADE_UP
    }
}

impl Node {
    /// In the place of a document that is not read: everything in it will be made up.
    pub(crate) fn unread() -> Self {
        Self {
            at: Position::made_up(0),
            value: Value::Mapping(Vec::new()),
        }
    }

    /// Adds `key` with a made-up value, if this is a mapping.
    pub(crate) fn add(&mut self, key: &str, name: &str) -> Option<()> {
        let Value::Mapping(entries) = &mut self.value else {
            return None;
        };
        let key = Key {
            at: Position::made_up(0),
            text: key.to_owned(),
        };
        entries.push((key, Self::made_up(0, name)?));
        Some(())
    }

    /// The values to try, one of which passes for each type of the rack's objects. A list or mapping passes only where it
    /// may be empty or gets its fields later. Nothing comes last: it would pass wherever something may be left out, and then
    /// the object would be refused for having left it out.
    fn made_up(index: u32, name: &str) -> Option<Self> {
        let value = match index {
            0 => Value::Mapping(Vec::new()),
            1 => Value::Sequence(Vec::new()),
            2 => text(name),
            3 => plain("1"),
            4 => plain("true"),
            5 => text("64Mi"),
            6 => text(&format!("sha256:{}", "0".repeat(64))),
            7 => text(&"0".repeat(32)),
            8 => text("10.0.0.0/8"),
            9 => plain("null"),
            _ => return None,
        };
        Some(Self {
            at: Position::made_up(index),
            value,
        })
    }

    fn child_mut(&mut self, index: usize) -> Option<&mut Self> {
        match &mut self.value {
            Value::Sequence(items) => items.get_mut(index),
            Value::Mapping(entries) => entries.get_mut(index).map(|(_, value)| value),
            Value::Scalar { .. } => None,
        }
    }
}

fn text(text: &str) -> Value {
    Value::Scalar {
        text: text.to_owned(),
        plain: false,
    }
}

fn plain(text: &str) -> Value {
    Value::Scalar {
        text: text.to_owned(),
        plain: true,
    }
}
