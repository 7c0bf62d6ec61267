// SPDX-License-Identifier: Apache-2.0
//! The MMIO transport (virtio 1.2, 4.2): registers in, device calls and interrupts out.
//!
//! ```text
//! vCPU threads -- Window: registers --order, waits--> Engine: queues, device -- the device's own thread
//!                     '--status, interrupt status (atomics), configuration (copied)--'
//! ```
//!
//! A vCPU's thread never calls a device: an access is answered from the registers, and what a write asks of the device (activate,
//! reset, switch a queue off) is an [`Order`] which the device's thread carries out while the vCPU waits. So a vCPU's filter need
//! not allow what devices do, and no register is read behind a lock that is held while a disk works.
//!
//! A guest that breaks a rule gets `DEVICE_NEEDS_RESET` and a quiet device; the monitor goes on.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use config::Config;
pub use engine::Engine;
pub use saved::{DeviceState, Misfit};
use shared::Shared;
pub use shared::{Counters, Order, Wires};

use super::queue::Setup;
use super::{Device, Queue};
use crate::lock::lock;
use crate::memory::Memory;

mod config;
mod engine;
mod saved;
mod shared;

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

/// Offset of the register with which the driver acknowledges interrupts (4.2.2).
pub const INTERRUPT_ACK: u64 = 0x64;

/// The bit of an interrupt for used buffers.
pub const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;

const F_INDIRECT: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_VERSION_1: u64 = 1 << 32;

/// A device's registers: what vCPUs reach.
pub struct Window {
    id: u32,
    features: u64,
    /// Bytes of the configuration space that the driver may write.
    writable: Range<usize>,
    memory: Memory,
    registers: Mutex<Registers>,
    shared: Arc<Shared>,
}

/// What the driver has set. Together with the queues and the device's own state this is all that a guest has made of a device:
/// plain numbers, apart from memory and descriptors, so that it can be forgotten or written down as a whole.
#[derive(Debug)]
struct Registers {
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<(Setup, Option<Queue>)>,
}

/// A device that no driver has found yet: its registers, and itself for the thread that is to have it.
#[must_use]
pub fn connect(device: Box<dyn Device>, memory: Memory, wires: Wires) -> (Window, Engine) {
    let shared = Arc::new(Shared::new(wires, device.config()));
    let window = Window {
        id: device.id(),
        features: device.features() | F_INDIRECT | F_EVENT_IDX | F_VERSION_1,
        writable: device.writable(),
        memory: memory.clone(),
        registers: Mutex::new(Registers::new(device.queue_sizes())),
        shared: shared.clone(),
    };
    (window, Engine::new(device, memory, shared))
}

impl Registers {
    fn new(sizes: &[u16]) -> Registers {
        let setups = (0..)
            .zip(sizes)
            .map(|(number, max)| Setup::new(number, *max));
        Registers {
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            queues: setups.map(|setup| (setup, None)).collect(),
        }
    }

    fn reset(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|(setup, _)| setup.max()).collect();
        *self = Registers::new(&sizes);
    }

    fn queue(&mut self) -> Option<&mut (Setup, Option<Queue>)> {
        let selected = usize::try_from(self.queue_select).ok()?;
        self.queues.get_mut(selected)
    }

    fn accept(&mut self, value: u32) {
        let (value, features) = (u64::from(value), self.driver_features);
        match self.driver_features_select {
            0 => self.driver_features = features & !0xffff_ffff | value,
            1 => self.driver_features = features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }
}

fn half(value: u64, select: u32) -> u32 {
    let half = match select {
        0 => value & 0xffff_ffff,
        1 => value >> 32,
        _ => 0,
    };
    u32::try_from(half).expect("half of a u64")
}

impl Window {
    /// What has happened here so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Lets the device's thread call [`Engine::refresh`] and give the device a turn.
    pub fn wake(&self) {
        self.shared.wake();
    }

    fn status(&self) -> u32 {
        self.shared.status.load(Ordering::SeqCst)
    }

