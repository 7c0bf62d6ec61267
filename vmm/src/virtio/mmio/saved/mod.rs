// SPDX-License-Identifier: Apache-2.0
//! A device in a snapshot: its registers, how far its queues have come, what it holds itself. Everything in it was the guest's to
//! choose and is judged as when the guest sets it: a queue that cannot be is refused, and what lies in memory is looked at when it is
//! used.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use racklet_api::vmm::console::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Queue;
use super::shared::Order;
use super::{DRIVER_OK, Engine, F_EVENT_IDX, FAILED, FEATURES_OK, Window};
use crate::lock::lock;

/// A device, as the file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceState {
    /// Its type (virtio 1.2, 5).
    kind: u32,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<QueueState>,
    /// Interrupts beyond those that the driver has acknowledged: raised…
    raised: u64,
    /// …and shown to it.
    seen: u64,
    configuration_changed: bool,
    /// The configuration space that the driver may have read.
    configuration: Bytes,
    /// The device's own.
    device: Value,
}

/// A queue, as the driver has set it up, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueState {
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    on: bool,
    next_available: u16,
    next_used: u16,
    signalled: Option<u16>,
}

/// Why a device cannot go on from what was saved of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another kind, or number of queues.
    #[error("it is a device of another kind: give the machine its disks and cards as they were")]
    Kind,
    /// The driver relies on what this one does not do.
    #[error("its driver uses features {0:#x}, which this device does not have")]
    Features(u64),
    /// A queue that cannot be.
    #[error("its queue {0} cannot be")]
    Queue(usize),
    /// The status is none that a driver can have reached.
    #[error("its status {0:#x} cannot be")]
    Status(u32),
    /// The device says why.
    #[error("{0}")]
    Device(String),
}

/// Whether a driver has started the device and not given it up.
fn runs(status: u32) -> bool {
    status & (DRIVER_OK | FAILED) == DRIVER_OK
}

impl DeviceState {
    /// The device's type (virtio 1.2, 5).
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.kind
    }
}

impl Window {
    /// Lets the device stand still and gives what there is to save of it. Waits for what is under way. No vCPU may run.
    ///
    /// # Panics
    /// Never: the order is carried out before `send` returns.
    #[must_use]
    pub fn hold(&self) -> DeviceState {
        self.hold_through(|order| self.shared.send(order))
    }

    /// The same for who has the [`Engine`] on the same thread.
    pub(crate) fn hold_through(&self, carry_out: impl FnOnce(Order)) -> DeviceState {
        let registers = lock(&self.registers);
        let slot = Arc::new(Mutex::new(None));
        carry_out(Order::Hold(slot.clone()));
        let held = lock(&slot).take().expect("the order was carried out");
        let (raised, seen, configuration_changed) = self.shared.unacknowledged();
        let status = self.status();
        let configuration = Bytes(held.config);
        let queues = registers.queues.iter().zip(held.queues);
        let queues = queues.map(|((setup, on), progress)| {
            // Before the start only the registers know of a queue, and it has not moved.
            let started = runs(status) && on.is_some();
            let (next_available, next_used, signalled) =
                if started { progress } else { (0, 0, None) };
            QueueState {
                size: setup.size,
                descriptors: setup.descriptors,
                available: setup.available,
                used: setup.used,
                on: on.is_some(),
                next_available,
                next_used,
                signalled,
            }
        });
        DeviceState {
            kind: self.id,
            status,
            device_features_select: registers.device_features_select,
            driver_features_select: registers.driver_features_select,
            driver_features: registers.driver_features,
            queue_select: registers.queue_select,
            queues: queues.collect(),
            raised,
            seen,
            configuration_changed,
            configuration,
            device: held.device,
        }
    }

    /// Lets the device go on that stands still.
    pub fn go(&self) {
        self.shared.send(Order::Go);
    }

    /// Makes a device that no driver has found the saved one, before its thread runs. Whether it has an interrupt to raise again is
    /// for [`raise_again`](Window::raise_again), when there is an interrupt controller to take it.
    // untrusted: snapshot_state
    pub fn restore(&self, engine: &mut Engine, saved: &DeviceState) -> Result<(), Misfit> {
        let mut registers = lock(&self.registers);
        if saved.kind != self.id || saved.queues.len() != registers.queues.len() {
            return Err(Misfit::Kind);
        }
        // A driver that gave up (FAILED) may have set any bits with that one, and nothing is done for it but a reset.
        let accepted = saved.status & (FEATURES_OK | FAILED) == FEATURES_OK;
        let runs = runs(saved.status);
        if runs && !accepted {
            return Err(Misfit::Status(saved.status));
        }
        let features = saved.driver_features;
        if accepted && !self.acceptable(features) {
            return Err(Misfit::Features(features & !self.features));
        }
        let mut live = Vec::new();
        for (number, (from, (setup, on))) in
            saved.queues.iter().zip(&mut registers.queues).enumerate()
        {
            (setup.size, setup.descriptors) = (from.size, from.descriptors);
            (setup.available, setup.used) = (from.available, from.used);
            let mut queue = Queue::off();
            if from.on {
                queue = setup
                    .queue(&self.memory, features & F_EVENT_IDX != 0)
                    .map_err(|_| Misfit::Queue(number))?;
                *on = Some(queue.clone());
                queue.go_on_from((from.next_available, from.next_used, from.signalled));
            }
            live.push(queue);
        }
        registers.device_features_select = saved.device_features_select;
        registers.driver_features_select = saved.driver_features_select;
        registers.driver_features = features;
        registers.queue_select = saved.queue_select;
        self.shared.status.store(saved.status, Ordering::SeqCst);
        let active = runs.then_some((features, live));
        let another = engine
            .resume(active, &saved.device, &saved.configuration.0)
            .map_err(Misfit::Device)?;
        let changed = saved.configuration_changed || (runs && another);
        self.shared
            .resume_interrupts(saved.raised, saved.seen, changed);
        Ok(())
    }

    /// Raises the interrupt that its driver has not acknowledged, if there is one.
    pub fn raise_again(&self) {
        self.shared.raise_again();
    }
}

#[cfg(test)]
mod tests;
