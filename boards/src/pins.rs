// SPDX-License-Identifier: Apache-2.0
//! Which net and function each GPIO of a controller has: constants made from `boards/controllers/*/pins.toml` when this crate is
//! built, one module per folder.
//!
//! The circuits take the nets of their controller from here, and the firmware its pins, so the two cannot disagree. What
//! the chip cannot do, such as a UART on the wrong GPIO, is refused by constant evaluation: the build fails.
//! Everything here is `core` only, for the firmware's sake.

/// What a GPIO is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Read by software.
    Input,
    /// Driven by software.
    Output,
    /// A state machine of the programmable I/O; any GPIO.
    Pio,
    /// An analogue input.
    Adc,
    /// Pulse width from the slice and channel that belong to the GPIO.
    Pwm,
    /// Transmitter of a UART.
    UartTx(u8),
    /// Receiver of a UART.
    UartRx(u8),
    /// Data of an I2C controller.
    I2cSda(u8),
    /// Clock of an I2C controller.
    I2cScl(u8),
    /// Receive data of an SPI controller.
    SpiRx(u8),
    /// Chip select of an SPI controller, in hardware.
    SpiCs(u8),
    /// Clock of an SPI controller.
    SpiSck(u8),
    /// Transmit data of an SPI controller.
    SpiTx(u8),
}

/// One GPIO in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The GPIO's number.
    pub gpio: u8,
    /// The net in the schematic.
    pub net: &'static str,
    /// What it is used for.
    pub function: Function,
}

/// One part on an I2C bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its designator in the schematic.
    pub part: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// Its address, 7 bits.
    pub address: u8,
    /// What it is there for.
    pub purpose: &'static str,
}

/// One I2C bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct I2c {
    /// The number of the controller.
    pub controller: u8,
    /// The parts on it.
    pub devices: &'static [Device],
}

/// A controller and what its GPIOs are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controller {
    /// The folder in `boards/controllers/`.
    pub board: &'static str,
    /// The chip.
    pub chip: &'static str,
    /// Its designator in the schematic.
    pub part: &'static str,
    /// The GPIOs in use.
    pub pins: &'static [Pin],
    /// The I2C buses.
    pub i2c: &'static [I2c],
}

include!(concat!(env!("OUT_DIR"), "/pins.rs"));

impl Controller {
    /// The net of a GPIO in use.
    #[must_use]
    pub fn net(&self, gpio: u8) -> Option<&'static str> {
        self.pins
            .iter()
            .find(|pin| pin.gpio == gpio)
            .map(|pin| pin.net)
    }

    /// The pin with that function.
    #[must_use]
    pub fn with(&self, function: Function) -> Option<&'static Pin> {
        self.pins.iter().find(|pin| pin.function == function)
    }

    /// Refuses what the chip cannot do. Meant for constants, where a panic is an error of the build.
    const fn checked(self) -> Self {
        let mut used = [false; GPIOS as usize];
        let mut index = 0;
        while index < self.pins.len() {
            let pin = self.pins[index];
            assert!(pin.gpio < GPIOS, "the RP2350A has no such GPIO");
            assert!(!used[pin.gpio as usize], "a GPIO is used twice");
            used[pin.gpio as usize] = true;
            assert!(
                possible(pin.gpio, pin.function),
                "the RP2350A has that function on other GPIOs"
            );
            let mut earlier = 0;
            while earlier < index {
                assert!(
                    !same_peripheral(self.pins[earlier].function, pin.function),
                    "a signal of a peripheral is on two GPIOs"
                );
                assert!(
                    !same_pulse(self.pins[earlier], pin),
                    "two GPIOs share one channel of the pulse width unit"
                );
                earlier += 1;
            }
            index += 1;
        }
        let mut bus = 0;
        while bus < self.i2c.len() {
            let controller = self.i2c[bus].controller;
            assert!(
                self.has(Function::I2cSda(controller)) && self.has(Function::I2cScl(controller)),
                "an I2C bus lacks its data or clock"
            );
            bus += 1;
        }
        self
    }

    const fn has(&self, function: Function) -> bool {
        let mut index = 0;
        while index < self.pins.len() {
            if same_peripheral(self.pins[index].function, function) {
                return true;
            }
            index += 1;
        }
        false
    }
}

/// GPIOs of the RP2350 in its small package (QFN-60).
const GPIOS: u8 = 30;

/// Whether the RP2350A offers the function on the GPIO: RP2350 datasheet, section 9.4, "GPIO functions (Bank 0)", columns
/// F1 to F4 and, for UARTs, also F11.
#[must_use]
pub const fn possible(gpio: u8, function: Function) -> bool {
    // UARTs, I2C and SPI repeat in a pattern of four signals; the instance alternates by 4, 2 and 8 GPIOs.
    let signal = gpio % 4;
    let uart = (gpio + 4) / 8 % 2;
    let i2c = gpio / 2 % 2;
    let spi = gpio / 8 % 2;
    match function {
        Function::Input | Function::Output | Function::Pio | Function::Pwm => gpio < GPIOS,
        Function::Adc => gpio >= 26 && gpio < GPIOS,
        // F2 has TX on 0 mod 4 and RX on 1 mod 4; F11 the same UART's again on 2 and 3 mod 4, in place of CTS and RTS.
        Function::UartTx(instance) => (signal == 0 || signal == 2) && uart == instance,
        Function::UartRx(instance) => (signal == 1 || signal == 3) && uart == instance,
        Function::I2cSda(instance) => gpio.is_multiple_of(2) && i2c == instance,
        Function::I2cScl(instance) => !gpio.is_multiple_of(2) && i2c == instance,
        Function::SpiRx(instance) => signal == 0 && spi == instance,
        Function::SpiCs(instance) => signal == 1 && spi == instance,
        Function::SpiSck(instance) => signal == 2 && spi == instance,
        Function::SpiTx(instance) => signal == 3 && spi == instance,
    }
}

