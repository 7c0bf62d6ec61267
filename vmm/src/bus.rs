// SPDX-License-Identifier: Apache-2.0
//! What vCPUs reach when they leave the guest: device registers, the architecture's own parts, and the word that the guest is over.

use std::sync::{Mutex, MutexGuard};

use vmm_sys_util::eventfd::EventFd;

use crate::arch::{self, Parts};
use crate::lifecycle::Event;
use crate::lock::lock;
use crate::virtio::Transport;

/// Everything the vCPU threads and the event loop share. Locks are held one at a time.
pub(crate) struct Bus {
    pub(crate) parts: Parts,
    devices: Vec<Mutex<Transport>>,
    over: Mutex<Option<Event>>,
    wake: EventFd,
}

impl Bus {
    /// `wake` is written when the guest is over.
    pub(crate) fn new(parts: Parts, devices: Vec<Transport>, wake: EventFd) -> Bus {
        Bus {
            parts,
            devices: devices.into_iter().map(Mutex::new).collect(),
            over: Mutex::default(),
            wake,
        }
    }

    /// The n-th virtio device, locked: by a vCPU for a register, by the event loop for its work.
    pub(crate) fn device(&self, n: usize) -> Option<MutexGuard<'_, Transport>> {
        self.devices.get(n).map(lock)
    }

    /// The guest is over; the first reported end wins.
    pub(crate) fn end(&self, how: Event) {
        lock(&self.over).get_or_insert(how);
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.wake.write(1);
    }

    /// Whether the guest is over, and how.
    pub(crate) fn over(&self) -> Option<Event> {
        lock(&self.over).clone()
    }

    /// A guest's write to an address that is not memory.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((n, offset)) = arch::device_at(address)
            && let Some(mut device) = self.device(n)
        {
            device.write(offset, data);
        }
    }

    /// A guest's read of an address that is not memory; nothing there reads as ones.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((n, offset)) = arch::device_at(address)
            && let Some(mut device) = self.device(n)
        {
            device.read(offset, data);
        }
    }
}
