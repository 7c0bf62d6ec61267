// SPDX-License-Identifier: Apache-2.0
//! Values of parts, found by what the parts join: a run follows the design, not a list of designators.

use crate::design::{Design, Part};

/// Why a value is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// No such part.
    #[error("{design}: no {kind} between {first} and {second}")]
    NoPart {
        /// The board.
        design: &'static str,
        /// Resistor or capacitor.
        kind: &'static str,
        /// One net.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A value that is no number.
    #[error("{reference}: the value {value:?} is not understood")]
    NotUnderstood {
        /// Which part.
        reference: &'static str,
        /// What it says.
        value: String,
    },
}

/// `10k`, `24k3 0.1%`, `10R`, `4u7`, `100n`: in ohms, farads or henries.
pub(crate) fn parse(value: &str) -> Option<f64> {
    let word = value.split_ascii_whitespace().next()?;
    let at = word.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let Some(at) = at else {
        return word.parse().ok();
    };
    let (whole, rest) = word.split_at(at);
    let mut letters = rest.chars();
    let scale = match letters.next()? {
        'p' => 1e-12,
        'n' => 1e-9,
        'u' => 1e-6,
        'm' => 1e-3,
        'R' => 1.0,
        'k' => 1e3,
        'M' => 1e6,
        _ => return None,
    };
    let fraction = letters.as_str();
    let number = match fraction.is_empty() {
        true => whole.parse::<f64>(),
        false if fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{whole}.{fraction}").parse()
        }
        false => return None,
    };
    Some(number.ok()? * scale)
}

/// What kind of part, by the letter of its designator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Passive {
    /// By `R`.
    Resistor,
    /// By `C`.
    Capacitor,
}

impl Passive {
    fn letter(self) -> &'static str {
        match self {
            Self::Resistor => "R",
            Self::Capacitor => "C",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Resistor => "resistor",
            Self::Capacitor => "capacitor",
        }
    }
}

fn joins(part: &Part, first: &str, second: &str) -> bool {
    let on = |net: &str| part.pins.iter().any(|pin| pin.net == net);
    on(first) && on(second)
}

/// All parts of a kind between two nets, by value in SI units.
///
/// # Errors
/// [`ValueError`]; there is at least one otherwise.
pub(crate) fn between(
    design: &Design,
    kind: Passive,
    first: &'static str,
    second: &'static str,
) -> Result<Vec<(&'static str, f64)>, ValueError> {
    let found: Vec<_> = design
        .parts
        .iter()
        .filter(|part| {
            let number = part.reference.strip_prefix(kind.letter());
            number.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
        .filter(|part| joins(part, first, second))
        .collect();
    if found.is_empty() {
        return Err(ValueError::NoPart {
            design: design.name,
            kind: kind.name(),
            first,
            second,
        });
    }
    found
        .into_iter()
        .map(|part| match parse(&part.value) {
            Some(value) => Ok((part.reference, value)),
            None => Err(ValueError::NotUnderstood {
                reference: part.reference,
                value: part.value.clone(),
            }),
        })
        .collect()
}

/// The one part of a kind between two nets.
pub(crate) fn one(
    design: &Design,
    kind: Passive,
    first: &'static str,
    second: &'static str,
) -> Result<f64, ValueError> {
    Ok(between(design, kind, first, second)?[0].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_drawn() {
        for (text, value) in [
            ("10k", 10e3),
            ("24k3 0.1%", 24.3e3),
            ("10R", 10.0),
            ("4u7", 4.7e-6),
            ("100n", 100e-9),
            ("10m 1%", 0.01),
            ("6.8u", 6.8e-6),
            ("0", 0.0),
        ] {
            let found = parse(text).unwrap();
            assert!((found - value).abs() <= value * 1e-12, "{text}: {found}");
        }
        for text in ["", "INA226", "10x", "k", "1k2k"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
