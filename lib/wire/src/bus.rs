// SPDX-License-Identifier: Apache-2.0
//! What is said on the backplane's bus: RS-485 at 3 Mbit/s, one pair for all, no echo. The rack's controller asks, the tray's
//! controller that it asked answers, nobody else speaks.
//!
//! A frame's body ([`crate::serial`]), numbers little-endian:
//!
//! ```text
//! to 1 | from 1 | kind and flags 1 | session 2 | sequence 1 | acknowledge 1 | length 1 | payload 0..=240
//! ```
//!
//! | kind | says | payload |
//! | --- | --- | --- |
//! | 1 ask | rack: who are you? | none |
//! | 2 hello | tray: this | [`Hello`] |
//! | 3 poll | rack: it is your turn | a piece of a packet, or none |
//! | 4 answer | tray: this is mine | a piece of a packet, or none |
//!
//! Packets (IPv6, at most [`PACKET`] bytes) go in pieces of 240 bytes, so that a turn has an end: what is between two turns of a tray
//! bounds how long a keystroke waits. `first` and `last` say where a packet begins and ends, `sequence` counts pieces, and
//! `acknowledge` is the last piece that was taken; a piece is repeated until it is acknowledged. `session` is another one after each
//! start of the sender: then both begin anew, and the packet that was under way is sent from its beginning.

use core::{fmt, time::Duration};

use crate::serial::{self, LONGEST_ON_LINE, OnLine, TooLong};

/// Bits per second on the line.
pub const BAUD: u32 = 3_000_000;
/// The least time between a frame's last bit and the next sender's first: the driver before has let go by then (within one bit time;
/// THVD1450's disable time is below that), and the next one's enable time is over.
pub const TURNAROUND: Duration = Duration::from_micros(10);
/// How long the rack's controller waits for an answer's first byte. A tray's controller answers out of an interrupt, and takes about 0.2 ms of
/// its 150 MHz for the CRCs of a longest question and a longest answer; whatever keeps
/// interrupts off for longer (an erase of its flash: 45 ms, at worst 400) costs it this turn, and the others nothing.
pub const ANSWER_WITHIN: Duration = Duration::from_micros(500);
/// How long a frame may take from its first byte to its last: the longest one, and a tenth for pauses of its sender.
pub const FRAME_WITHIN: Duration = time_on_line(LONGEST_ON_LINE * 11 / 10);
/// The largest packet, in bytes: the least that IPv6 asks of a link (RFC 8200, section 5).
pub const PACKET: usize = 1280;
/// The largest piece of a packet, in bytes.
pub const PIECE: usize = serial::LONGEST - HEAD - 1;
const HEAD: usize = 8;

/// How long so many bytes are on the line: ten bits each.
#[must_use]
pub const fn time_on_line(bytes: usize) -> Duration {
    Duration::from_nanos(bytes as u64 * 10 * 1_000_000_000 / BAUD as u64)
}

/// Who is on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Station {
    /// The rack's controller.
    Rack,
    /// The tray's in this slot, 1 to 5.
    Slot(Slot),
    /// A tray's controller on the bench: all straps open. Asked like a slot, never found in a rack.
    Bench,
}

/// A slot of the rack, 1 to 5 from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u8);

impl Slot {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// Slot number `number`; none where there is no such slot.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=5 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, from 1.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in a list of all, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Station {
    /// The station that the slot's straps name: 7 is none of them to ground. None for what no slot has.
    #[must_use]
    pub const fn of_straps(straps: u8) -> Option<Self> {
        match (straps, Slot::new(straps)) {
            (_, Some(slot)) => Some(Self::Slot(slot)),
            (7, None) => Some(Self::Bench),
            _ => None,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Rack => 0,
            Self::Slot(slot) => slot.0,
            Self::Bench => 7,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Rack),
            _ => Self::of_straps(byte),
        }
    }
}

/// A piece of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The packet begins here.
    pub first: bool,
    /// The packet ends here.
    pub last: bool,
    /// 1 to [`PIECE`] bytes.
    pub bytes: &'a [u8],
}

