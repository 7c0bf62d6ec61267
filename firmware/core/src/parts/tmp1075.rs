// SPDX-License-Identifier: Apache-2.0
//! TMP1075, the temperature sensor (TI SBOS854; sections below are its).

use super::{I2c, NoAnswer, Unusable, read16};

/// 8.6: the registers' numbers.
pub mod register {
    /// Temperature.
    pub const TEMPERATURE: u8 = 0x00;
    /// Who it is.
    pub const DEVICE: u8 = 0x0f;
}
/// 8.6.6: what the device register says.
pub const DEVICE: u16 = 0x7500;

/// The part at an address. As it is after its reset: continuous, a conversion each 27.5 ms (8.6.3).
#[derive(Debug, Clone, Copy)]
pub struct Tmp1075 {
    address: u8,
}

impl Tmp1075 {
    /// The part at this address.
    #[must_use]
    pub const fn new(address: u8) -> Self {
        Self { address }
    }

    /// Looks whether it is there.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn set_up(&self, bus: &mut impl I2c) -> Result<(), Unusable> {
        match read16(bus, self.address, register::DEVICE)? {
            DEVICE => Ok(()),
            other => Err(Unusable::Other(other)),
        }
    }

    /// Thousandths of a degree.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn read(&self, bus: &mut impl I2c) -> Result<i32, NoAnswer> {
        Ok(thousandths(read16(
            bus,
            self.address,
            register::TEMPERATURE,
        )?))
    }
}

/// 8.3.1: twelve bits from above, signed, a sixteenth of a degree a step.
#[must_use]
pub fn thousandths(register: u16) -> i32 {
    i32::from(register.cast_signed() >> 4) * 1000 / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_those_of_the_data_sheet_s_table() {
        for (register, expected) in [
            (0x7ff0, 127_937),
            (0x6400, 100_000),
            (0x5000, 80_000),
            (0x1900, 25_000),
            (0x0010, 62),
            (0x0000, 0),
            (0xfff0, -62),
            (0xe700, -25_000),
            (0x8000, -128_000),
        ] {
            assert_eq!(thousandths(register), expected, "{register:#06x}");
        }
    }
}
