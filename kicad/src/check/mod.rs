// SPDX-License-Identifier: Apache-2.0
//! What must be true: of the circuits, pure functions from designs to faults; of a project's files, the links of [`project`].
//!
//! Each check is shown in its tests to refuse the mistake it is there for.

pub mod clamps;
pub mod drive;
pub mod embedded;
pub mod i2c;
pub mod layout;
pub mod mechanics;
pub mod netlist;
pub mod pins;
pub mod power;
pub mod project;
pub mod ratings;
pub mod setup;
pub mod supplies;
pub mod values;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Fault {
    /// The part, net or bus.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl Fault {
    pub(crate) fn at(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::design::{Design, Part, Pin};

    /// The part of that designator, to be spoilt.
    pub(crate) fn part<'d>(design: &'d mut Design, reference: &str) -> &'d mut Part {
        design
            .parts
            .iter_mut()
            .find(|part| part.reference == reference)
            .unwrap()
    }

    /// A pad of it.
    pub(crate) fn pad<'d>(design: &'d mut Design, reference: &str, number: &str) -> &'d mut Pin {
        part(design, reference)
            .pins
            .iter_mut()
            .find(|pin| pin.number == number)
            .unwrap()
    }
}