/// What a tray's controller says of itself when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The chip's own number, never two alike: RP2350 datasheet, 13.10 (OTP `CHIPID`), eight bytes.
    pub chip: u64,
    /// The version of the firmware that runs.
    pub firmware: u32,
    /// Whether its tray has power.
    pub powered: bool,
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Who are you?
    Ask,
    /// This.
    Hello(Hello),
    /// It is your turn, and here is a piece for you.
    Poll(Option<Piece<'a>>),
    /// This is mine.
    Answer(Option<Piece<'a>>),
}

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whom it is for.
    pub to: Station,
    /// Who says so.
    pub from: Station,
    /// The sender's session.
    pub session: u16,
    /// The number of the piece it carries; of the sender's last acknowledged one where it carries none.
    pub sequence: u8,
    /// The number of the last piece that the sender has taken; 0 before any.
    pub acknowledge: u8,
    /// What it says.
    pub content: Content<'a>,
}

/// Why a whole frame is not one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Its length is not the one that it states, or not one of its kind.
    Length,
    /// No station has that number.
    Station,
    /// No such kind, or flags that it has not.
    Kind,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a frame with another length than its kind has",
            Self::Station => "a frame of or for no station",
            Self::Kind => "a frame of an unknown kind",
        })
    }
}

impl core::error::Error for Unknown {}

const ASK: u8 = 1;
const HELLO: u8 = 2;
const POLL: u8 = 3;
const ANSWER: u8 = 4;
const FIRST: u8 = 0x10;
const LAST: u8 = 0x20;
const KIND: u8 = 0x0f;
const HELLO_LENGTH: usize = 13;

impl<'a> Frame<'a> {
    /// The frame as it goes on the line.
    ///
    /// # Errors
    /// [`TooLong`] when a piece is larger than [`PIECE`].
    pub fn encode(&self) -> Result<OnLine, TooLong> {
        let mut hello = [0; HELLO_LENGTH];
        let (kind, payload): (u8, &[u8]) = match self.content {
            Content::Ask => (ASK, &[]),
            Content::Hello(said) => {
                hello[..8].copy_from_slice(&said.chip.to_le_bytes());
                hello[8..12].copy_from_slice(&said.firmware.to_le_bytes());
                hello[12] = u8::from(said.powered);
                (HELLO, &hello)
            }
            Content::Poll(piece) => with_piece(POLL, piece),
            Content::Answer(piece) => with_piece(ANSWER, piece),
        };
        let length = u8::try_from(payload.len()).map_err(|_| TooLong)?;
        let [low, high] = self.session.to_le_bytes();
        let (to, from) = (self.to.byte(), self.from.byte());
        let head = [
            to,
            from,
            kind,
            low,
            high,
            self.sequence,
            self.acknowledge,
            length,
        ];
        if payload.len() > PIECE {
            return Err(TooLong);
        }
        serial::frame(&[&head, payload])
    }

    /// The frame with this body.
    ///
    /// # Errors
    /// [`Unknown`]; such a frame came whole and is still nothing to us.
    // untrusted: bus_frames
    pub fn decode(body: &'a [u8]) -> Result<Self, Unknown> {
        let (&[to, from, kind, low, high, sequence, acknowledge, length], payload) =
            body.split_first_chunk::<HEAD>().ok_or(Unknown::Length)?;
        if payload.len() != usize::from(length) || payload.len() > PIECE {
            return Err(Unknown::Length);
        }
        let flags = kind & !KIND;
        let piece = || match (payload, flags & !(FIRST | LAST)) {
            ([], 0) if flags == 0 => Ok(None),
            ([_, ..], 0) => Ok(Some(Piece {
                first: flags & FIRST != 0,
                last: flags & LAST != 0,
                bytes: payload,
            })),
            _ => Err(Unknown::Kind),
        };
        let content = match (kind & KIND, flags) {
            (ASK, 0) if payload.is_empty() => Content::Ask,
            (HELLO, 0) => Content::Hello(hello(payload)?),
            (POLL, _) => Content::Poll(piece()?),
            (ANSWER, _) => Content::Answer(piece()?),
            _ => return Err(Unknown::Kind),
        };
        Ok(Self {
            to: Station::of_byte(to).ok_or(Unknown::Station)?,
            from: Station::of_byte(from).ok_or(Unknown::Station)?,
            session: u16::from_le_bytes([low, high]),
            sequence,
            acknowledge,
            content,
        })
    }
}

fn with_piece(kind: u8, piece: Option<Piece<'_>>) -> (u8, &[u8]) {
    piece.map_or((kind, &[]), |piece| {
        let first = if piece.first { FIRST } else { 0 };
        let last = if piece.last { LAST } else { 0 };
        (kind | first | last, piece.bytes)
    })
}

