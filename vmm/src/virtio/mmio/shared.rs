// SPDX-License-Identifier: Apache-2.0
//! What a device's registers and its thread share: two registers that are read without waiting for anybody, the interrupt, and the
//! one order at a time that goes from a vCPU to the device's thread.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use racklet_api::vmm::metrics::FaultCounts;
use serde_json::Value;
use vmm_sys_util::eventfd::EventFd;

use super::super::queue::Seen;
use super::super::{Fault, Queue};
use super::{CONFIG_CHANGE, Config, USED_BUFFER};
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
    /// The driver has written to the configuration space, where its device lets it.
    Configure {
        /// Offset of the first byte there.
        at: usize,
        /// As many as a processor writes at once: 1 to 8.
        bytes: Box<[u8]>,
    },
    /// Stand still from now on, and put what the driver does not see here: [`Held`]. Nothing is under way then.
    Hold(Arc<Mutex<Option<Held>>>),
    /// Go on: whatever happened meanwhile is to be looked at.
    Go,
}

/// What an engine has beside its window's registers.
#[derive(Debug)]
pub struct Held {
    /// The device's own value.
    pub(super) device: Value,
    /// The configuration space.
    pub(super) config: Vec<u8>,
    /// How far each queue has come.
    pub(super) queues: Vec<(u16, u16, Option<u16>)>,
}

/// What has happened at a device since the start, resets included: `racklet_api::vmm::metrics` says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests and buffers that were given back.
    pub returned: u64,
    /// …of these, unserved for their form.
    pub refused: u64,
    /// Good requests that the host's side did not serve.
    pub failed: u64,
    /// Turns that ended with their budget.
    pub cut_turns: u64,
    /// How often something had to wait for the device's rate.
    pub throttled: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Resets by the driver.
    pub resets: u64,
    /// Faults, each of which stopped the device until its reset.
    pub faults: FaultCounts,
}

/// The same while it is counted, by several threads.
#[derive(Debug, Default)]
struct Tally {
    returned: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    cut_turns: AtomicU64,
    throttled: AtomicU64,
    interrupts: AtomicU64,
    resets: AtomicU64,
    no_such_head: AtomicU64,
    runaway: AtomicU64,
    setup: AtomicU64,
    outside_memory: AtomicU64,
}

fn add(to: &AtomicU64, more: u64) {
    // Mostly there is nothing, and then no line of the cache changes hands.
    if more > 0 {
        to.fetch_add(more, Ordering::Relaxed);
    }
}

/// The event descriptors of a device; none of them waits when it is read or written.
#[derive(Debug)]
pub struct Wires {
    /// Written when the driver is to look.
    pub interrupt: EventFd,
    /// Written when the device's thread is to call [`super::Engine::receive`].
    pub wake: EventFd,
    /// Written by KVM in place of an exit when the driver writes [`super::USED_BUFFER`] to [`super::INTERRUPT_ACK`], or by nobody.
    pub acknowledged: EventFd,
}

/// Numbers of the interrupts for used buffers, counted since the start.
#[derive(Debug, Default)]
struct Interrupts {
    /// The last one before the driver read the interrupt status.
    seen: u64,
    /// The last one that it has acknowledged.
    acknowledged: u64,
}

/// Between a [`super::Window`] and its [`super::Engine`].
///
/// Linux reads the interrupt status and writes it back at each interrupt. The write is KVM's: nobody here is told, and only the
/// next read looks whether there was one. What it acknowledged is what the read before it had shown: an interrupt that was raised
/// between the two is another one and still to be seen, so that a bit alone would not do and they are counted.
pub(super) struct Shared {
    pub(super) status: AtomicU32,
    pub(super) config: Config,
    raised: AtomicU64,
    interrupts: Mutex<Interrupts>,
    config_changed: AtomicBool,
    interrupt: EventFd,
    acknowledged: EventFd,
    /// Whether an order waits: looked at without the lock, so that a turn without one costs nothing.
    posted: AtomicBool,
    order: Mutex<Option<Order>>,
    carried_out: Condvar,
    wake: EventFd,
    tally: Tally,
}

impl Shared {
    pub(super) fn new(wires: Wires, config: &[u8]) -> Shared {
        let Wires {
            interrupt,
            wake,
            acknowledged,
        } = wires;
        Shared {
            status: AtomicU32::new(0),
            config: Config::new(config),
            raised: AtomicU64::new(0),
            interrupts: Mutex::default(),
            config_changed: AtomicBool::new(false),
            interrupt,
            acknowledged,
            posted: AtomicBool::new(false),
            order: Mutex::default(),
            carried_out: Condvar::new(),
            wake,
            tally: Tally::default(),
        }
    }

