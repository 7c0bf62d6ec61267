// SPDX-License-Identifier: Apache-2.0
//! TCA9555, sixteen more inputs and outputs (TI SCPS200; sections below are its): on the backplane port 0 has the slots' presence
//! contacts, low for a tray that is in, and port 1 their lights, low for lit.

use super::{I2c, NoAnswer};

/// 8.6.2, table 8-4: command bytes; each is a pair of registers, port 0 and port 1, read and written one after the other.
pub mod register {
    /// What is at the pins.
    pub const INPUT: u8 = 0;
    /// What outputs say.
    pub const OUTPUT: u8 = 2;
    /// 1 for an input.
    pub const CONFIGURATION: u8 = 6;
}

/// Port 1's pins that have lights.
const LIGHTS: u8 = 0b1_1111;

/// The part at an address.
#[derive(Debug, Clone, Copy)]
pub struct Tca9555 {
    address: u8,
}

impl Tca9555 {
    /// The part at this address.
    #[must_use]
    pub const fn new(address: u8) -> Self {
        Self { address }
    }

    /// Sets all lights, bit n for slot n + 1, and makes outputs of them. Outputs first: after a reset all pins are inputs, and a light
    /// does not flash up between. Each time is the same, so that a part whose supply dipped is back with the next call.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn lights(&self, bus: &mut impl I2c, lit: u8) -> Result<(), NoAnswer> {
        let write = |bus: &mut _, register, port: u8| {
            // Port 0 is written as it is after a reset: all ones, all inputs.
            I2c::transfer(bus, self.address, &[register, 0xff, port], &mut [])
        };
        write(bus, register::OUTPUT, !(lit & LIGHTS))?;
        write(bus, register::CONFIGURATION, !LIGHTS)
    }

    /// Which slots have a tray, bit n for slot n + 1.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn present(&self, bus: &mut impl I2c) -> Result<u8, NoAnswer> {
        let mut port = [0; 1];
        bus.transfer(self.address, &[register::INPUT], &mut port)?;
        Ok(!port[0] & 0b1_1111)
    }
}