fn hello(payload: &[u8]) -> Result<Hello, Unknown> {
    let payload: &[u8; HELLO_LENGTH] = payload.try_into().map_err(|_| Unknown::Length)?;
    let (chip, rest) = payload.split_first_chunk::<8>().ok_or(Unknown::Length)?;
    let (firmware, powered) = rest.split_first_chunk::<4>().ok_or(Unknown::Length)?;
    Ok(Hello {
        chip: u64::from_le_bytes(*chip),
        firmware: u32::from_le_bytes(*firmware),
        powered: match powered {
            [0] => false,
            [1] => true,
            _ => return Err(Unknown::Kind),
        },
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::serial::Receiver;

    fn sent(frame: &Frame<'_>) -> Vec<u8> {
        let mut receiver = Receiver::new();
        let line = frame.encode().unwrap();
        let bodies = line
            .iter()
            .find_map(|&byte| Some(receiver.take(byte)?.unwrap().to_vec()));
        bodies.unwrap()
    }

    fn frame(content: Content<'_>) -> Frame<'_> {
        Frame {
            to: Station::Slot(Slot::new(3).unwrap()),
            from: Station::Rack,
            session: 0x1234,
            sequence: 7,
            acknowledge: 255,
            content,
        }
    }

    #[test]
    fn the_longest_turn_is_below_a_millisecond() {
        let bytes = [0xa5; PIECE];
        let piece = Piece {
            first: true,
            last: false,
            bytes: &bytes,
        };
        let line = frame(Content::Poll(Some(piece))).encode().unwrap();
        assert_eq!(line.len(), LONGEST_ON_LINE - 1);
        assert!(time_on_line(line.len()) < Duration::from_micros(860));
        assert!(FRAME_WITHIN > time_on_line(LONGEST_ON_LINE));
        // One more byte is refused, not cut off.
        let bytes = [0xa5; PIECE + 1];
        let piece = Piece {
            first: true,
            last: false,
            bytes: &bytes,
        };
        assert_eq!(frame(Content::Poll(Some(piece))).encode(), Err(TooLong));
    }

    #[test]
    fn what_says_more_or_less_than_its_kind_is_refused() {
        let whole = sent(&frame(Content::Hello(Hello {
            chip: 1,
            firmware: 2,
            powered: true,
        })));
        assert!(Frame::decode(&whole).is_ok());
        for (at, byte, why) in [
            (0, 6, Unknown::Station),
            (1, 8, Unknown::Station),
            (2, 0, Unknown::Kind),
            (2, HELLO | FIRST, Unknown::Kind),
            (2, ASK, Unknown::Kind),
            (2, POLL | 0x80, Unknown::Kind),
            (7, 12, Unknown::Length),
            (20, 2, Unknown::Kind),
        ] {
            let mut other = whole.clone();
            other[at] = byte;
            assert_eq!(Frame::decode(&other), Err(why), "{at}: {byte}");
        }
        for length in 0..whole.len() {
            assert_eq!(Frame::decode(&whole[..length]), Err(Unknown::Length));
        }
        // An empty piece is none: it would be repeated for ever, and nobody could tell.
        let mut poll = sent(&frame(Content::Poll(None)));
        poll[2] |= FIRST;
        assert_eq!(Frame::decode(&poll), Err(Unknown::Kind));
    }

    #[test]
    fn straps_name_five_slots_and_the_bench() {
        let known = (0..=7).filter_map(Station::of_straps);
        let slots = Slot::ALL.map(Station::Slot);
        assert!(known.eq(slots.into_iter().chain([Station::Bench])));
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(to in 0..=5_u8, session: u16, sequence: u8, acknowledge: u8, first: bool, last: bool,
            bytes in proptest::collection::vec(any::<u8>(), 0..=PIECE), kind in 0..4, chip: u64, firmware: u32, powered: bool) {
            let piece = (!bytes.is_empty()).then_some(Piece { first, last, bytes: &bytes });
            let content = match kind {
                0 => Content::Ask,
                1 => Content::Hello(Hello { chip, firmware, powered }),
                2 => Content::Poll(piece),
                _ => Content::Answer(piece),
            };
            let to = Slot::new(to).map_or(Station::Rack, Station::Slot);
            let frame = Frame { to, from: Station::Bench, session, sequence, acknowledge, content };
            let body = sent(&frame);
            prop_assert_eq!(Frame::decode(&body), Ok(frame));
        }
    }
}
