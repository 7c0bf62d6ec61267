// SPDX-License-Identifier: Apache-2.0
//! The MMIO transport (virtio 1.2, 4.2): registers in, device calls and interrupts out.
//!
//! A guest that breaks a rule gets `DEVICE_NEEDS_RESET` and a quiet device; the monitor goes on.

use vmm_sys_util::eventfd::EventFd;

use super::{Device, Fault, Queue};
use crate::memory::Memory;

/// Bytes of one device's registers.
pub const MMIO_SIZE: u64 = 0x1000;
/// Offset of the register whose writes become events (4.2.2); never seen here.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = 0x7472_6976;
const VENDOR: u32 = 0x4b4c_4352; // "RCLK"
const CONFIG: u64 = 0x100;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 0x40;
const FAILED: u32 = 0x80;

const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;

const F_INDIRECT: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

/// A device behind its registers.
pub struct Transport {
    device: Box<dyn Device>,
    memory: Memory,
    queues: Vec<Queue>,
    interrupt: EventFd,
    registers: Registers,
    last_fault: Option<Fault>,
}

/// What the driver has set, and what it is told. Together with the queues and the device's own state this is all that a guest has
/// made of a device: plain numbers, apart from memory and descriptors, so that it can be forgotten or written down as a whole.
#[derive(Debug, Default)]
struct Registers {
    interrupt_status: u32,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
}

impl Transport {
    /// A device that no driver has found yet; `interrupt` is written when the driver is to look.
    #[must_use]
    pub fn new(device: Box<dyn Device>, memory: Memory, interrupt: EventFd) -> Transport {
        let mut number = 0;
        let queues = device.queue_sizes().iter().map(|max| {
            number += 1;
            Queue::new(number - 1, *max)
        });
        Transport {
            queues: queues.collect(),
            device,
            memory,
            interrupt,
            registers: Registers::default(),
            last_fault: None,
        }
    }

    /// The rule the guest broke last, if it did.
    #[must_use]
    pub fn last_fault(&self) -> Option<Fault> {
        self.last_fault
    }

    fn features(&self) -> u64 {
        self.device.features() | F_INDIRECT | F_EVENT_IDX | F_VERSION_1
    }

    fn half(value: u64, select: u32) -> u32 {
        let half = match select {
            0 => value & 0xffff_ffff,
            1 => value >> 32,
            _ => 0,
        };
        u32::try_from(half).expect("half of a u64")
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.queues
            .get_mut(usize::try_from(self.registers.queue_select).ok()?)
    }

