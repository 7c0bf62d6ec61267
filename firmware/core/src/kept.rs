// SPDX-License-Identifier: Apache-2.0
//! What survives: records in a ring of flash sectors. The event log is such a ring; what only rises (floors, energy, starts) is the newest
//! record of one, and of two where it may not get lost ([`Twice`]).
//!
//! ```text
//! sector: 32 places of 128 bytes      place: sequence 4 | length 1 | payload 0..=119 | CRC-32 4
//! ```
//!
//! A record is programmed once, into a place that is blank, and read back. A sector is erased only when the ring comes round to it, so
//! whenever power goes, every record but the one being written and those of the oldest sector is still there. A place that is neither
//! blank nor a record was being written then, and is passed over.
//!
//! Wear: a sector is erased once in `32 * sectors` records; the flash bears 100,000 ([`crate::nor`]). Two sectors with a record a minute
//! last for 12 years.

use racklet_wire::{bytes::Bytes, serial::crc32};

use crate::nor::{Failed, Flash, PAGE, SECTOR};

const PLACE: u32 = 128;
const PLACES: u32 = SECTOR / PLACE;
const HEAD: usize = 5;
/// The largest payload, in bytes.
pub const LONGEST: usize = PLACE as usize - HEAD - 4;
// No record crosses a page.
const _: () = assert!(PAGE.is_multiple_of(PLACE));

/// A payload.
pub type Record = Bytes<LONGEST>;

/// A ring of sectors.
#[derive(Debug)]
pub struct Ring<F> {
    flash: F,
    sectors: u32,
    /// Where the next record goes.
    next: u32,
    newest: Option<(u32, u32)>,
}

enum Found {
    Blank,
    Record(u32, Record),
    Torn,
}

impl<F: Flash> Ring<F> {
    /// The ring in these sectors, at least two, and its newest record.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn open(mut flash: F, sectors: u32) -> Result<(Self, Option<Record>), Failed> {
        if sectors < 2 {
            return Err(Failed);
        }
        let mut newest: Option<(u32, u32, Record)> = None;
        for place in 0..sectors * PLACES {
            if let Found::Record(sequence, record) = look(&mut flash, place)?
                && newest
                    .as_ref()
                    .is_none_or(|(_, known, _)| sequence > *known)
            {
                newest = Some((place, sequence, record));
            }
        }
        let mut ring = Self {
            flash,
            sectors,
            next: 0,
            newest: newest.as_ref().map(|it| (it.0, it.1)),
        };
        if let Some((place, ..)) = &newest {
            ring.next = ring.behind(*place);
        }
        Ok((ring, newest.map(|it| it.2)))
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Failed`] when it is too long, or when neither the next place nor one of the next sector takes it.
    pub fn add(&mut self, payload: &[u8]) -> Result<(), Failed> {
        let sequence = self
            .newest
            .map_or(1, |(_, sequence)| sequence.wrapping_add(1));
        let place = encode(sequence, payload)?;
        // A sector's worth of places, so that one that does not take it any more is left behind.
        for _ in 0..=PLACES {
            let at = self.next;
            if at.is_multiple_of(PLACES) {
                self.flash.erase(at * PLACE)?;
            }
            self.next = self.behind(at);
            if !matches!(look(&mut self.flash, at)?, Found::Blank) {
                continue;
            }
            self.flash.program(at * PLACE, &place)?;
            if let Found::Record(written, record) = look(&mut self.flash, at)?
                && written == sequence
                && *record == *payload
            {
                self.newest = Some((at, sequence));
                return Ok(());
            }
        }
        Err(Failed)
    }

    /// The record so many before the newest one (0 is the newest); none where it was overwritten or never there.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn back(&mut self, steps: u32) -> Result<Option<Record>, Failed> {
        let Some((newest, sequence)) = self.newest else {
            return Ok(None);
        };
        let Some(wanted) = sequence.checked_sub(steps) else {
            return Ok(None);
        };
        // Torn places lie between, so it is here or further back.
        let all = self.sectors * PLACES;
        for step in steps.min(all)..all {
            let place = (newest + all - step) % all;
            if let Found::Record(found, record) = look(&mut self.flash, place)? {
                if found == wanted {
                    return Ok(Some(record));
                }
                if found < wanted {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    const fn behind(&self, place: u32) -> u32 {
        (place + 1) % (self.sectors * PLACES)
    }
}

fn encode(sequence: u32, payload: &[u8]) -> Result<Bytes<{ PLACE as usize }>, Failed> {
    let length = u8::try_from(payload.len()).map_err(|_| Failed)?;
    let mut place = Bytes::new();
    let mut add = |bytes: &[u8]| place.extend(bytes).map_err(|_| Failed);
    add(&sequence.to_le_bytes())?;
    add(&[length])?;
    add(payload)?;
    let crc = crc32(&*place).to_le_bytes();
    place.extend(&crc).map_err(|_| Failed)?;
    Ok(place)
}

fn look(flash: &mut impl Flash, place: u32) -> Result<Found, Failed> {
    let mut bytes = [0; PLACE as usize];
    flash.read(place * PLACE, &mut bytes)?;
    if bytes == [0xff; PLACE as usize] {
        return Ok(Found::Blank);
    }
    Ok(decode(&bytes).map_or(Found::Torn, |(sequence, record)| {
        Found::Record(sequence, record)
    }))
}

/// The record in a place, which may have been torn, decayed, or written by somebody with a clip at the chip.
// untrusted: kept_places
#[must_use]
pub fn decode(place: &[u8; PLACE as usize]) -> Option<(u32, Record)> {
    let (sequence, rest) = place.split_first_chunk::<4>()?;
    let end = HEAD + usize::from(*rest.first()?);
    let payload = place.get(HEAD..end)?;
    let crc = place.get(end..end + 4)?.first_chunk::<4>()?;
    if crc32(&place[..end]) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((u32::from_le_bytes(*sequence), Record::copied(payload).ok()?))
}

/// Two rings with the same records, for what must not be read from an older record when the newest one rots.
#[derive(Debug)]
pub struct Twice<F> {
    rings: [Ring<F>; 2],
}

impl<F: Flash> Twice<F> {
    /// Both rings, and the newest record of each: whoever keeps something there takes the higher of them.
    ///
    /// # Errors
    /// [`Failed`] when the flash cannot be read.
    pub fn open(first: F, second: F, sectors: u32) -> Result<(Self, [Option<Record>; 2]), Failed> {
        let (first, one) = Ring::open(first, sectors)?;
        let (second, other) = Ring::open(second, sectors)?;
        let rings = [first, second];
        Ok((Self { rings }, [one, other]))
    }

    /// Adds a record to both, one after the other.
    ///
    /// # Errors
    /// [`Failed`] when neither has it. With one of them it is kept.
    pub fn add(&mut self, payload: &[u8]) -> Result<(), Failed> {
        let [one, other] = self.rings.each_mut().map(|ring| ring.add(payload));
        one.or(other)
    }
}
