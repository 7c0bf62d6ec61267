// SPDX-License-Identifier: Apache-2.0
//! The virtio side that all devices share: descriptor chains, split queues, the MMIO transport.
//!
//! Everything a guest can write is judged here, once: a device gets a [`Chain`] whose segments lie in guest memory, are
//! bounded in number and come in the right order. Devices hold no queue addresses and follow no pointers.

mod budget;
mod chain;
mod mmio;
mod queue;

pub use budget::{Budget, Turn};
pub use chain::{Chain, Parts};
pub use mmio::{
    Counters, DeviceState, Engine, INTERRUPT_ACK, MMIO_SIZE, Misfit, Order, QUEUE_NOTIFY,
    USED_BUFFER, Window, Wires, connect,
};
pub use queue::Queue;

use std::ops::Range;

use serde_json::Value;

use crate::memory::Memory;

/// A rule of virtio that the guest broke so that nothing can be given back any more: the device stops until it is reset (Linux does
/// not look at NEEDS_RESET, so that this costs the guest the device); the VM goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What the driver made available is not below the queue's size.
    #[error("descriptor {0} does not exist")]
    NoSuchHead(u16),
    /// The driver made more requests available than the queue can hold.
    #[error("the available index ran ahead by {0}")]
    Runaway(u16),
    /// A queue was switched on with a size or addresses that cannot be.
    #[error("queue {0} is set up wrongly")]
    Setup(u16),
    /// A part of a queue is not guest memory. Looked at when it is switched on, and memory does not go away.
    #[error("{len} bytes of a queue at {address:#x} are not guest memory")]
    OutsideMemory {
        /// Guest-physical address of the first byte.
        address: u64,
        /// Length in bytes.
        len: u64,
    },
}

/// What is wrong with the form of one request. It goes back to the driver with nothing in it, is counted, and the device goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A descriptor index is not below the table's size.
    #[error("descriptor {0} does not exist")]
    NoSuchDescriptor(u16),
    /// More descriptors than the queue has: a loop, or an indirect table that is too long.
    #[error("a chain is longer than its queue")]
    ChainTooLong,
    /// A descriptor of no bytes.
    #[error("a descriptor is empty")]
    Empty,
    /// A range that is not guest memory.
    #[error("{len} bytes at {address:#x} are not guest memory")]
    OutsideMemory {
        /// Guest-physical address of its first byte.
        address: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// A descriptor for the device to read behind one for it to write (virtio 1.2, 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Direction,
    /// An indirect table inside an indirect table, or chained to something (virtio 1.2, 2.7.5.3.1).
    #[error("an indirect descriptor is nested or chained")]
    Nested,
    /// An indirect table whose length is not a positive multiple of 16.
    #[error("an indirect table has {0} bytes")]
    TableLength(u32),
}

/// A virtio device: a state machine over guest memory and queues.
///
/// All of it runs on one thread, the device's own or the event loop. A turn ends when its [`Budget`] is spent.
pub trait Device: Send {
    /// Device type (virtio 1.2, 5).
    fn id(&self) -> u32;

    /// Features the device offers beside those of the transport. They never change.
    fn features(&self) -> u64 {
        0
    }

    /// Most entries of each queue.
    fn queue_sizes(&self) -> &'static [u16];

    /// The configuration space, from its offset 0; bytes behind its end read as 0. Its length never changes, its bytes may: they are
    /// looked at after each turn and each [`Device::refresh`], and the driver is told when they are others.
    fn config(&self) -> &[u8] {
        &[]
    }

    /// Which bytes of it the driver may write. They never change.
    fn writable(&self) -> Range<usize> {
        0..0
    }

    /// The driver has written these, all of them within [`Device::writable`]: any number from 1 to 8, and any values.
    fn configure(&mut self, _at: usize, _bytes: &[u8]) {}

    /// Something that the configuration tells of has changed on the host side: makes it anew. There may be no driver.
    fn refresh(&mut self) {}

    /// The driver is ready, having accepted these features.
    fn activate(&mut self, _features: u64) {}

    /// The driver has reset the device: forget everything that came from it.
    fn reset(&mut self) {}

    /// The driver has switched this queue off: what was taken from it and not given back is the driver's again.
    fn queue_off(&mut self, _queue: usize) {}

    /// Whether others wait while it has a turn, so that one which its budget ended says something of this guest. Otherwise each
    /// request may be a turn.
    fn shares_its_thread(&self) -> bool {
        true
    }

    /// The driver has made buffers available on this queue.
    fn notify(
        &mut self,
        queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault>;

    /// Something happened on the host side; `token` is the device's own.
    fn host_event(
        &mut self,
        _token: u32,
        _queues: &mut [Queue],
        _memory: &Memory,
    ) -> Result<Turn, Fault> {
        Ok(Turn::Done)
    }

    /// What the device holds for its driver beside its queues, for a snapshot: a value of the device's own, which another one of the
    /// same kind takes with [`restore`](Device::restore). What it has taken from a queue and not used yet it puts back
    /// ([`Queue::put_back`], the last one first). It may go on afterwards.
    fn save(&mut self, queues: &mut [Queue]) -> Value;

    /// Takes what was saved, which is a claim until it was looked at: on a device that no driver has seen, after
    /// [`activate`](Device::activate) where the saved one was active. The error says what does not fit.
    fn restore(&mut self, saved: &Value) -> Result<(), String>;

    /// Looks at everything: the last turn's budget was spent, or the driver has just started the device.
    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault>;
}