    /// Gives the device's thread an order and waits until it is carried out. One vCPU at a time: the caller holds the lock of the
    /// registers. The wait is as long as the thread's turn: short, but for a disk whose file is slow.
    pub(super) fn send(&self, order: Order) {
        let mut waiting = lock(&self.order);
        *waiting = Some(order);
        self.posted.store(true, Ordering::Release);
        self.wake();
        while waiting.is_some() {
            waiting = self
                .carried_out
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the device's thread look what there is.
    pub(super) fn wake(&self) {
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.wake.write(1);
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

    /// For a driver that reads it.
    pub(super) fn interrupt_status(&self) -> u32 {
        let mut interrupts = lock(&self.interrupts);
        if self.acknowledged.read().is_ok() {
            interrupts.acknowledged = interrupts.seen;
        }
        interrupts.seen = self.raised.load(Ordering::SeqCst);
        let used = interrupts.seen != interrupts.acknowledged;
        let changed = self.config_changed.load(Ordering::SeqCst);
        u32::from(used) * USED_BUFFER + u32::from(changed) * CONFIG_CHANGE
    }

    /// A driver's write that KVM did not take.
    pub(super) fn acknowledge(&self, bits: u32) {
        if bits & USED_BUFFER != 0 {
            let mut interrupts = lock(&self.interrupts);
            interrupts.acknowledged = interrupts.seen;
        }
        if bits & CONFIG_CHANGE != 0 {
            self.config_changed.store(false, Ordering::SeqCst);
        }
    }

    pub(super) fn raise_used_buffer(&self) {
        self.raised.fetch_add(1, Ordering::SeqCst);
        self.raise();
    }

    pub(super) fn raise_config_change(&self) {
        self.config_changed.store(true, Ordering::SeqCst);
        self.raise();
    }

    fn raise(&self) {
        add(&self.tally.interrupts, 1);
        // Fails only when 2^64 - 2 interrupts wait; then one is pending anyway.
        let _ = self.interrupt.write(1);
    }

    /// Counts what queues have seen in one turn, and whether its budget ended it.
    pub(super) fn count_turn(&self, seen: Seen, cut: bool) {
        add(&self.tally.returned, seen.returned);
        add(&self.tally.refused, seen.refused);
        add(&self.tally.failed, seen.failed);
        add(&self.tally.cut_turns, u64::from(cut));
        add(&self.tally.throttled, seen.throttled);
    }

    pub(super) fn count_fault(&self, fault: Fault) {
        let tally = &self.tally;
        let counter = match fault {
            Fault::NoSuchHead(_) => &tally.no_such_head,
            Fault::Runaway(_) => &tally.runaway,
            Fault::Setup(_) => &tally.setup,
            Fault::OutsideMemory { .. } => &tally.outside_memory,
        };
        add(counter, 1);
    }

    pub(super) fn count_reset(&self) {
        add(&self.tally.resets, 1);
    }

    pub(super) fn counters(&self) -> Counters {
        let tally = &self.tally;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            returned: get(&tally.returned),
            refused: get(&tally.refused),
            failed: get(&tally.failed),
            cut_turns: get(&tally.cut_turns),
            throttled: get(&tally.throttled),
            interrupts: get(&tally.interrupts),
            resets: get(&tally.resets),
            faults: FaultCounts {
                no_such_head: get(&tally.no_such_head),
                runaway: get(&tally.runaway),
                setup: get(&tally.setup),
                outside_memory: get(&tally.outside_memory),
            },
        }
    }

    /// Interrupts beyond those that the driver has acknowledged: raised, and seen by it. And whether the configuration has changed.
    pub(super) fn unacknowledged(&self) -> (u64, u64, bool) {
        let mut interrupts = lock(&self.interrupts);
        if self.acknowledged.read().is_ok() {
            interrupts.acknowledged = interrupts.seen;
        }
        let raised = self.raised.load(Ordering::SeqCst);
        (
            raised.wrapping_sub(interrupts.acknowledged),
            interrupts.seen.wrapping_sub(interrupts.acknowledged),
            self.config_changed.load(Ordering::SeqCst),
        )
    }

    /// Of a device that no driver has seen: from now on it has raised and shown so many.
    pub(super) fn resume_interrupts(&self, raised: u64, seen: u64, changed: bool) {
        let mut interrupts = lock(&self.interrupts);
        self.raised.store(raised, Ordering::SeqCst);
        interrupts.seen = seen;
        interrupts.acknowledged = 0;
        self.config_changed.store(changed, Ordering::SeqCst);
    }

    /// Raises the interrupt again, if one waits for the driver: what an interrupt controller has of it may have been lost on its way
    /// there. A driver that has seen it already finds nothing in the status.
    pub(super) fn raise_again(&self) {
        let (raised, _, changed) = self.unacknowledged();
        if raised > 0 || changed {
            self.raise();
        }
    }

    pub(super) fn forget(&self) {
        let mut interrupts = lock(&self.interrupts);
        // An acknowledgement from before the reset must not count for what comes after it.
        let _ = self.acknowledged.read();
        interrupts.seen = self.raised.load(Ordering::SeqCst);
        interrupts.acknowledged = interrupts.seen;
        self.config_changed.store(false, Ordering::SeqCst);
        self.status.store(0, Ordering::SeqCst);
    }
}
