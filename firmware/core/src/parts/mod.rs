// SPDX-License-Identifier: Apache-2.0
//! The parts on the controllers' I2C buses, one file each: their registers as their data sheets have them, values in units. Which part is
//! where is `boards/controllers/*/pins.toml`; models of them for tests are in `firmware/model`.

use core::fmt;

use racklet_boards::pins::Controller;

pub mod ina226;
pub mod tca9555;
pub mod tmp1075;

/// An I2C bus: one transfer at a time, with an end even when a part holds the clock (10 ms; the longest transfer here is 5 bytes, 0.13 ms
/// at 400 kHz).
pub trait I2c {
    /// Writes to the part at the 7-bit `address`, then reads without letting the bus go.
    ///
    /// # Errors
    /// [`NoAnswer`].
    fn transfer(&mut self, address: u8, write: &[u8], read: &mut [u8]) -> Result<(), NoAnswer>;
}

impl<B: I2c + ?Sized> I2c for &mut B {
    fn transfer(&mut self, address: u8, write: &[u8], read: &mut [u8]) -> Result<(), NoAnswer> {
        (**self).transfer(address, write, read)
    }
}

/// No part acknowledged, or the bus was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer on the I2C bus")
    }
}

impl core::error::Error for NoAnswer {}

/// Why a part cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It does not answer.
    NoAnswer,
    /// Another part answers: it says so in its identification register.
    Other(u16),
}

impl From<NoAnswer> for Unusable {
    fn from(_: NoAnswer) -> Self {
        Self::NoAnswer
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => NoAnswer.fmt(f),
            Self::Other(found) => write!(f, "another part is there: it says {found:#06x}"),
        }
    }
}

impl core::error::Error for Unusable {}

/// The bus and the address of a part of this kind on a controller's board. Two of a kind on one board would need their purpose, too; no
/// board has that.
#[must_use]
pub fn find(controller: &Controller, kind: &str) -> Option<(u8, u8)> {
    controller.i2c.iter().find_map(|bus| {
        let device = bus.devices.iter().find(|device| device.kind == kind)?;
        Some((bus.controller, device.address))
    })
}

/// A register of 16 bits, high byte first.
fn read16(bus: &mut impl I2c, address: u8, register: u8) -> Result<u16, NoAnswer> {
    let mut bytes = [0; 2];
    bus.transfer(address, &[register], &mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn write16(bus: &mut impl I2c, address: u8, register: u8, value: u16) -> Result<(), NoAnswer> {
    let [high, low] = value.to_be_bytes();
    bus.transfer(address, &[register, high, low], &mut [])
}
