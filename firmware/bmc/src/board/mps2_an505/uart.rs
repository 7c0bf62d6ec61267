// SPDX-License-Identifier: Apache-2.0
//! CMSDK UARTs (Arm DDI0479, 4.3): one byte each way, an interrupt for each.
//!
//! They know neither breaks nor framing errors, and QEMU holds bytes back until they are fetched: neither line events nor lost bytes
//! can be seen with them (docs/limits.md).

use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, signal::Signal};
use racklet_firmware_core::console::Received;

use super::{Interrupt, registers::Registers};
use crate::console;

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CONTROL: usize = 0x08;
/// Read: which is pending. Written: which is taken note of.
const INTERRUPTS: usize = 0x0c;
const DIVIDER: usize = 0x10;

const SEND_FULL: u32 = 1 << 0;
const RECEIVED: u32 = 1 << 1;
const OVERRUN: u32 = 1 << 3;
const SENDS_AND_RECEIVES: u32 = 0b11;
const BOTH_INTERRUPT: u32 = 0b1100;
const SENT_PENDING: u32 = 1 << 0;

/// Of the 20 MHz that the peripherals run at.
const BAUD_115200: u32 = 20_000_000 / 115_200;

pub(super) const CONSOLE_RECEIVES: Interrupt = Interrupt(34);
pub(super) const CONSOLE_SENDS: Interrupt = Interrupt(35);

/// What the BMC says.
// SAFETY: UART 0 of the machine (DAI0505, table 4-1: 0x5020_0000, secure).
pub(super) static LOG: Uart = Uart::new(unsafe { Registers::at(0x5020_0000) });
/// The tray's console.
// SAFETY: UART 1, as above.
pub(super) static CONSOLE: Uart = Uart::new(unsafe { Registers::at(0x5020_1000) });

pub(super) struct Uart {
    registers: Registers,
    sent: Signal<CriticalSectionRawMutex, ()>,
}

impl Uart {
    const fn new(registers: Registers) -> Self {
        Self {
            registers,
            sent: Signal::new(),
        }
    }

    pub(super) fn start(&self) {
        self.registers.write(DIVIDER, BAUD_115200);
        self.registers
            .write(CONTROL, SENDS_AND_RECEIVES | BOTH_INTERRUPT);
    }

    /// Waits for room by looking: for the log alone, which has no interrupt let in.
    pub(super) fn send_now(&self, byte: u8) {
        while self.registers.read(STATE) & SEND_FULL != 0 {}
        self.registers.write(DATA, u32::from(byte));
    }

    pub(super) async fn send(&self, byte: u8) {
        loop {
            self.sent.reset();
            if self.registers.read(STATE) & SEND_FULL == 0 {
                return self.registers.write(DATA, u32::from(byte));
            }
            self.sent.wait().await;
        }
    }

    /// Either of its interrupts: a byte came, or there is room for one.
    pub(super) fn interrupt(&self) {
        let pending = self.registers.read(INTERRUPTS);
        // Before the byte is fetched: the next one may come right then, and its interrupt must stay.
        self.registers.write(INTERRUPTS, pending);
        while self.registers.read(STATE) & RECEIVED != 0 {
            if self.registers.read(STATE) & OVERRUN != 0 {
                self.registers.write(STATE, OVERRUN);
                console::received(Received::Overrun);
            }
            let byte = self.registers.read(DATA).to_le_bytes()[0];
            console::received(Received::Byte(byte));
        }
        if pending & SENT_PENDING != 0 {
            self.sent.signal(());
        }
    }
}
