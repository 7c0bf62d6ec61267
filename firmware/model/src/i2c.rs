// SPDX-License-Identifier: Apache-2.0
//! The parts on a controller's I2C bus as registers: pointer, values after reset, what is read only. What the world does to them is
//! set in volts, amperes, degrees and levels.

use std::collections::BTreeMap;

use racklet_boards::pins::Controller;
use racklet_firmware_core::parts::{I2c, NoAnswer};

/// An INA226 (SBOS547A).
#[derive(Debug, Clone)]
pub struct Ina226 {
    pointer: u8,
    configuration: u16,
    calibration: u16,
    mask: u16,
    limit: u16,
    /// At its bus pin, millivolts.
    pub millivolts: u32,
    /// Through the shunt, milliamperes.
    pub milliamperes: i32,
    /// The shunt, microohms.
    pub shunt: u32,
}

impl Ina226 {
    /// After a reset: 7.6, table 7-3.
    #[must_use]
    pub const fn new(shunt: u32) -> Self {
        Self {
            pointer: 0,
            configuration: 0x4127,
            calibration: 0,
            mask: 0,
            limit: 0,
            millivolts: 0,
            milliamperes: 0,
            shunt,
        }
    }

    fn read(&self) -> u16 {
        match self.pointer {
            0x00 => self.configuration,
            // Microohms by milliamperes are nanovolts; 2500 a step.
            0x01 => {
                let nanovolts = i64::from(self.milliamperes) * i64::from(self.shunt);
                let steps = (nanovolts / 2500).clamp(i16::MIN.into(), i16::MAX.into());
                i16::try_from(steps).expect("clamped").cast_unsigned()
            }
            0x02 => u16::try_from((self.millivolts * 100 / 125).min(0x7fff)).expect("bounded"),
            // Without a calibration both are 0 (7.5.1).
            0x03 | 0x04 => 0,
            0x05 => self.calibration,
            0x06 => self.mask,
            0x07 => self.limit,
            0xfe => 0x5449,
            0xff => 0x2260,
            _ => 0,
        }
    }

    fn write(&mut self, value: u16) {
        match self.pointer {
            // The highest bit resets the part.
            0x00 if value & 0x8000 != 0 => {
                let (millivolts, milliamperes) = (self.millivolts, self.milliamperes);
                *self = Self {
                    millivolts,
                    milliamperes,
                    ..Self::new(self.shunt)
                };
            }
            0x00 => self.configuration = value,
            0x05 => self.calibration = value,
            0x06 => self.mask = value,
            0x07 => self.limit = value,
            _ => {}
        }
    }
}

/// A TMP1075 (SBOS854).
#[derive(Debug, Clone, Default)]
pub struct Tmp1075 {
    pointer: u8,
    /// Where it stands, thousandths of a degree.
    pub thousandths: i32,
}

impl Tmp1075 {
    fn read(&self) -> u16 {
        match self.pointer {
            0x00 => {
                let steps = (self.thousandths * 16).div_euclid(1000).clamp(-2048, 2047);
                i16::try_from(steps * 16)
                    .expect("twelve bits")
                    .cast_unsigned()
            }
            0x01 => 0x00ff,
            0x02 => 0x4b00,
            0x03 => 0x5000,
            0x0f => 0x7500,
            _ => 0,
        }
    }
}

/// A TCA9555 (SCPS200).
#[derive(Debug, Clone)]
pub struct Tca9555 {
    pointer: u8,
    output: [u8; 2],
    polarity: [u8; 2],
    configuration: [u8; 2],
    /// What the world does to pins that are inputs.
    pub outside: [u8; 2],
}

impl Default for Tca9555 {
    fn default() -> Self {
        Self {
            pointer: 0,
            output: [0xff; 2],
            polarity: [0; 2],
            configuration: [0xff; 2],
            // Pulled up inside.
            outside: [0xff; 2],
        }
    }
}

impl Tca9555 {
    /// What is at the pins of a port.
    #[must_use]
    pub fn pins(&self, port: usize) -> u8 {
        let inputs = self.configuration[port];
        self.outside[port] & inputs | self.output[port] & !inputs
    }

    fn read(&self) -> u8 {
        let port = usize::from(self.pointer & 1);
        match self.pointer & 6 {
            0 => self.pins(port) ^ self.polarity[port],
            2 => self.output[port],
            4 => self.polarity[port],
            _ => self.configuration[port],
        }
    }

    fn write(&mut self, byte: u8) {
        let port = usize::from(self.pointer & 1);
        match self.pointer & 6 {
            0 => {}
            2 => self.output[port] = byte,
            4 => self.polarity[port] = byte,
            _ => self.configuration[port] = byte,
        }
    }
}

/// One part.
#[derive(Debug, Clone)]
pub enum Part {
    /// Voltage and current.
    Ina226(Ina226),
    /// Temperature.
    Tmp1075(Tmp1075),
    /// Inputs and outputs.
    Tca9555(Tca9555),
}

impl Part {
    fn write(&mut self, bytes: &[u8]) {
        let Some((&pointer, rest)) = bytes.split_first() else {
            return;
        };
        match self {
            Self::Ina226(part) => {
                part.pointer = pointer;
                if let [high, low] = *rest {
                    part.write(u16::from_be_bytes([high, low]));
                }
            }
            // Its limits and its configuration are not used here, and stay as after a reset.
            Self::Tmp1075(part) => part.pointer = pointer,
            Self::Tca9555(part) => {
                part.pointer = pointer & 7;
                for &byte in rest {
                    part.write(byte);
                    // 8.5.1: both registers of a pair in turn.
                    part.pointer ^= 1;
                }
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            let word = match self {
                Self::Ina226(part) => part.read(),
                Self::Tmp1075(part) => part.read(),
                Self::Tca9555(part) => {
                    *byte = part.read();
                    part.pointer ^= 1;
                    continue;
                }
            };
            *byte = word.to_be_bytes()[index % 2];
        }
    }
}

/// A bus with its parts.
#[derive(Debug, Clone, Default)]
pub struct Bus {
    parts: BTreeMap<u8, Part>,
}

impl Bus {
    /// The parts that a controller has on this bus, as `pins.toml` lists them. `shunt` in microohms.
    ///
    /// # Panics
    /// When a part is of a kind that has no model yet.
    #[must_use]
    pub fn of(controller: &Controller, number: u8, shunt: u32) -> Self {
        let buses = controller.i2c.iter().filter(|bus| bus.controller == number);
        let parts = buses.flat_map(|bus| bus.devices).map(|device| {
            let part = match device.kind {
                "INA226" => Part::Ina226(Ina226::new(shunt)),
                "TMP1075" => Part::Tmp1075(Tmp1075::default()),
                "TCA9555" => Part::Tca9555(Tca9555::default()),
                kind => panic!("no model of a {kind} ({})", device.purpose),
            };
            (device.address, part)
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// The part at an address, to be changed.
    pub fn part(&mut self, address: u8) -> Option<&mut Part> {
        self.parts.get_mut(&address)
    }

    /// Takes a part off the bus.
    pub fn remove(&mut self, address: u8) {
        self.parts.remove(&address);
    }
}

impl I2c for Bus {
    fn transfer(&mut self, address: u8, write: &[u8], read: &mut [u8]) -> Result<(), NoAnswer> {
        let part = self.parts.get_mut(&address).ok_or(NoAnswer)?;
        part.write(write);
        part.read(read);
        Ok(())
    }
}