    /// A guest's read of `data.len()` bytes at `offset`. What an interrupt handler reads is answered without a lock.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if offset >= CONFIG {
            return self.shared.config.read(offset - CONFIG, data);
        }
        let Ok(register) = <&mut [u8; 4]>::try_from(&mut *data) else {
            data.fill(0); // registers are read as 32 bits (4.2.2.2)
            return;
        };
        let value = match offset {
            0x00 => MAGIC,
            0x04 => 2,
            0x08 => self.id,
            0x0c => VENDOR,
            0x10 => half(self.features, lock(&self.registers).device_features_select),
            0x34 => lock(&self.registers)
                .queue()
                .map_or(0, |(setup, _)| u32::from(setup.max())),
            0x44 => lock(&self.registers)
                .queue()
                .map_or(0, |(_, queue)| u32::from(queue.is_some())),
            0x60 => self.shared.interrupt_status(),
            0x70 => self.status(),
            // No shared memory regions: their length reads as -1.
            0xb0..=0xbc => u32::MAX,
            0xfc => self.shared.config.generation(),
            _ => 0,
        };
        *register = value.to_le_bytes();
    }

    /// A guest's write of `data` at `offset`. Where it asks something of the device, this waits until that is done.
    pub fn write(&self, offset: u64, data: &[u8]) {
        self.write_through(offset, data, |order| self.shared.send(order));
    }

    /// The same for who has the [`Engine`] on the same thread: `carry_out` gives it the order.
    // untrusted: virtio_devices
    pub fn write_through(&self, offset: u64, data: &[u8], carry_out: impl FnOnce(Order)) {
        if offset >= CONFIG {
            return self.configure(offset - CONFIG, data, carry_out);
        }
        let Ok(value) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(value);
        if offset == INTERRUPT_ACK {
            return self.shared.acknowledge(value);
        }
        let mut registers = lock(&self.registers);
        match offset {
            0x14 => registers.device_features_select = value,
            0x20 if self.status() & (DRIVER | FEATURES_OK) == DRIVER => registers.accept(value),
            0x24 => registers.driver_features_select = value,
            0x30 => registers.queue_select = value,
            0x44 if value == 0 => self.switch_off(&mut registers, carry_out),
            0x70 => self.set_status(&mut registers, value, carry_out),
            0x38 | 0x44 | 0x80..=0xa4 => self.set_up_queue(&mut registers, offset, value),
            _ => {}
        }
    }

    /// A driver may write behind the features (3.1.1), and only what its device lets it; nothing is asked of the device for the rest.
    fn configure(&self, offset: u64, data: &[u8], carry_out: impl FnOnce(Order)) {
        let _registers = lock(&self.registers);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let within = !data.is_empty()
            && at >= self.writable.start
            && at.saturating_add(data.len()) <= self.writable.end;
        let ready = self.status() & (FEATURES_OK | FAILED | NEEDS_RESET) == FEATURES_OK;
        if within && ready {
            let bytes = data.into();
            carry_out(Order::Configure { at, bytes });
        }
    }

    fn set_up_queue(&self, registers: &mut Registers, offset: u64, value: u32) {
        // Only between the features and the start, and never while the queue is on.
        if self.status() & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET) != FEATURES_OK {
            return;
        }
        let event_index = registers.driver_features & F_EVENT_IDX != 0;
        let Some((setup, queue @ None)) = registers.queue() else {
            return;
        };
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            // A size beyond 16 bits is impossible; 0 is refused when the queue is switched on.
            0x38 => setup.size = u16::try_from(value).unwrap_or(0),
            0x44 if value == 1 => match setup.queue(&self.memory, event_index) {
                Ok(on) => *queue = Some(on),
                // The driver has not started the device: it reads this bit and gives up, and no interrupt tells it.
                Err(fault) => {
                    self.shared.status.fetch_or(NEEDS_RESET, Ordering::SeqCst);
                    self.shared.count_fault(fault);
                }
            },
            0x80 => setup.descriptors = low(setup.descriptors),
            0x84 => setup.descriptors = high(setup.descriptors),
            0x90 => setup.available = low(setup.available),
            0x94 => setup.available = high(setup.available),
            0xa0 => setup.used = low(setup.used),
            0xa4 => setup.used = high(setup.used),
            _ => {}
        }
    }

    /// After the start there is no way back on but a reset.
    fn switch_off(&self, registers: &mut Registers, carry_out: impl FnOnce(Order)) {
        let Some((_, queue)) = registers.queue() else {
            return;
        };
        if queue.take().is_some() && self.status() & DRIVER_OK != 0 {
            carry_out(Order::Off(registers.queue_select as usize));
        }
    }

    fn set_status(&self, registers: &mut Registers, value: u32, carry_out: impl FnOnce(Order)) {
        if value == 0 {
            carry_out(Order::Reset);
            return registers.reset();
        }
        let status = self.status();
        let new = value & !status;
        // Bits are only added, in the order of virtio 1.2, 3.1.1.
        let step = match new {
            ACKNOWLEDGE => status == 0,
            DRIVER => status == ACKNOWLEDGE,
            FEATURES_OK => {
                status == ACKNOWLEDGE | DRIVER && self.acceptable(registers.driver_features)
            }
            DRIVER_OK => status == ACKNOWLEDGE | DRIVER | FEATURES_OK,
            _ => value & FAILED != 0,
        };
        if !step || value & status != status {
            return;
        }
        if new == DRIVER_OK {
            // The device's thread sets the bit. Here a queue stays known as on: its copy is what is read back.
            let queues = registers.queues.iter();
            let queues = queues.map(|(_, queue)| queue.clone().unwrap_or_else(Queue::off));
            carry_out(Order::Activate {
                features: registers.driver_features,
                queues: queues.collect(),
            });
        } else {
            self.shared.status.fetch_or(new, Ordering::SeqCst);
        }
    }

    fn acceptable(&self, features: u64) -> bool {
        features & F_VERSION_1 != 0 && features & !self.features == 0
    }
}

#[cfg(test)]
mod tests;
