// SPDX-License-Identifier: Apache-2.0
//! The side of the device's own thread: the device, its queues, and what it is to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::super::queue::Seen;
use super::super::{Device, Fault, Queue, Turn};
use super::shared::{Held, Order, Shared};
use super::{DRIVER_OK, FAILED, NEEDS_RESET};
use crate::lock::lock;
use crate::memory::Memory;

/// A device with its queues. One thread has it; whatever touches the device, its host ends included, happens there.
pub struct Engine {
    device: Box<dyn Device>,
    memory: Memory,
    queues: Vec<Queue>,
    shared: Arc<Shared>,
    last_fault: Option<Fault>,
    /// The configuration has changed since the last reset while no driver was ready to be told: it may have read what was before.
    untold: bool,
    /// Stands still: no turn is given.
    held: bool,
}

impl Engine {
    pub(super) fn new(device: Box<dyn Device>, memory: Memory, shared: Arc<Shared>) -> Engine {
        let mut engine = Engine {
            device,
            memory,
            queues: Vec::new(),
            shared,
            last_fault: None,
            untold: false,
            held: false,
        };
        engine.queues_off();
        engine
    }

    fn queues_off(&mut self) {
        self.queues.clear();
        let count = self.device.queue_sizes().len();
        self.queues.resize_with(count, Queue::off);
    }

    /// The rule the guest broke last, if it did.
    #[must_use]
    pub fn last_fault(&self) -> Option<Fault> {
        self.last_fault
    }

    /// A restored driver's device goes on, before its thread runs. Says whether its configuration is another one than `config`, which
    /// the driver has seen.
    pub(super) fn resume(
        &mut self,
        active: Option<(u64, Vec<Queue>)>,
        saved: &Value,
        config: &[u8],
    ) -> Result<bool, String> {
        if let Some((features, queues)) = active {
            self.device.activate(features);
            self.queues = queues;
        }
        self.device.restore(saved)?;
        self.show_config();
        Ok(self.device.config() != config)
    }

    /// Whether a driver runs it.
    #[must_use]
    pub fn active(&self) -> bool {
        let status = self.shared.status.load(Ordering::SeqCst);
        status & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK
    }

    /// Carries out the order that waits, if one does. To be called between turns, and when the thread is woken for it.
    pub fn receive(&mut self) -> Turn {
        let shared = self.shared.clone();
        let mut turn = Turn::Done;
        shared.receive(|order| turn = self.obey(order));
        turn
    }

    /// Carries out an order.
    pub fn obey(&mut self, order: Order) -> Turn {
        match order {
            Order::Activate { features, queues } => {
                self.device.activate(features);
                self.queues = queues;
                self.shared.status.fetch_or(DRIVER_OK, Ordering::SeqCst);
                if std::mem::take(&mut self.untold) {
                    self.shared.raise_config_change();
                }
                // What happened on the host side before was not told, and a driver may have offered requests already.
                return Turn::More;
            }
            Order::Reset => {
                self.device.reset();
                self.queues_off();
                self.shared.count_reset();
                self.shared.forget();
                self.show_config();
                self.untold = false;
            }
            Order::Configure { at, bytes } => {
                self.device.configure(at, &bytes);
                // The driver's own doing: it is not told.
                self.show_config();
            }
            Order::Off(queue) => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    *queue = Queue::off();
                }
                self.device.queue_off(queue);
            }
            Order::Hold(to) => {
                let device = self.device.save(&mut self.queues);
                let queues = self.queues.iter().map(Queue::progress).collect();
                *lock(&to) = Some(Held {
                    device,
                    config: self.device.config().to_vec(),
                    queues,
                });
                self.held = true;
            }
            Order::Go => {
                self.held = false;
                return Turn::More;
            }
        }
        Turn::Done
    }

    /// The driver notified this queue.
    pub fn notify(&mut self, queue: usize) -> Turn {
        if queue >= self.queues.len() {
            return Turn::Done;
        }
        self.turn(|device, queues, memory| device.notify(queue, queues, memory))
    }

    /// Something happened on the host side of the device.
    pub fn host_event(&mut self, token: u32) -> Turn {
        self.turn(|device, queues, memory| device.host_event(token, queues, memory))
    }

    /// Goes on where the budget of the last turn ended.
    pub fn more(&mut self) -> Turn {
        self.turn(|device, queues, memory| device.more(queues, memory))
    }

    /// Something that the configuration tells of has changed on the host side; a driver need not be there.
    pub fn refresh(&mut self) {
        self.device.refresh();
        self.settle_config();
    }

    fn show_config(&self) -> bool {
        self.shared.config.show(self.device.config())
    }

    /// Shows the driver a configuration that has changed, and tells it.
    fn settle_config(&mut self) {
        if !self.show_config() {
            return;
        }
        if self.active() {
            self.shared.raise_config_change();
        } else {
            self.untold = true;
        }
    }

    fn turn(
        &mut self,
        act: impl FnOnce(&mut dyn Device, &mut [Queue], &Memory) -> Result<Turn, Fault>,
    ) -> Turn {
        if self.held || !self.active() {
            return Turn::Done;
        }
        let done = act(&mut *self.device, &mut self.queues, &self.memory);
        let turn = done.unwrap_or_else(|fault| {
            self.fault(fault);
            Turn::Done
        });
        let (mut wanted, mut seen) = (false, Seen::default());
        for queue in &mut self.queues {
            seen.add(queue.take_seen());
            wanted |= queue.needs_interrupt(&self.memory).unwrap_or(false);
        }
        self.settle_config();
        self.shared
            .count_turn(seen, turn == Turn::More && self.device.shares_its_thread());
        if wanted {
            self.shared.raise_used_buffer();
        }
        turn
    }

    fn fault(&mut self, fault: Fault) {
        self.last_fault = Some(fault);
        self.shared.count_fault(fault);
        self.shared.status.fetch_or(NEEDS_RESET, Ordering::SeqCst);
        self.shared.raise_config_change();
    }
}
