// SPDX-License-Identifier: Apache-2.0
//! A W25Q128JV, or a part of one: NOR, erased by the sector to ones, programmed by the page to zeros, and as slow as its data sheet allows.
//! Power can be cut in any operation, and then that one is half done.

use std::time::Duration;

use racklet_firmware_core::nor::{Failed, Flash, PAGE, SECTOR};

/// Table 9.6: the longest erase of a sector, and the longest program of a page.
pub const ERASE: Duration = Duration::from_millis(400);
/// As above.
pub const PROGRAM: Duration = Duration::from_millis(3);

/// The flash.
#[derive(Debug, Clone)]
pub struct Nor {
    bytes: Vec<u8>,
    erases: Vec<u32>,
    operations: u32,
    cut: Option<u32>,
    noise: u32,
    busy: Duration,
}

impl Nor {
    /// Erased, so many sectors.
    #[must_use]
    pub fn new(sectors: u32) -> Self {
        let sectors = usize::try_from(sectors).expect("some");
        Self {
            bytes: vec![0xff; sectors * SECTOR as usize],
            erases: vec![0; sectors],
            operations: 0,
            cut: None,
            noise: 1,
            busy: Duration::ZERO,
        }
    }

    /// Cuts power in the erase or program that comes after so many more; from there on nothing works until [`Self::power`]. `noise` decides
    /// how far that one got.
    pub const fn cut(&mut self, after: u32, noise: u32) {
        self.cut = Some(self.operations + after);
        self.noise = noise | 1;
    }

    /// Power is there again.
    pub const fn power(&mut self) {
        self.cut = None;
    }

    /// Erases and programs so far.
    #[must_use]
    pub const fn operations(&self) -> u32 {
        self.operations
    }

    /// For how long it was busy, by the longest times of its data sheet.
    #[must_use]
    pub const fn busy(&self) -> Duration {
        self.busy
    }

    /// The most erases that any sector had.
    #[must_use]
    pub fn wear(&self) -> u32 {
        self.erases.iter().copied().max().unwrap_or(0)
    }

    /// Flips a bit, as age does.
    pub fn rot(&mut self, bit: usize) {
        self.bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// Counts an operation; whether it is the one that is cut, or behind it.
    fn begin(&mut self) -> Result<bool, Failed> {
        let now = self.operations;
        self.operations += 1;
        match self.cut {
            Some(cut) if now > cut => Err(Failed),
            Some(cut) => Ok(now == cut),
            None => Ok(false),
        }
    }

    /// xorshift32.
    const fn random(&mut self) -> u32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise
    }
}

impl Flash for Nor {
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Failed> {
        if self.cut.is_some_and(|cut| self.operations > cut) {
            return Err(Failed);
        }
        let at = at as usize;
        let found = self.bytes.get(at..at + into.len()).ok_or(Failed)?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn erase(&mut self, at: u32) -> Result<(), Failed> {
        assert!(at.is_multiple_of(SECTOR), "a sector begins at {SECTOR}");
        let range = at as usize..(at + SECTOR) as usize;
        if range.end > self.bytes.len() {
            return Err(Failed);
        }
        let torn = self.begin()?;
        self.erases[(at / SECTOR) as usize] += 1;
        self.busy += ERASE;
        for index in range {
            // Half erased: some bits are ones already, others not yet.
            let done = if torn {
                self.random().to_le_bytes()[0]
            } else {
                0xff
            };
            self.bytes[index] |= done;
        }
        if torn { Err(Failed) } else { Ok(()) }
    }

    fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), Failed> {
        let end = at as usize + bytes.len();
        assert!(
            !bytes.is_empty()
                && at / PAGE == (at + u32::try_from(bytes.len()).expect("a page") - 1) / PAGE,
            "within a page: from {at}, {} bytes",
            bytes.len()
        );
        if end > self.bytes.len() {
            return Err(Failed);
        }
        let torn = self.begin()?;
        self.busy += PROGRAM;
        let whole = if torn {
            self.random() as usize % (bytes.len() + 1)
        } else {
            bytes.len()
        };
        for (offset, byte) in bytes.iter().enumerate() {
            let undone = match offset.cmp(&whole) {
                core::cmp::Ordering::Less => 0,
                core::cmp::Ordering::Equal => self.random().to_le_bytes()[0],
                core::cmp::Ordering::Greater => 0xff,
            };
            self.bytes[at as usize + offset] &= byte | undone;
        }
        if torn { Err(Failed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programming_only_clears_bits() {
        let mut flash = Nor::new(2);
        flash.program(0, &[0xf0]).unwrap();
        flash.program(0, &[0x3c]).unwrap();
        let mut byte = [0];
        flash.read(0, &mut byte).unwrap();
        assert_eq!(byte, [0x30]);
        flash.erase(0).unwrap();
        flash.read(0, &mut byte).unwrap();
        assert_eq!(
            (byte, flash.wear(), flash.busy()),
            ([0xff], 1, ERASE + PROGRAM * 2)
        );
    }

    #[test]
    #[should_panic(expected = "within a page")]
    fn a_program_over_a_page_s_end_is_a_mistake() {
        let _ = Nor::new(1).program(255, &[0, 0]);
    }

    #[test]
    fn behind_a_cut_nothing_works() {
        let mut flash = Nor::new(1);
        flash.cut(0, 3);
        assert_eq!(flash.program(0, &[0; 8]), Err(Failed));
        assert_eq!(flash.read(0, &mut [0]), Err(Failed));
        assert_eq!(flash.erase(0), Err(Failed));
        flash.power();
        assert_eq!(flash.erase(0), Ok(()));
    }
}