/// Whether both are the same signal of the same peripheral, of which there is only one.
const fn same_peripheral(one: Function, other: Function) -> bool {
    match (one, other) {
        (Function::UartTx(a), Function::UartTx(b))
        | (Function::UartRx(a), Function::UartRx(b))
        | (Function::I2cSda(a), Function::I2cSda(b))
        | (Function::I2cScl(a), Function::I2cScl(b))
        | (Function::SpiRx(a), Function::SpiRx(b))
        | (Function::SpiCs(a), Function::SpiCs(b))
        | (Function::SpiSck(a), Function::SpiSck(b))
        | (Function::SpiTx(a), Function::SpiTx(b)) => a == b,
        _ => false,
    }
}

/// Whether both take their pulses from the same channel of the same slice: those of the RP2350A repeat every 16 GPIOs.
const fn same_pulse(one: Pin, other: Pin) -> bool {
    matches!(one.function, Function::Pwm)
        && matches!(other.function, Function::Pwm)
        && one.gpio % 16 == other.gpio % 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_where_the_datasheet_has_them() {
        // Rows of the table copied from the datasheet: GPIO, UART (F2), I2C (F3), SPI (F1).
        for (gpio, functions) in [
            (
                0,
                [Function::SpiRx(0), Function::UartTx(0), Function::I2cSda(0)],
            ),
            (
                5,
                [Function::SpiCs(0), Function::UartRx(1), Function::I2cScl(0)],
            ),
            (
                8,
                [Function::SpiRx(1), Function::UartTx(1), Function::I2cSda(0)],
            ),
            (
                13,
                [Function::SpiCs(1), Function::UartRx(0), Function::I2cScl(0)],
            ),
            (
                16,
                [Function::SpiRx(0), Function::UartTx(0), Function::I2cSda(0)],
            ),
            (
                21,
                [Function::SpiCs(0), Function::UartRx(1), Function::I2cScl(0)],
            ),
            (
                24,
                [Function::SpiRx(1), Function::UartTx(1), Function::I2cSda(0)],
            ),
            (
                28,
                [Function::SpiRx(1), Function::UartTx(0), Function::I2cSda(0)],
            ),
        ] {
            for function in functions {
                assert!(possible(gpio, function), "GPIO{gpio} {function:?}");
            }
        }
        assert!(possible(2, Function::I2cSda(1)) && possible(3, Function::I2cScl(1)));
        assert!(possible(18, Function::SpiSck(0)) && possible(19, Function::SpiTx(0)));
        assert!(possible(6, Function::UartTx(1)) && possible(14, Function::UartTx(0)));
        for (gpio, function) in [
            (0, Function::UartRx(0)),
            (0, Function::UartTx(1)),
            (4, Function::UartTx(0)),
            (2, Function::I2cSda(0)),
            (25, Function::Adc),
            (12, Function::SpiRx(0)),
        ] {
            assert!(!possible(gpio, function), "GPIO{gpio} {function:?}");
        }
    }

    fn controller(pins: &'static [Pin]) -> Controller {
        Controller {
            board: "a",
            chip: "RP2350A",
            part: "U1",
            pins,
            i2c: &[],
        }
    }

    const fn pin(gpio: u8, function: Function) -> Pin {
        Pin {
            gpio,
            net: "A",
            function,
        }
    }

    #[test]
    #[should_panic(expected = "other GPIOs")]
    fn a_function_that_the_chip_has_elsewhere_is_refused() {
        controller(const { &[pin(4, Function::UartTx(0))] }).checked();
    }

    #[test]
    #[should_panic(expected = "used twice")]
    fn a_gpio_used_twice_is_refused() {
        controller(const { &[pin(4, Function::Input), pin(4, Function::Output)] }).checked();
    }

    #[test]
    #[should_panic(expected = "on two GPIOs")]
    fn a_transmitter_on_two_gpios_is_refused() {
        controller(const { &[pin(0, Function::UartTx(0)), pin(12, Function::UartTx(0))] })
            .checked();
    }

    #[test]
    #[should_panic(expected = "share one channel")]
    fn two_pulses_from_one_channel_are_refused() {
        controller(const { &[pin(2, Function::Pwm), pin(18, Function::Pwm)] }).checked();
    }

    #[test]
    fn every_controller_s_nets_have_their_own_names() {
        assert!(ALL.iter().any(|found| found.board == "rp2350-bmc"));
        for controller in ALL {
            let mut nets: Vec<_> = controller.pins.iter().map(|pin| pin.net).collect();
            nets.sort_unstable();
            let count = nets.len();
            nets.dedup();
            assert_eq!(nets.len(), count, "{}", controller.board);
        }
    }
}
