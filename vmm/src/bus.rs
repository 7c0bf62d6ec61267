// SPDX-License-Identifier: Apache-2.0
//! What vCPUs reach when they leave the guest: device registers, the architecture's own parts, and the word that the guest is over.

use std::sync::Mutex;

use vmm_sys_util::eventfd::EventFd;

use crate::arch::{self, Parts};
use crate::exits::Exits;
use crate::gate::Gate;
use crate::lifecycle::Event;
use crate::lock::lock;
use crate::mark::Mark;
use crate::virtio::{Counters, DeviceState, Window};

/// Everything the vCPU threads share with the event loop. The devices are not here: only their registers are, and a write to one
/// waits for the device's thread where it asks something of the device.
pub(crate) struct Bus {
    pub(crate) parts: Parts,
    windows: Vec<Window>,
    exits: Exits,
    /// The first vCPU enters the guest.
    pub(crate) entered: Mark,
    /// Where vCPUs stand still.
    pub(crate) gate: Gate,
    over: Mutex<Option<Event>>,
    wake: EventFd,
}

impl Bus {
    /// `wake` is written when the guest is over.
    pub(crate) fn new(parts: Parts, windows: Vec<Window>, gate: Gate, wake: EventFd) -> Bus {
        Bus {
            parts,
            windows,
            exits: Exits::default(),
            entered: Mark::default(),
            gate,
            over: Mutex::default(),
            wake,
        }
    }

    /// What the devices have counted, by number.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Counters> {
        self.windows.iter().map(Window::counters)
    }

    /// Lets a device's thread look what there is.
    pub(crate) fn wake(&self, device: u16) {
        if let Some(window) = self.windows.get(usize::from(device)) {
            window.wake();
        }
    }

    /// Lets every device stand still, and gives what there is to save of each, by number. No vCPU may run.
    pub(crate) fn hold(&self) -> Vec<DeviceState> {
        self.windows.iter().map(Window::hold).collect()
    }

    /// Lets them go on.
    pub(crate) fn go(&self) {
        self.windows.iter().for_each(Window::go);
    }

    /// How often vCPUs came out of the guest.
    pub(crate) fn exits(&self) -> &Exits {
        &self.exits
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
        match self.window(address) {
            Some((window, offset)) => window.write(offset, data),
            None => self.parts.write_at(address, data),
        }
    }

    /// A guest's read of an address that is not memory; nothing there reads as ones.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        match self.window(address) {
            Some((window, offset)) => window.read(offset, data),
            None => self.parts.read_at(address, data),
        }
    }

    /// The virtio device whose registers are there, and the offset in them.
    fn window(&self, address: u64) -> Option<(&Window, u64)> {
        let (n, offset) = arch::device_at(address)?;
        Some((self.windows.get(n)?, offset))
    }
}