    /// A guest's read of `data.len()` bytes at `offset`.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            let from = usize::try_from(offset - CONFIG).unwrap_or(usize::MAX);
            data.fill(0);
            for (to, from) in data.iter_mut().zip(self.device.config().iter().skip(from)) {
                *to = *from;
            }
            return;
        }
        let Ok(register) = <&mut [u8; 4]>::try_from(&mut *data) else {
            data.fill(0); // registers are read as 32 bits (4.2.2.2)
            return;
        };
        let value = match offset {
            0x00 => MAGIC,
            0x04 => 2,
            0x08 => self.device.id(),
            0x0c => VENDOR,
            0x10 => Self::half(self.features(), self.registers.device_features_select),
            0x34 => self.queue().map_or(0, |q| u32::from(q.max())),
            0x44 => self.queue().map_or(0, |q| u32::from(q.ready)),
            0x60 => self.registers.interrupt_status,
            0x70 => self.registers.status,
            // Configuration never changes; no shared memory regions: their length reads as -1.
            0xb0..=0xbc => u32::MAX,
            _ => 0,
        };
        *register = value.to_le_bytes();
    }

    /// A guest's write of `data` at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(value);
        match offset {
            0x14 => self.registers.device_features_select = value,
            0x20 if self.registers.status & (DRIVER | FEATURES_OK) == DRIVER => self.accept(value),
            0x24 => self.registers.driver_features_select = value,
            0x30 => self.registers.queue_select = value,
            0x64 => self.registers.interrupt_status &= !value,
            0x70 => self.set_status(value),
            0x38 | 0x44 | 0x80..=0xa4 => self.set_up_queue(offset, value),
            _ => {}
        }
    }

    fn accept(&mut self, value: u32) {
        let value = u64::from(value);
        match self.registers.driver_features_select {
            0 => {
                self.registers.driver_features =
                    self.registers.driver_features & !0xffff_ffff | value
            }
            1 => {
                self.registers.driver_features =
                    self.registers.driver_features & 0xffff_ffff | value << 32
            }
            _ => {}
        }
    }

    fn set_up_queue(&mut self, offset: u64, value: u32) {
        // Only between the features and the start, and never while the queue is on.
        if self.registers.status & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET) != FEATURES_OK {
            return;
        }
        let memory = self.memory.clone();
        let event_index = self.registers.driver_features & F_EVENT_IDX != 0;
        let Some(queue) = self.queue() else { return };
        if queue.ready {
            return;
        }
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            // A size beyond 16 bits is impossible; 0 makes `enable` refuse it.
            0x38 => queue.size = u16::try_from(value).unwrap_or(0),
            0x44 if value == 1 => {
                queue.set_event_index(event_index);
                if let Err(fault) = queue.enable(&memory) {
                    self.fault(fault);
                }
            }
            0x80 => queue.descriptors = low(queue.descriptors),
            0x84 => queue.descriptors = high(queue.descriptors),
            0x90 => queue.available = low(queue.available),
            0x94 => queue.available = high(queue.available),
            0xa0 => queue.used = low(queue.used),
            0xa4 => queue.used = high(queue.used),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            self.device.reset();
            self.queues.iter_mut().for_each(Queue::reset);
            self.registers = Registers::default();
            return;
        }
        let new = value & !self.registers.status;
        // Bits are only added, in the order of virtio 1.2, 3.1.1.
        let step = match new {
            ACKNOWLEDGE => self.registers.status == 0,
            DRIVER => self.registers.status == ACKNOWLEDGE,
            FEATURES_OK => self.registers.status == ACKNOWLEDGE | DRIVER && self.acceptable(),
            DRIVER_OK => self.registers.status == ACKNOWLEDGE | DRIVER | FEATURES_OK,
            _ => value & FAILED != 0,
        };
        if !step || value & self.registers.status != self.registers.status {
            return;
        }
        self.registers.status |= new;
        if new == DRIVER_OK {
            self.device.activate(self.registers.driver_features);
        }
    }

    fn acceptable(&self) -> bool {
        self.registers.driver_features & F_VERSION_1 != 0
            && self.registers.driver_features & !self.features() == 0
    }

    fn active(&self) -> bool {
        self.registers.status & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK
    }

    /// The driver notified this queue.
    pub fn notify(&mut self, queue: usize) {
        if self.active() && queue < self.queues.len() {
            let done = self.device.notify(queue, &mut self.queues, &self.memory);
            self.settle(done);
        }
    }

    /// Something happened on the host side of the device.
    pub fn host_event(&mut self, token: u32) {
        if self.active() {
            let done = self
                .device
                .host_event(token, &mut self.queues, &self.memory);
            self.settle(done);
        }
    }

    fn settle(&mut self, done: Result<(), Fault>) {
        if let Err(fault) = done {
            self.fault(fault);
        }
        let mut wanted = false;
        for queue in &mut self.queues {
            wanted |= queue.needs_interrupt(&self.memory).unwrap_or(false);
        }
        if wanted {
            self.raise(USED_BUFFER);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.last_fault = Some(fault);
        self.registers.status |= NEEDS_RESET;
        if self.registers.status & DRIVER_OK != 0 {
            self.raise(CONFIG_CHANGE);
        }
    }

    fn raise(&mut self, why: u32) {
        self.registers.interrupt_status |= why;
        // Fails only when 2^64 - 2 interrupts wait; then one is pending anyway.
        let _ = self.interrupt.write(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devices::rng::Rng;
    use crate::testing::{Driver, test_memory};

    fn transport() -> (Memory, Transport) {
        let memory = test_memory();
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        (
            memory.clone(),
            Transport::new(Box::new(Rng), memory, interrupt),
        )
    }

    fn get(t: &mut Transport, offset: u64) -> u32 {
        let mut data = [0; 4];
        t.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn set(t: &mut Transport, offset: u64, value: u32) {
        t.write(offset, &value.to_le_bytes());
    }

    fn start(t: &mut Transport, driver: &Driver, size: u32) {
        for status in [1, 3] {
            set(t, 0x70, status);
        }
        set(t, 0x24, 1);
        set(t, 0x20, 1);
        set(t, 0x70, 0xb);
        set(t, 0x30, 0);
        set(t, 0x38, size);
        for (offset, ring) in [0x80, 0x90, 0xa0].into_iter().zip(driver.rings()) {
            set(t, offset, u32::try_from(ring).unwrap());
        }
        set(t, 0x44, 1);
        set(t, 0x70, 0xf);
    }

    #[test]
    fn a_driver_that_keeps_the_order_is_served_and_interrupted() {
        let (memory, mut t) = transport();
        let mut driver = Driver::new(&memory, 8);
        assert_eq!(
            (get(&mut t, 0), get(&mut t, 4), get(&mut t, 8)),
            (MAGIC, 2, 4)
        );
        start(&mut t, &driver, 8);
        assert_eq!(get(&mut t, 0x70), 0xf);
        driver.offer(&memory, &[(0x8000, 64, true)]);
        t.notify(0);
        assert_eq!(driver.collect(&memory), Some((0, 64)));
        assert_eq!(get(&mut t, 0x60), USED_BUFFER);
        assert_eq!(t.interrupt.read().unwrap(), 1);
        set(&mut t, 0x64, 1);
        assert_eq!(get(&mut t, 0x60), 0);
    }

    #[test]
    fn a_broken_chain_stops_the_device_until_reset() {
        let (memory, mut t) = transport();
        let mut driver = Driver::new(&memory, 8);
        start(&mut t, &driver, 8);
        driver.offer(&memory, &[(1 << 40, 64, true)]);
        t.notify(0);
        assert_eq!(get(&mut t, 0x70) & NEEDS_RESET, NEEDS_RESET);
        assert_eq!(get(&mut t, 0x60), CONFIG_CHANGE);
        assert!(t.last_fault().is_some());
        driver.offer(&memory, &[(0x8000, 64, true)]);
        t.notify(0);
        assert_eq!(driver.collect(&memory), None, "a faulty device is quiet");
        set(&mut t, 0x70, 0);
        let mut driver = Driver::new(&memory, 8);
        start(&mut t, &driver, 8);
        driver.offer(&memory, &[(0x8000, 64, true)]);
        t.notify(0);
        assert_eq!(driver.collect(&memory), Some((0, 64)));
    }

    #[test]
    fn features_that_were_not_offered_are_not_accepted() {
        let (_, mut t) = transport();
        for status in [1, 3] {
            set(&mut t, 0x70, status);
        }
        set(&mut t, 0x24, 1);
        set(&mut t, 0x20, 1 | 1 << 20);
        set(&mut t, 0x70, 0xb);
        assert_eq!(get(&mut t, 0x70), 3, "FEATURES_OK stays away");
    }

    #[test]
    fn a_wrong_size_is_a_fault_not_a_panic() {
        for size in [0, 3, 1 << 15, 1 << 16, u32::MAX] {
            let (memory, mut t) = transport();
            start(&mut t, &Driver::new(&memory, 8), size);
            assert_eq!(t.last_fault(), Some(Fault::Setup(0)), "{size}");
            t.notify(0);
        }
    }

    proptest! {
        #[test]
        fn no_sequence_of_register_accesses_panics(
            ops in prop::collection::vec((any::<bool>(), 0u64..0x120, prop_oneof![Just(0u32), Just(1), Just(3), Just(0xb), Just(0xf), any::<u32>()], 0usize..9), 0..80)
        ) {
            let (_, mut t) = transport();
            for (write, offset, value, len) in ops {
                let mut data = [0; 8];
                data[..4].copy_from_slice(&value.to_le_bytes());
                if write {
                    t.write(offset & !3, &data[..4]);
                    t.write(offset, &data[..len]);
                } else {
                    t.read(offset, &mut data[..len]);
                }
                t.notify(value as usize);
                t.host_event(value);
            }
        }
    }
}
