// SPDX-License-Identifier: Apache-2.0
//! A controller's pins as frames, for emulated controllers: what its GPIOs, analogue inputs, pulses and I2C buses carry between the
//! emulated chip and the models of the boards (`firmware/model`). On silicon nothing of this exists.
//!
//! A frame's body ([`crate::serial`]), numbers little-endian, first byte the kind; below 128 the controller's, the others the world's:
//!
//! | kind | says | payload |
//! | --- | --- | --- |
//! | 1 | this output is high or low | GPIO 1, level 1 |
//! | 2 | this output pulses | GPIO 1, high for so many thousandths 2 |
//! | 3 | I2C: write these, then read so many | number 1, bus 1, address 1, to read 1, written 0..=32 |
//! | 129 | levels of the inputs | which 4, high 4 (bit n is GPIO n) |
//! | 130 | this analogue input is so high | GPIO 1, millivolts at the pin 2 |
//! | 131 | this input fell | GPIO 1, microseconds since the model's start 8 |
//! | 132 | I2C: done | number 1, acknowledged 1, read 0..=32 |

use core::fmt;

use crate::serial::{self, OnLine, TooLong};

/// The most bytes of one I2C transfer in one direction. The longest that the boards' parts have is 3; a display's lines are cut.
pub const TRANSFER: usize = 32;
/// GPIOs of the RP2350A.
pub const GPIOS: u8 = 30;

/// What is said about the pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// An output is high or low.
    Level {
        /// Which.
        gpio: u8,
        /// High.
        high: bool,
    },
    /// An output pulses.
    Pulses {
        /// Which.
        gpio: u8,
        /// How much of the time it is high, in thousandths.
        high: u16,
    },
    /// An I2C transfer.
    Transfer {
        /// The answer has the same.
        number: u8,
        /// Which of the controller's buses.
        bus: u8,
        /// The part's address, 7 bits.
        address: u8,
        /// How many bytes to read behind what is written.
        read: u8,
        /// What is written.
        written: &'a [u8],
    },
    /// Levels of inputs.
    Levels {
        /// Which of them this is about.
        which: u32,
        /// Which of those are high.
        high: u32,
    },
    /// Voltage at an analogue input.
    Analogue {
        /// Which.
        gpio: u8,
        /// In millivolts, at the pin, behind the board's divider.
        millivolts: u16,
    },
    /// An input went from high to low.
    Fell {
        /// Which.
        gpio: u8,
        /// Microseconds since the model's start.
        at: u64,
    },
    /// An I2C transfer's end.
    Transferred {
        /// The transfer's.
        number: u8,
        /// Whether a part answered to address and bytes.
        acknowledged: bool,
        /// What was read.
        read: &'a [u8],
    },
}

/// The body is none of these, or about a pin that the chip has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no message about pins")
    }
}

impl core::error::Error for Unknown {}

impl<'a> Message<'a> {
    /// The frame that says so.
    ///
    /// # Errors
    /// [`TooLong`] where a transfer has more than [`TRANSFER`] bytes.
    pub fn encode(&self) -> Result<OnLine, TooLong> {
        match *self {
            Self::Level { gpio, high } => serial::frame(&[&[1, gpio, u8::from(high)]]),
            Self::Pulses { gpio, high } => serial::frame(&[&[2, gpio], &high.to_le_bytes()]),
            Self::Transfer {
                number,
                bus,
                address,
                read,
                written,
            } => bounded(written, &[3, number, bus, address, read]),
            Self::Levels { which, high } => {
                serial::frame(&[&[129], &which.to_le_bytes(), &high.to_le_bytes()])
            }
            Self::Analogue { gpio, millivolts } => {
                serial::frame(&[&[130, gpio], &millivolts.to_le_bytes()])
            }
            Self::Fell { gpio, at } => serial::frame(&[&[131, gpio], &at.to_le_bytes()]),
            Self::Transferred {
                number,
                acknowledged,
                read,
            } => bounded(read, &[132, number, u8::from(acknowledged)]),
        }
    }

