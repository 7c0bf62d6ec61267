// SPDX-License-Identifier: Apache-2.0
//! Frames on a line that loses and damages bytes: the backplane's bus, the control link, the emulator's pins.
//!
//! ```text
//! ff | 00 | body and its CRC-32 (little-endian), stuffed so that no byte is 0 | 00
//! ```
//!
//! - `ff` is a preamble that nobody looks at: one start bit, then nine bits at rest. A receiver that woke up in the middle of
//!   something, or a driver whose first edge got lost, is in step again before the next byte ([esp-idf 12568] is what happens without).
//! - `00` stands only at a frame's ends, so whatever is damaged, the next frame is found. A frame whose end was damaged takes the next
//!   frame's beginning for its own end, is refused for its CRC, and the next one is read all the same.
//! - Stuffing is COBS (Cheshire and Baker, 1999) in its shortest form: a body of at most [`LONGEST`] bytes needs exactly one more byte.
//! - The CRC is the one of Ethernet (reflected 0x04C11DB7): up to [`LONGEST`] bytes it finds every burst of up to 32 bits and every
//!   three flipped bits; of the rest one in 2^32 passes.
//!
//! [esp-idf 12568]: https://github.com/espressif/esp-idf/issues/12568

use core::fmt;

use crate::bytes::Bytes;

/// The longest body, in bytes: with its CRC one block of COBS (254 less one, so that the block's code is never 255).
pub const LONGEST: usize = 249;
/// What a frame takes on the line besides its body, in bytes: preamble, beginning, code, CRC, end.
pub const OVERHEAD: usize = 8;
/// The longest frame on the line, in bytes.
pub const LONGEST_ON_LINE: usize = LONGEST + OVERHEAD;
/// Body and CRC.
const BLOCK: usize = LONGEST + 4;
const PREAMBLE: u8 = 0xff;
const END: u8 = 0;

/// A frame, ready to be sent.
pub type OnLine = Bytes<LONGEST_ON_LINE>;

/// CRC-32 as Ethernet has it. Four bits a step with a table of 64 bytes: 16 KiB of tables, as faster ones have, are worth more on a
/// controller, and at 3 Mbit/s this takes about one instruction in twenty of a core of 150 MHz.
#[must_use]
pub fn crc32<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16_u32 {
            let mut value = index;
            let mut bit = 0;
            while bit < 4 {
                value = (value >> 1) ^ (0xedb8_8320 & (value & 1).wrapping_neg());
                bit += 1;
            }
            table[index as usize] = value;
            index += 1;
        }
        table
    };
    let step = |crc: u32, nibble: u32| (crc >> 4) ^ TABLE[((crc ^ nibble) & 15) as usize];
    !bytes.into_iter().fold(!0, |crc, &byte| {
        step(step(crc, u32::from(byte)), u32::from(byte >> 4))
    })
}

/// The body is longer than [`LONGEST`], or than what the protocol above allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too long for one frame")
    }
}

impl core::error::Error for TooLong {}

/// The frame around a body, which is given in parts.
///
/// # Errors
/// [`TooLong`] when the parts are more than [`LONGEST`] bytes together.
pub fn frame(parts: &[&[u8]]) -> Result<OnLine, TooLong> {
    let mut block = Bytes::<BLOCK>::new();
    for part in parts {
        block.extend(part).map_err(|_| TooLong)?;
    }
    if block.len() > LONGEST {
        return Err(TooLong);
    }
    let crc = crc32(&*block).to_le_bytes();
    block.extend(&crc).map_err(|_| TooLong)?;
    let mut line = OnLine::new();
    let mut add = |bytes: &[u8]| line.extend(bytes).map_err(|_| TooLong);
    add(&[PREAMBLE, END])?;
    for run in block.split(|&byte| byte == 0) {
        // At most 253 bytes and the one that stands for the zero behind them.
        let code = u8::try_from(run.len() + 1).map_err(|_| TooLong)?;
        add(&[code])?;
        add(run)?;
    }
    add(&[END])?;
    Ok(line)
}

/// What came between two ends and is no frame. All of them are counted and none is answered: whoever sent it asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damaged {
    /// Longer than any frame.
    TooLong,
    /// The stuffing leads behind its end.
    Stuffing,
    /// The CRC is another one.
    Crc,
}

