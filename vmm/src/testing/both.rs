// SPDX-License-Identifier: Apache-2.0
//! A device with both its sides on one thread, driven through its registers as a guest's driver does it.

use vmm_sys_util::eventfd::EventFd;

use super::Driver;
use crate::memory::Memory;
use crate::virtio::{Device, Engine, Window, Wires, connect};

/// Registers and device; what a register's write asks of the device is done at once.
pub(crate) struct Both {
    pub(crate) window: Window,
    pub(crate) engine: Engine,
    pub(crate) interrupt: EventFd,
    /// What KVM writes.
    pub(crate) acknowledged: EventFd,
}

impl Both {
    pub(crate) fn new(device: Box<dyn Device>, memory: &Memory) -> Both {
        let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let interrupt = event();
        let given = interrupt.try_clone().unwrap();
        let acknowledged = event();
        let wires = Wires {
            interrupt: given,
            wake: event(),
            acknowledged: acknowledged.try_clone().unwrap(),
        };
        let (window, engine) = connect(device, memory.clone(), wires);
        Both {
            window,
            engine,
            interrupt,
            acknowledged,
        }
    }

    pub(crate) fn get(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.window.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn set(&mut self, offset: u64, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let engine = &mut self.engine;
        self.window.write_through(offset, data, |order| {
            let _ = engine.obey(order);
        });
    }
}

/// The writes to registers with which a driver starts a device whose queues are these (virtio 1.2, 3.1.1 and 4.2.3.1).
pub(crate) fn start(features: u32, drivers: &[&Driver], mut set: impl FnMut(u64, u32)) {
    set(0x70, 1);
    set(0x70, 3);
    set(0x24, 0);
    set(0x20, features);
    set(0x24, 1);
    set(0x20, 1); // VERSION_1
    set(0x70, 0xb);
    for (number, driver) in (0..).zip(drivers) {
        set(0x30, number);
        set(0x38, u32::from(driver.size()));
        for (offset, ring) in [0x80, 0x90, 0xa0].into_iter().zip(driver.rings()) {
            set(offset, u32::try_from(ring).unwrap());
        }
        set(0x44, 1);
    }
    set(0x70, 0xf);
}
