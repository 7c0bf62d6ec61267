// SPDX-License-Identifier: Apache-2.0
//! What must be true: of the circuits, pure functions from designs to faults; of a project's files, the links of [`project`].
//!
//! Each check is shown in its tests to refuse the mistake it is there for.

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

use crate::circuits::{backplane, bmc};
use crate::design::Design;
use racklet_boards::pins::{rp2350_bmc, rp2350_rmc};

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

/// All checks of both circuits.
#[must_use]
pub fn circuits(bmc: &Design, backplane: &Design) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(pins::pi_header(bmc));
    faults.extend(pins::slots(bmc, backplane));
    for (design, controller) in [
        (bmc, &rp2350_bmc::CONTROLLER),
        (backplane, &rp2350_rmc::CONTROLLER),
    ] {
        faults.extend(pins::controller(design, controller));
        faults.extend(i2c::buses(design, controller));
        faults.extend(supplies::decoupling(design));
        faults.extend(ratings::ratings(design));
    }
    faults.extend(values::bmc(bmc));
    faults.extend(values::backplane(backplane));
    faults.extend(power::budget(bmc, backplane).faults());
    faults
}

/// All checks of the circuits as they are.
#[must_use]
pub fn ours() -> Vec<Fault> {
    circuits(&bmc::design(), &backplane::design())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::design::{Part, Pin};

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

    #[test]
    fn the_circuits_are_without_fault() {
        let faults = ours();
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{}", said.join("\n"));
    }
}
