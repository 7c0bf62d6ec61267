// SPDX-License-Identifier: Apache-2.0
//! Flash as the modules that keep something see it: NOR, W25Q128JV (its data sheet, sections 8.2.13 "Page Program" and 8.2.15 "Sector
//! Erase").
//!
//! Erasing makes a sector all ones, in 45 ms and at most 400; programming only clears bits, of one page, in 0.4 ms and at most 3. A part
//! takes 100,000 erases of a sector. Power may go within either: then the sector or page holds anything.

use core::fmt;

/// The smallest part that is erased at once, in bytes.
pub const SECTOR: u32 = 4096;
/// The largest part that is programmed at once, and that it may not cross, in bytes.
pub const PAGE: u32 = 256;

/// An operation did not come to its end; what it was about holds anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flash did not do it")
    }
}

impl core::error::Error for Failed {}

/// A part of a flash, from its own offset 0 on. Offsets and lengths outside of it are a mistake of the caller and fail.
pub trait Flash {
    /// Reads.
    ///
    /// # Errors
    /// [`Failed`].
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Failed>;

    /// Erases the sector that begins at `at`.
    ///
    /// # Errors
    /// [`Failed`].
    fn erase(&mut self, at: u32) -> Result<(), Failed>;

    /// Clears the bits that are 0 in `bytes`, within one page.
    ///
    /// # Errors
    /// [`Failed`].
    fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), Failed>;
}

impl<F: Flash + ?Sized> Flash for &mut F {
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Failed> {
        (**self).read(at, into)
    }

    fn erase(&mut self, at: u32) -> Result<(), Failed> {
        (**self).erase(at)
    }

    fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), Failed> {
        (**self).program(at, bytes)
    }
}
