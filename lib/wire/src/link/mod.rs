// SPDX-License-Identifier: Apache-2.0
//! What a tray and its controller say to each other over the control link, a UART of their own ([`crate::serial`] frames it).
//!
//! A frame's body, numbers little-endian: `kind 1 | number 1 | payload`. Kinds below 128 are the tray's, the others the controller's.
//!
//! | kind | who | says | payload |
//! | --- | --- | --- | --- |
//! | 1 | tray | hello, this stage runs | stage 1 |
//! | 2 | tray | still alive | none |
//! | 3 | tray | this far (POST code) | code 2, milliseconds since the stage's start 4 |
//! | 4 | tray | raise your floors to these | [`Floors`] |
//! | 5 | tray | answer to a wish to shut down | 1: I shall, 0: I shall not |
//! | 6 | tray | from here on I am silent | 1: off, 0: again |
//! | 129 | controller | this is me | [`Identity`] |
//! | 130 | controller | these are the floors | [`Floors`] |
//! | 131 | controller | please shut down | seconds until power goes 2 |
//! | 132 | controller | kept, power may go | none |
//!
//! An answer has the number of its question. Questions are asked again until they are answered, so each of them may arrive twice:
//! floors only rise, and the rest says the same again. [`tray`] is the tray's end; the controller's is in `firmware/core`.

use core::fmt;

use crate::reader::Reader;
use crate::serial::{self, OnLine, TooLong};

pub mod tray;

/// How far a tray has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Stage 1, in the hands of the board's firmware.
    Bootloader,
    /// The bootstrap: looking for the rack and a payload.
    Bootstrap,
    /// The hypervisor OS.
    System,
}

/// Who answers, and whose tray this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The chip's own number.
    pub chip: u64,
    /// The slot's number as its straps have it; 7 on the bench.
    pub slot: u8,
    /// The version of its firmware.
    pub firmware: u32,
    /// SHA-256 of the rack's first trust root, pinned when the controller was enrolled; all 0 before.
    pub root: [u8; 32],
}

/// What no tray goes below, whatever card is in it. Of each the larger counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floors {
    /// Version of the newest accepted trust root.
    pub trust_root: u64,
    /// Generation of the newest accepted head.
    pub generation: u64,
    /// That head: a SHA-1 (20 bytes, zeros behind) or a SHA-256. All 0 before any.
    pub head: [u8; 32],
    /// Newest signed time, Unix seconds.
    pub time: u64,
}

impl Floors {
    /// Raises each of them to the other's where that is higher. Of two heads of one generation the present one stays. Gives whether
    /// anything changed.
    pub fn raise(&mut self, other: &Self) -> bool {
        let before = *self;
        self.trust_root = self.trust_root.max(other.trust_root);
        self.time = self.time.max(other.time);
        if other.generation > self.generation {
            self.generation = other.generation;
            self.head = other.head;
        }
        *self != before
    }

    /// As it lies in frames and in a controller's flash: 56 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FLOORS] {
        let mut bytes = [0; FLOORS];
        bytes[..8].copy_from_slice(&self.trust_root.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time.to_le_bytes());
        bytes[24..].copy_from_slice(&self.head);
        bytes
    }

    /// Floors as [`Self::encode`] wrote them.
    #[must_use]
    pub fn decode(bytes: &[u8; FLOORS]) -> Self {
        let mut reader = Reader(bytes);
        // The lengths add up to the array's.
        Self {
            trust_root: reader.u64().unwrap_or_default(),
            generation: reader.u64().unwrap_or_default(),
            time: reader.u64().unwrap_or_default(),
            head: reader.array().unwrap_or_default(),
        }
    }
}

/// Bytes of encoded [`Floors`].
pub const FLOORS: usize = 56;

