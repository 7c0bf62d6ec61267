// SPDX-License-Identifier: Apache-2.0
//! What vCPUs reach when they leave the guest: ports, device registers, and the word that the guest is over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use crate::arch;
use crate::arch::cmos::Cmos;
use crate::arch::i8042::{Effect, I8042};
use crate::devices::serial::Uart;
use crate::lifecycle::Event;
use crate::virtio::Transport;

const COM1: std::ops::Range<u16> = 0x3f8..0x400;

/// Everything the vCPU threads and the event loop share. Locks are held one at a time.
pub(crate) struct Bus {
    uart: Mutex<Uart>,
    i8042: Mutex<I8042>,
    cmos: Mutex<Cmos>,
    devices: Vec<Mutex<Transport>>,
    over: Mutex<Option<Event>>,
    wake: EventFd,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic aborts the process (`panic = "abort"`), so a poisoned lock is seen in tests only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// `wake` is written when the guest is over.
    pub(crate) fn new(uart: Uart, devices: Vec<Transport>, wake: EventFd) -> Bus {
        Bus {
            uart: Mutex::new(uart),
            i8042: Mutex::default(),
            cmos: Mutex::default(),
            devices: devices.into_iter().map(Mutex::new).collect(),
            over: Mutex::default(),
            wake,
        }
    }

    /// A virtio device.
    pub(crate) fn device(&self, n: usize) -> Option<MutexGuard<'_, Transport>> {
        self.devices.get(n).map(lock)
    }

    /// The guest is over; the first word counts.
    pub(crate) fn end(&self, how: Event) {
        lock(&self.over).get_or_insert(how);
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.wake.write(1);
    }

    /// Whether the guest is over, and how.
    pub(crate) fn over(&self) -> Option<Event> {
        lock(&self.over).clone()
    }

    /// A guest's write to a port. True when the guest asked for a reset.
    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> bool {
        let [value] = *data else { return false }; // all of these are byte-wide
        match port {
            p if COM1.contains(&p) => {
                let offset = u8::try_from(p - COM1.start).expect("eight ports");
                // Its only errors are of the console's wake-up, which cannot fail while the loop lives.
                let _ = lock(&self.uart).write(offset, value);
                false
            }
            0x60 | 0x64 => lock(&self.i8042).write(port, value) == Effect::Reset,
            0x70 | 0x71 => {
                lock(&self.cmos).write(port, value);
                false
            }
            _ => false,
        }
    }

    /// A guest's read of a port; nothing there reads as ones, as on a real bus.
    pub(crate) fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let [value] = data else { return };
        *value = match port {
            p if COM1.contains(&p) => {
                lock(&self.uart).read(u8::try_from(p - COM1.start).expect("eight ports"))
            }
            0x60 | 0x64 => lock(&self.i8042).read(port),
            0x70 | 0x71 => lock(&self.cmos).read(port),
            _ => 0xff,
        };
    }

    /// A guest's write to an address that is not memory.
    pub(crate) fn memory_write(&self, address: u64, data: &[u8]) {
        if let Some((n, offset)) = arch::device_at(address)
            && let Some(mut device) = self.device(n)
        {
            device.write(offset, data);
        }
    }

    /// A guest's read of an address that is not memory.
    pub(crate) fn memory_read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((n, offset)) = arch::device_at(address)
            && let Some(mut device) = self.device(n)
        {
            device.read(offset, data);
        }
    }
}