    /// The message with this body.
    ///
    /// # Errors
    /// [`Unknown`].
    // untrusted: pins_messages
    pub fn decode(body: &'a [u8]) -> Result<Self, Unknown> {
        let message = match *body {
            [1, gpio, high @ 0..=1] => Self::Level {
                gpio,
                high: high == 1,
            },
            [2, gpio, low, high] => Self::Pulses {
                gpio,
                high: u16::from_le_bytes([low, high]),
            },
            [3, number, bus, address, read, ref written @ ..] => Self::Transfer {
                number,
                bus,
                address,
                read,
                written,
            },
            [129, a, b, c, d, e, f, g, h] => Self::Levels {
                which: u32::from_le_bytes([a, b, c, d]),
                high: u32::from_le_bytes([e, f, g, h]),
            },
            [130, gpio, low, high] => Self::Analogue {
                gpio,
                millivolts: u16::from_le_bytes([low, high]),
            },
            [131, gpio, a, b, c, d, e, f, g, h] => Self::Fell {
                gpio,
                at: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            },
            [132, number, acknowledged @ 0..=1, ref read @ ..] => Self::Transferred {
                number,
                acknowledged: acknowledged == 1,
                read,
            },
            _ => return Err(Unknown),
        };
        message.possible().then_some(message).ok_or(Unknown)
    }

    /// Whether the chip has such a pin, a bus such an address, and a transfer such a length.
    const fn possible(&self) -> bool {
        match *self {
            Self::Level { gpio, .. } | Self::Analogue { gpio, .. } | Self::Fell { gpio, .. } => {
                gpio < GPIOS
            }
            Self::Pulses { gpio, high } => gpio < GPIOS && high <= 1000,
            Self::Transfer {
                bus,
                address,
                read,
                written,
                ..
            } => {
                bus < 2 && address < 0x80 && read as usize <= TRANSFER && written.len() <= TRANSFER
            }
            Self::Levels { which, high } => which < 1 << GPIOS && high & !which == 0,
            Self::Transferred { read, .. } => read.len() <= TRANSFER,
        }
    }
}

fn bounded(bytes: &[u8], head: &[u8]) -> Result<OnLine, TooLong> {
    if bytes.len() > TRANSFER {
        return Err(TooLong);
    }
    serial::frame(&[head, bytes])
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::serial::Receiver;

    fn body(message: &Message<'_>) -> Vec<u8> {
        let mut receiver = Receiver::new();
        let line = message.encode().unwrap();
        let body = line
            .iter()
            .find_map(|&byte| Some(receiver.take(byte)?.unwrap().to_vec()));
        body.unwrap()
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were(kind in 0..7, gpio in 0..GPIOS, high: bool, thousandths in 0..=1000_u16, number: u8, bus in 0..2_u8,
            address in 0..0x80_u8, read in 0..=32_u8, bytes in proptest::collection::vec(any::<u8>(), 0..=TRANSFER), which in 0..1_u32 << GPIOS,
            high_ones: u32, millivolts: u16, at: u64) {
            let message = match kind {
                0 => Message::Level { gpio, high },
                1 => Message::Pulses { gpio, high: thousandths },
                2 => Message::Transfer { number, bus, address, read, written: &bytes },
                3 => Message::Levels { which, high: which & high_ones },
                4 => Message::Analogue { gpio, millivolts },
                5 => Message::Fell { gpio, at },
                _ => Message::Transferred { number, acknowledged: high, read: &bytes },
            };
            let body = body(&message);
            prop_assert_eq!(Message::decode(&body), Ok(message));
        }
    }

    #[test]
    fn pins_and_transfers_that_no_chip_has_are_refused() {
        for message in [
            Message::Level {
                gpio: GPIOS,
                high: true,
            },
            Message::Pulses {
                gpio: 0,
                high: 1001,
            },
            Message::Transfer {
                number: 0,
                bus: 2,
                address: 0x40,
                read: 0,
                written: &[],
            },
            Message::Transfer {
                number: 0,
                bus: 0,
                address: 0x80,
                read: 0,
                written: &[],
            },
            Message::Transfer {
                number: 0,
                bus: 0,
                address: 0x40,
                read: 33,
                written: &[],
            },
            Message::Levels { which: 1, high: 2 },
        ] {
            assert_eq!(
                Message::decode(&body(&message)),
                Err(Unknown),
                "{message:?}"
            );
        }
        let long = Message::Transferred {
            number: 0,
            acknowledged: true,
            read: &[0; 33],
        };
        assert_eq!(long.encode(), Err(TooLong));
        assert_eq!(Message::decode(&[1, 3, 2]), Err(Unknown));
        assert_eq!(Message::decode(&[]), Err(Unknown));
    }
}