/// One thing that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The tray: hello, this stage runs.
    Hello(Stage),
    /// The tray: still alive.
    Alive,
    /// The tray: this far.
    Post {
        /// What it is about to do; a stage's own numbers.
        code: u16,
        /// Milliseconds since the stage began.
        since: u32,
    },
    /// The tray: raise your floors to these.
    Raise(Floors),
    /// The tray: whether it will shut down as it was asked to.
    Shutting(bool),
    /// The tray: from here on silent; whether it is off then, or starts again.
    Leaving {
        /// It powers off.
        off: bool,
    },
    /// The controller: this is me.
    Identity(Identity),
    /// The controller: these are the floors.
    Floors(Floors),
    /// The controller: please shut down.
    Shutdown {
        /// Until power goes, in seconds.
        seconds: u16,
    },
    /// The controller: what came with that number is kept.
    Kept,
}

/// The body is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no message of the control link")
    }
}

impl core::error::Error for Unknown {}

impl Message {
    /// The frame that says so, under this number.
    ///
    /// # Errors
    /// None happens: the longest message has 60 bytes.
    pub fn encode(&self, number: u8) -> Result<OnLine, TooLong> {
        let say = |kind: u8, parts: [&[u8]; 4]| {
            serial::frame(&[&[kind, number], parts[0], parts[1], parts[2], parts[3]])
        };
        const NO: &[u8] = &[];
        match self {
            Self::Hello(stage) => {
                let stage = match stage {
                    Stage::Bootloader => 1,
                    Stage::Bootstrap => 2,
                    Stage::System => 3,
                };
                say(1, [&[stage], NO, NO, NO])
            }
            Self::Alive => say(2, [NO; 4]),
            Self::Post { code, since } => {
                say(3, [&code.to_le_bytes(), &since.to_le_bytes(), NO, NO])
            }
            Self::Raise(floors) => say(4, [&floors.encode(), NO, NO, NO]),
            Self::Shutting(will) => say(5, [&[u8::from(*will)], NO, NO, NO]),
            Self::Leaving { off } => say(6, [&[u8::from(*off)], NO, NO, NO]),
            Self::Identity(it) => say(
                129,
                [
                    &it.chip.to_le_bytes(),
                    &[it.slot],
                    &it.firmware.to_le_bytes(),
                    &it.root,
                ],
            ),
            Self::Floors(floors) => say(130, [&floors.encode(), NO, NO, NO]),
            Self::Shutdown { seconds } => say(131, [&seconds.to_le_bytes(), NO, NO, NO]),
            Self::Kept => say(132, [NO; 4]),
        }
    }

    /// The message with this body, and its number.
    ///
    /// # Errors
    /// [`Unknown`]; its sender is of another version, or this is no control link.
    // untrusted: link_messages
    pub fn decode(body: &[u8]) -> Result<(Self, u8), Unknown> {
        let (&[kind, number], payload) = body.split_first_chunk().ok_or(Unknown)?;
        let mut reader = Reader(payload);
        let message = reader.message(kind).ok_or(Unknown)?;
        // A payload that goes on says something that we do not understand.
        if !reader.0.is_empty() {
            return Err(Unknown);
        }
        Ok((message, number))
    }
}

impl Reader<'_> {
    fn message(&mut self, kind: u8) -> Option<Message> {
        Some(match kind {
            1 => Message::Hello(match self.u8()? {
                1 => Stage::Bootloader,
                2 => Stage::Bootstrap,
                3 => Stage::System,
                _ => return None,
            }),
            2 => Message::Alive,
            3 => Message::Post {
                code: self.u16()?,
                since: self.u32()?,
            },
            4 => Message::Raise(Floors::decode(&self.array()?)),
            5 => Message::Shutting(self.bool()?),
            6 => Message::Leaving { off: self.bool()? },
            129 => Message::Identity(Identity {
                chip: self.u64()?,
                slot: self.u8()?,
                firmware: self.u32()?,
                root: self.array()?,
            }),
            130 => Message::Floors(Floors::decode(&self.array()?)),
            131 => Message::Shutdown {
                seconds: self.u16()?,
            },
            132 => Message::Kept,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
