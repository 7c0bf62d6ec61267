// SPDX-License-Identifier: Apache-2.0
//! Which of a tray's two boot slots is used: the record, and the pure decisions about it.
//!
//! ```text
//!            install                 mark_good
//!   Empty ------------> Trial (3) ------------> Good (3)
//!     ^                   | choose: 3, 2, 1, 0    | choose: 3, 2, 1, 0; mark_good: back to 3
//!     |      prepare      v                       v
//!     +-------------- no tries left: the other slot; neither has any: both get three anew
//! ```
//!
//! The record is one sector and is kept twice. A change is written over the copy that is *not* the newest good one, so that a
//! write cut at any byte leaves the record as it was before. [`load`] and [`store`] are the only way in and out; the caller
//! brings [`Copies`], which moves sectors and nothing else. The record is not signed and need not be: it selects between slots,
//! whose contents are verified whatever it says.
//!
//! It deliberately knows nothing of files, disks or firmware.

mod copies;

use core::fmt;

pub use self::copies::{Copies, Loaded, StoreError, load, store};

/// Bytes of one copy: one sector, so that neither copy's write touches the other.
pub const SIZE: usize = 512;
/// The largest manifest of a bootstrap, in bytes: 32 MiB in the smallest chunks have 60 KB of it, and the rest is for what was built from.
pub const MAX_MANIFEST: u64 = 256 << 10;
/// How often a slot is tried before the other one is.
pub const TRIES: u8 = 3;

const MAGIC: [u8; 8] = *b"RKTSLOTS";
const VERSION: u16 = 1;
/// magic 8, version 2, preferred 1, zero 5, generation 8, floor 8, then two slots of state 1, tries 1, zero 6, version 8.
const USED: usize = 64;
const CHECKSUM: usize = SIZE - 4;

/// One of the two places where a bootstrap can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `racklet/a` on the ESP.
    A,
    /// `racklet/b` on the ESP.
    B,
}

impl Slot {
    /// Both, in the order used when nothing is known.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The slot that this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its folder's name, and its name in `boot.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot with this [`Slot::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is installed, or something is being installed.
    Empty,
    /// Installed, and not yet reported good by a running system.
    Trial,
    /// Reported good by a system that was started from it.
    Good,
}

/// A slot's part of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// What is known about it.
    pub state: State,
    /// Starts that remain before the other slot is used; at most [`TRIES`].
    pub tries_left: u8,
    /// The manifest version that was installed, or last reported good; 0 when unknown.
    pub version: u64,
}

impl SlotState {
    const EMPTY: Self = Self {
        state: State::Empty,
        tries_left: 0,
        version: 0,
    };
    const UNKNOWN: Self = Self {
        state: State::Trial,
        tries_left: TRIES,
        version: 0,
    };
}

/// The whole record. Change it with the functions here, then [`store`] it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRecord {
    preferred: Slot,
    slots: [SlotState; 2],
    floor: u64,
}

impl Default for SlotRecord {
    /// What is assumed when neither copy can be read: a, then b, with their tries counted anew.
    fn default() -> Self {
        Self {
            preferred: Slot::A,
            slots: [SlotState::UNKNOWN; 2],
            floor: 0,
        }
    }
}

/// What was written into a file of a slot that has room for more: all but the zeros at its end. Neither a manifest nor a signature
/// ends in one.
#[must_use]
pub fn written(file: &[u8]) -> &[u8] {
    let end = file.iter().rposition(|byte| *byte != 0);
    &file[..end.map_or(0, |last| last + 1)]
}

/// The answer of [`SlotRecord::choose`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The slot to use.
    pub slot: Slot,
    /// Which try this is, from 1.
    pub attempt: u8,
    /// Every usable slot had used up its tries, and all were given new ones: go slowly.
    pub renewed: bool,
    /// The record with this try counted: to be stored *before* the slot is used.
    pub record: SlotRecord,
}

/// Why a version may not be started from a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelowFloor {
    /// The manifest's version.
    pub version: u64,
    /// The newest version that was ever reported good.
    pub floor: u64,
}

