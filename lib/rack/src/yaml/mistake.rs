// SPDX-License-Identifier: Apache-2.0
//! What a document says otherwise than its type, in words for the person who wrote it, and what would make it pass.

use super::Position;
use super::word::closest;
use serde::de;
use std::fmt;

/// Why a document is not the type it should be.
#[derive(Debug)]
pub(crate) struct DeError {
    pub(crate) message: String,
    pub(crate) at: Option<Position>,
    /// From the innermost field outwards: which one in the list or mapping around it, and how people call it.
    pub(super) path: Vec<(usize, String)>,
    /// What has to change for the rest to be read.
    pub(super) mend: Mend,
    /// What should stand there, until the field's name is known and both can be said.
    wanted: Option<Box<Wanted>>,
}

/// The smallest change to the tree after which a complaint would not come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// Another value.
    Value,
    /// This word as the value.
    Word(&'static str),
    /// The entry has to go, key and value.
    Remove,
    /// The entry's key has to be this one.
    Rename(&'static str),
    /// This key has to come.
    Add(&'static str),
}

#[derive(Debug)]
struct Wanted {
    shape: &'static str,
    example: &'static str,
    found: String,
}

impl DeError {
    pub(super) fn new(message: String) -> Self {
        Self {
            message,
            at: None,
            path: Vec::new(),
            mend: Mend::Value,
            wanted: None,
        }
    }

    /// Says what to write behind `before`, such as `cpus: `, if that is what is wrong.
    pub(super) fn behind(mut self, before: &str) -> Self {
        if let Some(wanted) = self.wanted.take() {
            let Wanted {
                shape,
                example,
                found,
            } = *wanted;
            self.message = format!("write {shape}: `{before}{example}`, not {found}");
        }
        self
    }

    pub(super) fn at(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }

    pub(super) fn inside(mut self, index: usize, field: String) -> Self {
        self.path.push((index, field));
        self
    }

    fn mend(mut self, mend: Mend) -> Self {
        self.mend = mend;
        self
    }

    /// `spec.network.name`, or nothing at the top.
    pub(crate) fn path(&self) -> String {
        let mut out = String::new();
        for (_, part) in self.path.iter().rev() {
            if !out.is_empty() && !part.is_empty() && !part.starts_with('[') {
                out.push('.');
            }
            out.push_str(part);
        }
        out
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let error = Self::new(unknown("field", field, expected));
        error.mend(closest(field, expected).map_or(Mend::Remove, Mend::Rename))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let error = Self::new(unknown("value", variant, expected));
        match expected.first() {
            Some(word) => error.mend(Mend::Word(word)),
            None => error,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing")).mend(Mend::Add(field))
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Unit => "nothing".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            de::Unexpected::Str(text) => {
                format!("the text `{}`", text.chars().take(64).collect::<String>())
            }
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let (shape, example) = match expected.as_str() {
            "a string" => ("text", "name"),
            "a boolean" => ("true or false", "true"),
            "a sequence" => ("a list", "[one, two]"),
            "a map" => ("fields below it", "{name: value}"),
            text if text.starts_with("struct ") => ("fields below it", "{name: value}"),
            "u8" | "u16" | "u32" | "u64" | "i64" => ("a number", "1"),
            _ => return Self::new(format!("expected {expected}, found {found}")),
        };
        Self {
            wanted: Some(Box::new(Wanted {
                shape,
                example,
                found: found.clone(),
            })),
            ..Self::new(format!("write {shape}, not {found}"))
        }
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        match expected.as_str() {
            "u8" | "u16" | "u32" | "u64" => {
                Self::new(format!("{unexpected} is too large or too small here"))
            }
            _ => Self::new(format!("expected {expected}, found {unexpected}")),
        }
    }
}

fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let shown: String = found.chars().take(64).collect();
    let mut out = format!("unknown {what} `{shown}`");
    if let Some(best) = closest(&shown, known) {
        out.push_str(&format!("; did you mean `{best}`?"));
    } else if known.is_empty() {
        out.push_str("; nothing may stand here");
    } else {
        out.push_str(&format!("; known here: {}", known.join(", ")));
    }
    out
}
