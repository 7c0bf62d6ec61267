// SPDX-License-Identifier: Apache-2.0
//! The record's two copies: the newest good one counts, the other one is written over.

use core::fmt;

use super::{Damage, SIZE, SlotRecord};

/// The two places of the record, numbered 0 and 1.
pub trait Copies {
    /// Why a sector could not be moved.
    type Error;

    /// Reads a copy.
    ///
    /// # Errors
    /// When the sector cannot be found or read.
    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Self::Error>;

    /// Overwrites a copy in place; when it returns, the bytes are on the disk and not in a cache.
    ///
    /// # Errors
    /// When the sector cannot be found or written.
    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), Self::Error>;
}

/// The record as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// The newest good copy, or the default when there is none.
    pub record: SlotRecord,
    /// What is wrong with each copy. One damaged copy is the ordinary trace of a power cut.
    pub damage: [Option<Damage>; 2],
    generation: u64,
    newest: Option<usize>,
}

impl Loaded {
    /// Neither copy could be used, and [`Loaded::record`] is the default.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.newest.is_none()
    }
}

/// Reads both copies and takes the newest good one.
pub fn load<C: Copies + ?Sized>(copies: &mut C) -> Loaded {
    let mut read = |copy| match copies.read(copy) {
        Ok(bytes) => SlotRecord::decode(&bytes),
        Err(_) => Err(Damage::Unreadable),
    };
    let found = [read(0), read(1)];
    let newest = match found {
        // Generations are compared as serial numbers (RFC 1982), so that the last one is followed by 0.
        [Ok((first, _)), Ok((second, _))] => {
            let ahead = second.wrapping_sub(first);
            Some(usize::from(ahead != 0 && ahead < 1 << 63))
        }
        [Ok(_), Err(_)] => Some(0),
        [Err(_), Ok(_)] => Some(1),
        [Err(_), Err(_)] => None,
    };
    let (generation, record) = newest
        .and_then(|copy| found[copy].ok())
        .unwrap_or((0, SlotRecord::default()));
    Loaded {
        record,
        damage: found.map(Result::err),
        generation,
        newest,
    }
}

/// Why a record was not stored. The former record still holds.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreError<E> {
    /// The copy could not be written, or not be read back.
    Move(E),
    /// The disk said that it wrote the copy, and did not.
    NotKept,
}

impl<E: fmt::Display> fmt::Display for StoreError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move(error) => write!(f, "the slot record cannot be written: {error}"),
            Self::NotKept => f.write_str(
                "the disk did not keep what was written to the slot record; replace the disk",
            ),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for StoreError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Move(error) => Some(error),
            Self::NotKept => None,
        }
    }
}

/// Makes `record` the newest, over the copy that is not the newest now, and reads it back.
///
/// # Errors
/// [`StoreError`]; the former record still holds then.
pub fn store<C: Copies + ?Sized>(
    copies: &mut C,
    loaded: &Loaded,
    record: SlotRecord,
) -> Result<Loaded, StoreError<C::Error>> {
    let copy = loaded.newest.map_or(0, |newest| 1 - newest);
    let generation = loaded.generation.wrapping_add(1);
    let bytes = record.encode(generation);
    copies.write(copy, &bytes).map_err(StoreError::Move)?;
    if copies.read(copy).map_err(StoreError::Move)? != bytes {
        return Err(StoreError::NotKept);
    }
    let mut damage = loaded.damage;
    damage[copy] = None;
    Ok(Loaded {
        record,
        damage,
        generation,
        newest: Some(copy),
    })
}