impl fmt::Display for BelowFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "version {} is older than version {}, which has run well here; install {} or newer",
            self.version, self.floor, self.floor
        )
    }
}

impl core::error::Error for BelowFloor {}

/// Why nothing may be installed into a slot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallError {
    /// The version is below the floor.
    BelowFloor(BelowFloor),
    /// The other slot was never reported good, so that this one may be the only one that works.
    OtherNotGood(Slot),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowFloor(reason) => reason.fmt(f),
            Self::OtherNotGood(other) => write!(
                f,
                "slot {other} was not reported good yet, so slot {} is kept as it is; try again once the tray is healthy",
                other.other()
            ),
        }
    }
}

impl core::error::Error for InstallError {}

impl SlotRecord {
    /// The record of a new image: these slots have something in them.
    #[must_use]
    pub fn new(a: Option<u64>, b: Option<u64>) -> Self {
        let state = |installed: Option<u64>| match installed {
            Some(version) => SlotState {
                version,
                ..SlotState::UNKNOWN
            },
            None => SlotState::EMPTY,
        };
        Self {
            preferred: if a.is_none() && b.is_some() {
                Slot::B
            } else {
                Slot::A
            },
            slots: [state(a), state(b)],
            floor: 0,
        }
    }

    /// What is known about `slot`.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> SlotState {
        self.slots[slot as usize]
    }

    /// The slot that is tried first.
    #[must_use]
    pub fn preferred(&self) -> Slot {
        self.preferred
    }

    /// The newest version that was ever reported good.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The slot to use now, given those already refused in this boot, or nothing when no slot remains.
    #[must_use]
    pub fn choose(&self, refused: &[Slot]) -> Option<Choice> {
        let usable =
            |slot: &Slot| !refused.contains(slot) && self.slot(*slot).state != State::Empty;
        let order = [self.preferred, self.preferred.other()];
        let in_turn = order
            .into_iter()
            .filter(usable)
            .find(|slot| self.slot(*slot).tries_left > 0);
        let mut record = *self;
        let (slot, renewed) = if let Some(slot) = in_turn {
            (slot, false)
        } else {
            let slot = self.choose_uncounted(refused)?;
            for state in &mut record.slots {
                if state.state != State::Empty {
                    state.tries_left = TRIES;
                }
            }
            (slot, true)
        };
        let state = &mut record.slots[slot as usize];
        state.tries_left -= 1;
        Some(Choice {
            slot,
            attempt: TRIES - state.tries_left,
            renewed,
            record,
        })
    }

    /// The slot to use when no try can be counted (a disk that cannot be written): one that was reported good before one that
    /// was not, so that an update on trial is not tried for ever.
    #[must_use]
    pub fn choose_uncounted(&self, refused: &[Slot]) -> Option<Slot> {
        let order = [self.preferred, self.preferred.other()];
        let in_state = |state| {
            order
                .into_iter()
                .find(|slot| !refused.contains(slot) && self.slot(*slot).state == state)
        };
        in_state(State::Good).or_else(|| in_state(State::Trial))
    }

    /// Whether `version` may be started from `slot`: nothing below the floor, except a slot that itself was reported good with
    /// exactly this version. Without the exception an update's success would take away the slot to fall back to.
    ///
    /// # Errors
    /// [`BelowFloor`].
    pub fn admits(&self, slot: Slot, version: u64) -> Result<(), BelowFloor> {
        let known = self.slot(slot);
        if version >= self.floor || known.state == State::Good && known.version == version {
            Ok(())
        } else {
            Err(BelowFloor {
                version,
                floor: self.floor,
            })
        }
    }

    /// The record once the system started from `slot`, whose manifest has this version, has found itself healthy.
    #[must_use]
    pub fn mark_good(&self, slot: Slot, version: u64) -> Self {
        let mut record = *self;
        record.slots[slot as usize] = SlotState {
            state: State::Good,
            tries_left: TRIES,
            version,
        };
        record.preferred = slot;
        record.floor = record.floor.max(version);
        record
    }

    /// The record to store *before* a byte of `slot` is overwritten: it is not chosen until [`SlotRecord::install`].
    ///
    /// # Errors
    /// [`InstallError`] when `version` must not be installed there, or not now.
    pub fn prepare(&self, slot: Slot, version: u64) -> Result<Self, InstallError> {
        if self.slot(slot.other()).state != State::Good {
            return Err(InstallError::OtherNotGood(slot.other()));
        }
        if version < self.floor {
            return Err(InstallError::BelowFloor(BelowFloor {
                version,
                floor: self.floor,
            }));
        }
        let mut record = *self;
        record.slots[slot as usize] = SlotState::EMPTY;
        record.preferred = slot.other();
        Ok(record)
    }

    /// The record to store *after* every file of `slot` is complete and on the disk: it is tried next.
    ///
    /// # Errors
    /// [`InstallError`], as for [`SlotRecord::prepare`].
    pub fn install(&self, slot: Slot, version: u64) -> Result<Self, InstallError> {
        let mut record = self.prepare(slot, version)?;
        record.slots[slot as usize] = SlotState {
            version,
            ..SlotState::UNKNOWN
        };
        record.preferred = slot;
        Ok(record)
    }

    /// The record when what was installed into `slot`, and never started from there, is not wanted any more: the other slot is tried first
    /// again, and this one when that one fails. The same record where there is no such thing.
    #[must_use]
    pub fn withdraw(&self, slot: Slot) -> Self {
        let untried = self.slot(slot).state == State::Trial && self.slot(slot).tries_left == TRIES;
        let mut record = *self;
        if untried && self.slot(slot.other()).state == State::Good {
            record.preferred = slot.other();
        }
        record
    }

    /// One copy's bytes.
    #[must_use]
    pub fn encode(&self, generation: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.preferred as u8;
        bytes[16..24].copy_from_slice(&generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.floor.to_le_bytes());
        for (part, slot) in bytes[32..USED].chunks_exact_mut(16).zip(self.slots) {
            part[0] = match slot.state {
                State::Empty => 0,
                State::Trial => 1,
                State::Good => 2,
            };
            part[1] = slot.tries_left;
            part[8..].copy_from_slice(&slot.version.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads one copy: its generation and the record.
    ///
    /// # Errors
    /// [`Damage`] for anything that [`SlotRecord::encode`] does not write.
    // untrusted: slot_record
    pub fn decode(bytes: &[u8; SIZE]) -> Result<(u64, Self), Damage> {
        if bytes[..8] != MAGIC {
            return Err(Damage::NotARecord);
        }
        if bytes[CHECKSUM..] != crc32fast::hash(&bytes[..CHECKSUM]).to_le_bytes() {
            return Err(Damage::Checksum);
        }
        let preferred = match bytes[10] {
            0 => Slot::A,
            1 => Slot::B,
            _ => return Err(Damage::Contents),
        };
        let mut slots = [SlotState::EMPTY; 2];
        for (part, slot) in bytes[32..USED].chunks_exact(16).zip(&mut slots) {
            slot.state = match part[0] {
                0 => State::Empty,
                1 => State::Trial,
                2 => State::Good,
                _ => return Err(Damage::Contents),
            };
            slot.tries_left = part[1];
            slot.version = number(part, 8);
            if slot.tries_left > TRIES {
                return Err(Damage::Contents);
            }
        }
        let record = Self {
            preferred,
            slots,
            floor: number(bytes, 24),
        };
        let generation = number(bytes, 16);
        // Whatever is not understood (a later version, a reserved byte) does not survive being written again.
        if record.encode(generation) != *bytes {
            return Err(Damage::Contents);
        }
        Ok((generation, record))
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It could not be read.
    Unreadable,
    /// It does not begin like a record.
    NotARecord,
    /// Its checksum differs: a write was cut, or a bit flipped.
    Checksum,
    /// The checksum is right and the contents are not known: written by other software.
    Contents,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it cannot be read",
            Self::NotARecord => "it is not a slot record",
            Self::Checksum => "its checksum is wrong",
            Self::Contents => "its contents are unknown to this version",
        })
    }
}

#[cfg(test)]
mod tests;
