// SPDX-License-Identifier: Apache-2.0
//! What a device's registers and its thread share: two registers that are read without waiting for anybody, the interrupt, and the
//! one order at a time that goes from a vCPU to the device's thread.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::super::Queue;
use crate::lock::lock;

/// What a write to a register asks of the device. It is carried out before the guest's next instruction.
#[derive(Debug)]
pub enum Order {
    /// The driver is ready (DRIVER_OK), having accepted these features and set up these queues.
    Activate {
        /// What it accepted.
        features: u64,
        /// One for each of the device's, on or off.
        queues: Vec<Queue>,
    },
    /// The driver has reset the device.
    Reset,
    /// The driver has switched this queue off (virtio 1.2, 4.2.2.2: nothing of it may be touched from then on).
    Off(usize),
}

/// What a guest has done wrong at a device since the start, resets included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests that went back unserved for their form.
    pub refused: u64,
    /// Faults, each of which stopped the device until its reset.
    pub faults: u64,
}

/// Between a [`super::Window`] and its [`super::Engine`].
pub(super) struct Shared {
    pub(super) status: AtomicU32,
    interrupt_status: AtomicU32,
    interrupt: EventFd,
    /// Whether an order waits: looked at without the lock, so that a turn without one costs nothing.
    posted: AtomicBool,
    order: Mutex<Option<Order>>,
    carried_out: Condvar,
    wake: EventFd,
    refused: AtomicU64,
    faults: AtomicU64,
}

impl Shared {
    /// `interrupt` is written when the driver is to look, `wake` when the device's thread is to look for an order.
    pub(super) fn new(interrupt: EventFd, wake: EventFd) -> Shared {
        Shared {
            status: AtomicU32::new(0),
            interrupt_status: AtomicU32::new(0),
            interrupt,
            posted: AtomicBool::new(false),
            order: Mutex::default(),
            carried_out: Condvar::new(),
            wake,
            refused: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        }
    }

    /// Gives the device's thread an order and waits until it is carried out. One vCPU at a time: the caller holds the lock of the
    /// registers. The wait is as long as the thread's turn: short, but for a disk whose file is slow.
    pub(super) fn send(&self, order: Order) {
        let mut waiting = lock(&self.order);
        *waiting = Some(order);
        self.posted.store(true, Ordering::Release);
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.wake.write(1);
        while waiting.is_some() {
            waiting = self
                .carried_out
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// On the device's thread: carries out the order that waits, if one does.
    pub(super) fn receive(&self, carry_out: impl FnOnce(Order)) {
        if !self.posted.swap(false, Ordering::Acquire) {
            return;
        }
        let mut waiting = lock(&self.order);
        if let Some(order) = waiting.take() {
            carry_out(order);
        }
        // The lock is held until here: whoever waits sees `None` only when it is done.
        drop(waiting);
        self.carried_out.notify_all();
    }

    pub(super) fn interrupt_status(&self) -> u32 {
        self.interrupt_status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.interrupt_status.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(super) fn raise(&self, why: u32) {
        self.interrupt_status.fetch_or(why, Ordering::SeqCst);
        // Fails only when 2^64 - 2 interrupts wait; then one is pending anyway.
        let _ = self.interrupt.write(1);
    }

    pub(super) fn count(&self, more: Counters) {
        self.refused.fetch_add(more.refused, Ordering::Relaxed);
        self.faults.fetch_add(more.faults, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            refused: self.refused.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }

    pub(super) fn forget(&self) {
        self.interrupt_status.store(0, Ordering::SeqCst);
        self.status.store(0, Ordering::SeqCst);
    }
}