/// Finds frames among the bytes of a line. Keeps one frame, whatever comes.
#[derive(Debug, Clone)]
pub struct Receiver {
    kept: [u8; BLOCK + 1],
    length: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until the next 0 nothing is of interest.
    Between,
    /// Behind a 0.
    Inside,
    /// Behind a 0 and more bytes than a frame has; told at its end.
    Overlong,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// One that has heard nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            kept: [0; BLOCK + 1],
            length: 0,
            state: State::Between,
        }
    }

    /// Takes the next byte. With a frame's last one it gives the body, or what was wrong with it.
    // untrusted: serial_frames
    pub fn take(&mut self, byte: u8) -> Option<Result<&[u8], Damaged>> {
        if byte != END {
            if self.state == State::Inside {
                match self.kept.get_mut(self.length) {
                    Some(place) => {
                        *place = byte;
                        self.length += 1;
                    }
                    None => self.state = State::Overlong,
                }
            }
            return None;
        }
        let was = core::mem::replace(&mut self.state, State::Inside);
        let length = core::mem::take(&mut self.length);
        match was {
            State::Overlong => Some(Err(Damaged::TooLong)),
            // Two ends in a row, or a frame's preamble behind the end of a damaged one: nobody's frame.
            State::Between | State::Inside if length <= 1 => None,
            State::Between | State::Inside => match unstuff(&mut self.kept[..length]) {
                Ok(body) => {
                    self.state = State::Between;
                    Some(Ok(body))
                }
                Err(damaged) => Some(Err(damaged)),
            },
        }
    }

    /// Forgets what is not whole: the line was quiet for longer than any frame has pauses.
    pub fn reset(&mut self) {
        self.length = 0;
        self.state = State::Between;
    }
}

/// Undoes the stuffing in place and compares the CRC.
fn unstuff(bytes: &mut [u8]) -> Result<&[u8], Damaged> {
    let mut at = 0;
    while at < bytes.len() {
        let next = at + usize::from(bytes[at]);
        if next > bytes.len() {
            return Err(Damaged::Stuffing);
        }
        bytes[at] = 0;
        at = next;
    }
    // The first code stands for no zero of the block.
    let block = bytes.get(1..).ok_or(Damaged::Stuffing)?;
    let (body, crc) = block.split_last_chunk::<4>().ok_or(Damaged::Crc)?;
    if crc32(body) != u32::from_le_bytes(*crc) {
        return Err(Damaged::Crc);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn heard(receiver: &mut Receiver, line: &[u8]) -> Vec<Result<Vec<u8>, Damaged>> {
        let taken = line.iter().filter_map(|&byte| {
            let found = receiver.take(byte)?;
            Some(found.map(<[u8]>::to_vec))
        });
        taken.collect()
    }

    #[test]
    fn the_crc_is_the_one_of_ethernet() {
        // The check value of every list of CRCs.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_frame_is_its_body_and_eight_bytes() {
        for length in [0, 1, 100, LONGEST] {
            for byte in [0, 1, 0xff] {
                let body = vec![byte; length];
                let line = frame(&[&body]).unwrap();
                assert_eq!(line.len(), length + OVERHEAD);
                assert_eq!(heard(&mut Receiver::new(), &line), [Ok(body)]);
            }
        }
        assert_eq!(frame(&[&[1; LONGEST + 1]]), Err(TooLong));
        assert_eq!(frame(&[&[1; LONGEST], &[1; 300]]), Err(TooLong));
    }

    #[test]
    fn whatever_was_on_the_line_before_the_second_frame_is_heard() {
        let (first, second) = (frame(&[b"first"]).unwrap(), frame(&[b"second"]).unwrap());
        for damaged in 0..first.len() {
            for byte in [0, 0x55, 0xff] {
                let mut line = first.to_vec();
                line[damaged] = byte;
                line.extend_from_slice(&second);
                let heard = heard(&mut Receiver::new(), &line);
                assert_eq!(heard.last(), Some(&Ok(b"second".to_vec())), "{line:02x?}");
            }
        }
    }

    #[test]
    fn noise_without_end_is_told_once_and_kept_nowhere() {
        let mut receiver = Receiver::new();
        assert_eq!(heard(&mut receiver, &[0]), []);
        assert_eq!(heard(&mut receiver, &vec![0x42; 100_000]), []);
        assert_eq!(heard(&mut receiver, &[0]), [Err(Damaged::TooLong)]);
        let line = frame(&[b"after"]).unwrap();
        assert_eq!(heard(&mut receiver, &line), [Ok(b"after".to_vec())]);
    }

    proptest! {
        #[test]
        fn bodies_come_out_as_they_went_in(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=LONGEST), 1..5)) {
            let mut line = Vec::new();
            for body in &bodies {
                line.extend_from_slice(&frame(&[body]).unwrap());
            }
            let heard = heard(&mut Receiver::new(), &line);
            prop_assert_eq!(heard, bodies.into_iter().map(Ok).collect::<Vec<_>>());
        }

        #[test]
        fn a_frame_with_flipped_bits_is_never_taken_for_another(
            body in proptest::collection::vec(any::<u8>(), 0..=LONGEST),
            flips in proptest::collection::vec(any::<proptest::sample::Index>(), 1..4),
        ) {
            let mut line = frame(&[&body]).unwrap().to_vec();
            for flip in flips {
                let bit = flip.index(line.len() * 8);
                line[bit / 8] ^= 1 << (bit % 8);
            }
            for found in heard(&mut Receiver::new(), &line) {
                prop_assert!(found.is_err() || found == Ok(body.clone()));
            }
        }
    }
}
