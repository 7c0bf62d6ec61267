// SPDX-License-Identifier: Apache-2.0
//! The floors that a controller keeps for its tray: they only rise, survive every exchange of the tray's card, and each is in flash before
//! the tray is told that it is kept.

use racklet_wire::link::{FLOORS, Floors};

use crate::{
    kept::{Record, Twice},
    nor::{Failed, Flash},
};

/// The floors in flash.
#[derive(Debug)]
pub struct Keeper<F> {
    twice: Twice<F>,
    floors: Floors,
}

impl<F: Flash> Keeper<F> {
    /// Reads them from two rings of two sectors each.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn open(first: F, second: F) -> Result<Self, Failed> {
        let (twice, found) = Twice::open(first, second, 2)?;
        let mut floors = Floors::default();
        for record in found.iter().flatten().filter_map(decode) {
            floors.raise(&record);
        }
        Ok(Self { twice, floors })
    }

    /// The floors.
    #[must_use]
    pub const fn floors(&self) -> Floors {
        self.floors
    }

    /// Raises them, in flash first. With the same ones again nothing is written.
    ///
    /// # Errors
    /// [`Failed`], and the floors are as before; what was to be kept may be in one copy and count after the next start.
    pub fn raise(&mut self, to: &Floors) -> Result<(), Failed> {
        let mut raised = self.floors;
        if raised.raise(to) {
            self.twice.add(&raised.encode())?;
            self.floors = raised;
        }
        Ok(())
    }
}

fn decode(record: &Record) -> Option<Floors> {
    let bytes: &[u8; FLOORS] = (**record).try_into().ok()?;
    Some(Floors::decode(bytes))
}
