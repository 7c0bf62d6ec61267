// SPDX-License-Identifier: Apache-2.0
//! What a PC has beside its virtio devices, all of it reached by ports: COM1, the keyboard controller for its reset line, the
//! clock chip.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VcpuExit;
use vmm_sys_util::eventfd::EventFd;

use super::cmos::Cmos;
use super::i8042::{Effect, I8042};
use super::state::{PartsState, RestoreError, State};
use crate::devices::serial::{self, Console, Uart};
use crate::lifecycle::Event;
use crate::lock::lock;

const COM1: Range<u16> = 0x3f8..0x400;

/// The parts, shared by the vCPUs.
pub(crate) struct Parts {
    uart: Mutex<Uart>,
    console: Arc<Console>,
    i8042: Mutex<I8042>,
    cmos: Mutex<Cmos>,
}

impl Parts {
    /// `line` is the console's interrupt ([`super::CONSOLE_IRQ`]).
    pub(crate) fn new(console: Arc<Console>, line: EventFd) -> Parts {
        Parts {
            uart: Mutex::new(serial::uart(console.clone(), line)),
            console,
            i8042: Mutex::default(),
            cmos: Mutex::default(),
        }
    }

    /// What the registers hold.
    pub(super) fn save(&self) -> PartsState {
        PartsState {
            com1: serial::save(&lock(&self.uart)),
            i8042: lock(&self.i8042).save(),
            cmos: lock(&self.cmos).save(),
        }
    }

    /// Puts them back. Raises the console's interrupt where the guest waits for one: the interrupt controllers have to be as they were
    /// already.
    pub(crate) fn restore(&self, state: &State) -> Result<(), RestoreError> {
        let state = &state.parts;
        if !serial::restore(&self.uart, &state.com1) {
            return Err(RestoreError::Wrong("more input than a UART takes"));
        }
        *lock(&self.i8042) = I8042::restored(&state.i8042);
        *lock(&self.cmos) = Cmos::restored(&state.cmos);
        Ok(())
    }

    /// Input was entered at the console: gives the guest what its UART takes, without waiting.
    pub(crate) fn input(&self) {
        serial::type_on(&self.uart, &self.console);
    }

    /// Serves an exit of a vCPU that is no access to memory. Gives the guest's end, if it is one.
    pub(crate) fn serve(&self, exit: VcpuExit<'_>) -> Option<Event> {
        match exit {
            VcpuExit::IoOut(port, data) => return self.write(port, data),
            VcpuExit::IoIn(port, data) => self.read(port, data),
            other => {
                return Some(Event::VcpuFailed(format!(
                    "unexpected exit of the guest: {other:?}"
                )));
            }
        }
        None
    }

    /// A guest's write to an address that is neither memory nor a virtio device's: a PC's parts are behind ports.
    pub(crate) fn write_at(&self, _address: u64, _data: &[u8]) {}

    /// A guest's read of such an address: `data` stays as it is.
    pub(crate) fn read_at(&self, _address: u64, _data: &mut [u8]) {}

    fn write(&self, port: u16, data: &[u8]) -> Option<Event> {
        let [value] = *data else { return None }; // all of these are byte-wide
        match port {
            p if COM1.contains(&p) => {
                let offset = u8::try_from(p - COM1.start).expect("eight ports");
                // Its only errors are of the console's wake-up, which cannot fail while the loop lives.
                let _ = lock(&self.uart).write(offset, value);
                self.input();
            }
            0x60 | 0x64 => {
                return (lock(&self.i8042).write(port, value) == Effect::Reset)
                    .then_some(Event::Reset);
            }
            0x70 | 0x71 => lock(&self.cmos).write(port, value),
            _ => {}
        }
        None
    }

    /// Nothing there reads as ones, as on a real bus.
    fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let [value] = data else { return };
        *value = match port {
            p if COM1.contains(&p) => {
                let offset = u8::try_from(p - COM1.start).expect("eight ports");
                let value = lock(&self.uart).read(offset);
                self.input();
                value
            }
            0x60 | 0x64 => lock(&self.i8042).read(port),
            0x70 | 0x71 => lock(&self.cmos).read(port),
            _ => 0xff,
        };
    }
}

#[cfg(test)]
mod tests;
