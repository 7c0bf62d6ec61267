// SPDX-License-Identifier: Apache-2.0
//! Everything that a tray printed lately, in memory that a reset does not clear.
//!
//! ```text
//! 0   name, number of the history, size of the ring, their CRC-32          written once, when a history begins
//! 32  end, not end, end, not end                                           twice, so that one is whole whenever a reset comes
//! 64  64 events of 32 bytes, each with its number and a CRC-32
//! 2112 the ring: the byte at offset o lies at o modulo its size
//! ```
//! The end is checked by its complement and not by a CRC, because it is written with every byte that comes: at 1 Mbaud, a CRC of 16
//! bytes each time would take half of a processor at 150 MHz. Memory that lost power does not pass for a history: 24 bytes with a
//! CRC and 16 with their complement would have to come out right by chance.

use racklet_wire::{
    console::{Event, Since},
    serial::crc32,
};

const NAME: [u8; 8] = *b"RKcons\x00\x01";
const FIXED: usize = 24;
const ENDS: usize = 32;
const EVENTS: usize = 64;
const EVENT: usize = 32;
const EVENT_CHECKED: usize = 21;
const EVENTS_KEPT: usize = 64;
const RING: usize = EVENTS + EVENTS_KEPT * EVENT;

/// The least memory that a recorder takes, in bytes: its bookkeeping and a page.
pub const SMALLEST: usize = RING + 4096;

/// What became of the memory's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It held a history, which goes on.
    History,
    /// It held none: a new one begins.
    Nothing,
}

/// The ring, over memory that belongs to it alone.
#[derive(Debug)]
pub struct Recorder<'m> {
    fixed: &'m mut [u8],
    events: &'m mut [u8],
    ring: &'m mut [u8],
    history: u64,
    end: u64,
    /// The number of the next event; they are counted from 0 in each history.
    next_event: u64,
}

/// Where somebody is in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    next: u64,
    next_event: u64,
}

impl Reader {
    /// The offset of the next byte for it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.next
    }
}

/// What comes next for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It has got everything.
    Nothing,
    /// So many bytes from this offset on were put into its buffer.
    Bytes {
        /// Of the first.
        offset: u64,
        /// How many.
        length: usize,
    },
    /// `from` up to, not including, `to` was overwritten before it came to it.
    Lost {
        /// The first byte that is missing.
        from: u64,
        /// The oldest that is there.
        to: u64,
    },
    /// Something happened before the byte at this offset.
    Event {
        /// Of the byte behind it.
        offset: u64,
        /// What.
        event: Event,
    },
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// `offset` as an index into `length` bytes.
fn place(offset: u64, length: usize) -> usize {
    usize::try_from(offset % length as u64).expect("less than a length in memory")
}

impl<'m> Recorder<'m> {
    /// Goes on with the history in `memory`, or begins one under the number `fresh`, which should be one that no other has.
    ///
    /// None when `memory` has less than [`SMALLEST`] bytes.
    pub fn open(memory: &'m mut [u8], fresh: u64) -> Option<(Self, Kept)> {
        if memory.len() < SMALLEST {
            return None;
        }
        let (fixed, rest) = memory.split_at_mut(EVENTS);
        let (events, ring) = rest.split_at_mut(EVENTS_KEPT * EVENT);
        let mut this = Self {
            fixed,
            events,
            ring,
            history: fresh,
            end: 0,
            next_event: 0,
        };
        if this.recover() {
            return Some((this, Kept::History));
        }
        this.events.fill(0);
        this.fixed[..8].copy_from_slice(&NAME);
        put(this.fixed, 8, fresh);
        put(this.fixed, 16, this.ring.len() as u64);
        this.set_end(0);
        // Last, so that a reset before it begins anew.
        let check = crc32(&this.fixed[..FIXED]).to_le_bytes();
        this.fixed[FIXED..FIXED + 4].copy_from_slice(&check);
        Some((this, Kept::Nothing))
    }

    fn recover(&mut self) -> bool {
        let check = crc32(&self.fixed[..FIXED]).to_le_bytes();
        if self.fixed[..8] != NAME
            || self.fixed[FIXED..FIXED + 4] != check
            || long(self.fixed, 16) != self.ring.len() as u64
        {
            return false;
        }
        let end = |at: usize| {
            let (end, inverse) = (long(self.fixed, at), long(self.fixed, at + 8));
            (end == !inverse).then_some(end)
        };
        let Some(end) = end(ENDS).max(end(ENDS + 16)) else {
            return false;
        };
        self.history = long(self.fixed, 8);
        self.set_end(end);
        self.next_event = (0..EVENTS_KEPT)
            .filter_map(|slot| self.event_in(slot))
            .map(|(number, ..)| number + 1)
            .max()
            .unwrap_or(0);
        true
    }

