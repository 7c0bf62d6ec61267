// SPDX-License-Identifier: Apache-2.0
//! INA226, the shunt and bus voltage monitor (TI SBOS547A; sections below are its).
//!
//! Shunt voltage and bus voltage are read and multiplied here. The part's own current and power registers (7.5.1) would round to 1/32768
//! of the range first, and need a calibration that a reset of the part loses without a word; the raw registers do not.

use super::{I2c, NoAnswer, Unusable, read16, write16};

/// 7.6.1: averages of 16 (bits 9-11: 010), 1.1 ms for bus and shunt each (100), both for ever (111): 35 ms a result.
pub const CONFIGURATION: u16 = 0x4000 | 0b010 << 9 | 0b100 << 6 | 0b100 << 3 | 0b111;
/// How long a result takes, in microseconds: sampling faster reads the same again.
pub const CONVERSION: u32 = 16 * 2 * 1_100;
/// 7.6: the registers' numbers.
pub mod register {
    /// Configuration.
    pub const CONFIGURATION: u8 = 0x00;
    /// Shunt voltage, signed.
    pub const SHUNT: u8 = 0x01;
    /// Bus voltage.
    pub const BUS: u8 = 0x02;
    /// Who made it.
    pub const MANUFACTURER: u8 = 0xfe;
    /// Which chip.
    pub const DIE: u8 = 0xff;
}
/// 7.6.9: "TI".
pub const MANUFACTURER: u16 = 0x5449;
/// 7.6.10: 0x226 and a revision in the lowest four bits.
pub const DIE: u16 = 0x2260;
/// 7.6.3: microvolts at the bus a step, 1.25 mV.
const BUS_STEP: u32 = 1250;
/// 7.6.2: nanovolts at the shunt a step, 2.5 uV.
const SHUNT_STEP: i64 = 2500;

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Microvolts.
    pub bus: u32,
    /// Microamperes; below 0 towards the supply.
    pub current: i32,
    /// Microwatts.
    pub power: i64,
}

/// The part at an address, over a shunt.
#[derive(Debug, Clone, Copy)]
pub struct Ina226 {
    address: u8,
    /// Microohms.
    shunt: u32,
}

impl Ina226 {
    /// The tray's: 10 mohm (`kicad/src/circuits/bmc/input.rs`), so +-8.19 A.
    pub const TRAY_SHUNT: u32 = 10_000;
    /// The rack's: 5 mohm (`kicad/src/circuits/backplane/input.rs`), so +-16.38 A.
    pub const RACK_SHUNT: u32 = 5_000;

    /// `shunt` in microohms, not 0.
    #[must_use]
    pub const fn new(address: u8, shunt: u32) -> Self {
        Self {
            address,
            shunt: if shunt == 0 { 1 } else { shunt },
        }
    }

    /// Looks whether it is there, and sets it up.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn set_up(&self, bus: &mut impl I2c) -> Result<(), Unusable> {
        let maker = read16(bus, self.address, register::MANUFACTURER)?;
        let die = read16(bus, self.address, register::DIE)?;
        if maker != MANUFACTURER || die & 0xfff0 != DIE {
            return Err(Unusable::Other(die));
        }
        write16(bus, self.address, register::CONFIGURATION, CONFIGURATION)?;
        Ok(())
    }

    /// Reads it. A part that was reset under us (its supply dipped) has another configuration and is set up again: none for that time.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn read(&self, bus: &mut impl I2c) -> Result<Option<Reading>, NoAnswer> {
        if read16(bus, self.address, register::CONFIGURATION)? != CONFIGURATION {
            write16(bus, self.address, register::CONFIGURATION, CONFIGURATION)?;
            return Ok(None);
        }
        let shunt = read16(bus, self.address, register::SHUNT)?.cast_signed();
        let volts = read16(bus, self.address, register::BUS)?;
        Ok(Some(self.reading(shunt, volts)))
    }

    /// 7.6.2 and 7.6.3: steps of both registers as units.
    #[must_use]
    pub fn reading(&self, shunt: i16, bus: u16) -> Reading {
        // The highest bit of the bus voltage is always 0.
        let bus = u32::from(bus & 0x7fff) * BUS_STEP;
        // Nanovolts by microohms are milliamperes; a thousand times that, microamperes. Below 2^37.
        let microamperes = i64::from(shunt) * SHUNT_STEP * 1000 / i64::from(self.shunt);
        let current = i32::try_from(microamperes).unwrap_or(i32::MAX);
        Reading {
            bus,
            current,
            power: i64::from(bus) * i64::from(current) / 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_what_the_data_sheet_says() {
        let tray = Ina226::new(0x40, Ina226::TRAY_SHUNT);
        // 7.5.2's example has 11.98 V as 0x2570 and 20 mV as 0x1f40, there over 2 mohm.
        let reading = tray.reading(0x1f40, 0x2570);
        assert_eq!(reading.bus, 11_980_000);
        assert_eq!(reading.current, 2_000_000);
        assert_eq!(reading.power, 23_960_000);
        let other = Ina226::new(0x40, 2_000).reading(0x1f40, 0x2570);
        assert_eq!(other.current, 10_000_000);
        assert_eq!(other.power, 119_800_000);
    }

    #[test]
    fn current_back_into_the_supply_is_below_zero() {
        let tray = Ina226::new(0x40, Ina226::TRAY_SHUNT);
        let reading = tray.reading(-400, 0x2570);
        assert_eq!((reading.current, reading.power), (-100_000, -1_198_000));
        for shunt in [i16::MIN, i16::MAX] {
            let extreme = Ina226::new(0, 0).reading(shunt, 0xffff);
            assert_eq!(extreme.bus, 40_958_750);
        }
    }

    #[test]
    fn the_configuration_is_the_one_that_is_meant() {
        // 7.6.1: bit 14 always 1; AVG 16; 1.1 ms twice; continuous.
        assert_eq!(CONFIGURATION, 0x4527);
    }
}
