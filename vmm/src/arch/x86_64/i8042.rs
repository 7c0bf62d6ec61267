// SPDX-License-Identifier: Apache-2.0
//! The keyboard controller, as far as Linux needs it: it answers, has no keyboard, and resets the machine.
//!
//! A controller that never answers costs a guest half a second of polling at boot; that is why the commands of the
//! probe are here.

use super::state::I8042State;

const OUTPUT_FULL: u8 = 1;
const SYSTEM: u8 = 4;

/// The controller at ports 0x60 and 0x64.
#[derive(Debug)]
pub(super) struct I8042 {
    output: Option<u8>,
    configuration: u8,
    /// A command that takes its operand from the next write to port 0x60.
    pending: Option<u8>,
}

/// What a write asks of the machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The machine goes on.
    None,
    /// The processor's reset line was pulsed.
    Reset,
}

impl Default for I8042 {
    fn default() -> Self {
        // Both ports disabled, system flag set: what firmware leaves without devices.
        I8042 {
            output: None,
            configuration: 0x34,
            pending: None,
        }
    }
}

impl I8042 {
    pub(super) fn save(&self) -> I8042State {
        I8042State {
            output: self.output,
            configuration: self.configuration,
            pending: self.pending,
        }
    }

    pub(super) fn restored(state: &I8042State) -> I8042 {
        I8042 {
            output: state.output,
            configuration: state.configuration,
            pending: state.pending,
        }
    }

    /// A read of port 0x60 or 0x64.
    pub(super) fn read(&mut self, port: u16) -> u8 {
        match port {
            0x60 => self.output.take().unwrap_or(0),
            _ => {
                SYSTEM
                    | if self.output.is_some() {
                        OUTPUT_FULL
                    } else {
                        0
                    }
            }
        }
    }

    /// A write of port 0x60 or 0x64.
    pub(super) fn write(&mut self, port: u16, value: u8) -> Effect {
        if port == 0x60 {
            if self.pending.take() == Some(0x60) {
                self.configuration = value;
            }
            return Effect::None;
        }
        self.pending = None;
        match value {
            0x20 => self.output = Some(self.configuration),
            0x60 | 0xd1 | 0xd4 => self.pending = Some(value),
            0xaa => self.output = Some(0x55), // self-test passed
            0xa9 | 0xab => self.output = Some(1), // port test: clock line stuck low, nothing there
            0xad => self.configuration |= 0x10,
            0xae => self.configuration &= !0x10,
            0xa7 => self.configuration |= 0x20,
            0xa8 => self.configuration &= !0x20,
            // Pulse output lines; line 0 (active low) is the reset.
            0xf0..=0xff if value & 1 == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read_back_and_the_reset_line_resets() {
        let mut controller = I8042::default();
        assert_eq!(controller.read(0x64) & OUTPUT_FULL, 0);
        controller.write(0x64, 0x60);
        controller.write(0x60, 0x74);
        controller.write(0x64, 0x20);
        assert_eq!(controller.read(0x64) & OUTPUT_FULL, OUTPUT_FULL);
        assert_eq!(controller.read(0x60), 0x74);
        assert_eq!(controller.read(0x64) & OUTPUT_FULL, 0);
        assert_eq!(controller.write(0x64, 0xff), Effect::None);
        assert_eq!(controller.write(0x64, 0xfe), Effect::Reset);
    }
}