    fn set_end(&mut self, end: u64) {
        self.end = end;
        for at in [ENDS, ENDS + 16] {
            put(self.fixed, at, end);
            put(self.fixed, at + 8, !end);
        }
    }

    /// The number of this history.
    #[must_use]
    pub fn history(&self) -> u64 {
        self.history
    }

    /// The offset of the next byte to come: how many came so far.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many events there were in this history.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.next_event
    }

    /// The offset of the oldest byte that is there.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.end.saturating_sub(self.ring.len() as u64)
    }

    /// Keeps what the tray printed, and lets the oldest go for it.
    pub fn append(&mut self, bytes: &[u8]) {
        // What would be overwritten by the end of the same bytes is counted and not written.
        let skipped = bytes.len().saturating_sub(self.ring.len());
        let mut end = self.end + skipped as u64;
        for piece in bytes[skipped..].chunks(self.ring.len()) {
            let at = place(end, self.ring.len());
            let first = piece.len().min(self.ring.len() - at);
            self.ring[at..at + first].copy_from_slice(&piece[..first]);
            self.ring[..piece.len() - first].copy_from_slice(&piece[first..]);
            end += piece.len() as u64;
        }
        self.set_end(end);
    }

    /// Keeps that something happened, between the last byte and the next.
    pub fn note(&mut self, event: Event) {
        let (code, count) = event.code();
        let slot = place(self.next_event, EVENTS_KEPT) * EVENT;
        let entry = &mut self.events[slot..slot + EVENT];
        put(entry, 0, self.next_event);
        put(entry, 8, self.end);
        entry[16..20].copy_from_slice(&count.to_le_bytes());
        entry[20] = code;
        let check = crc32(&entry[..EVENT_CHECKED]).to_le_bytes();
        entry[24..28].copy_from_slice(&check);
        self.next_event += 1;
    }

    /// Number, offset and event in a place of the table, if there is one and it is whole.
    fn event_in(&self, slot: usize) -> Option<(u64, u64, Event)> {
        let entry = &self.events[slot * EVENT..][..EVENT];
        let check = crc32(&entry[..EVENT_CHECKED]).to_le_bytes();
        let number = long(entry, 0);
        if entry[24..28] != check || place(number, EVENTS_KEPT) != slot {
            return None;
        }
        let mut count = [0; 4];
        count.copy_from_slice(&entry[16..20]);
        let event = Event::of_code(entry[20], u32::from_le_bytes(count))?;
        Some((number, long(entry, 8), event))
    }

    fn oldest_event(&self) -> u64 {
        self.next_event.saturating_sub(EVENTS_KEPT as u64)
    }

    /// A reader that begins there, or at the nearest place that this history has.
    ///
    /// What was asked for and is gone comes out of [`Self::read`] as lost.
    #[must_use]
    pub fn attach(&self, since: Since) -> Reader {
        let next = match since {
            Since::Oldest => self.oldest(),
            Since::Now => self.end,
            Since::Last(bytes) => self.end.saturating_sub(bytes).max(self.oldest()),
            Since::At { history, offset } if history == self.history => offset.min(self.end),
            // Of a history that is gone nothing is here, and all of this one is new to that reader.
            Since::At { .. } => self.oldest(),
        };
        let next_event = (self.oldest_event()..self.next_event)
            .find(|number| {
                self.event_in(place(*number, EVENTS_KEPT))
                    .is_some_and(|(_, offset, _)| {
                        offset > next || (offset == next && since != Since::Now)
                    })
            })
            .unwrap_or(self.next_event);
        Reader { next, next_event }
    }

    /// What comes next for this reader; bytes go to the front of `out`.
    pub fn read(&self, reader: &mut Reader, out: &mut [u8]) -> Next {
        let oldest = self.oldest();
        if reader.next < oldest {
            let from = core::mem::replace(&mut reader.next, oldest);
            return Next::Lost { from, to: oldest };
        }
        reader.next_event = reader.next_event.max(self.oldest_event());
        let mut until = self.end;
        while reader.next_event < self.next_event {
            match self.event_in(place(reader.next_event, EVENTS_KEPT)) {
                Some((_, offset, event)) if offset <= reader.next => {
                    reader.next_event += 1;
                    return Next::Event { offset, event };
                }
                Some((_, offset, _)) => {
                    until = until.min(offset);
                    break;
                }
                // Torn by a reset.
                None => reader.next_event += 1,
            }
        }
        let offset = reader.next;
        let there = usize::try_from(until - offset).unwrap_or(usize::MAX);
        let length = there.min(out.len()).min(self.ring.len());
        if length == 0 {
            return Next::Nothing;
        }
        let at = place(offset, self.ring.len());
        let first = length.min(self.ring.len() - at);
        out[..first].copy_from_slice(&self.ring[at..at + first]);
        out[first..length].copy_from_slice(&self.ring[..length - first]);
        reader.next += length as u64;
        Next::Bytes { offset, length }
    }
}

#[cfg(test)]
mod tests;
