// SPDX-License-Identifier: Apache-2.0
//! A split virtqueue (virtio 1.2, 2.7) with event indices.

use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{Chain, Fault};
use crate::memory::Memory;

/// Configuration and progress of one queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// This queue's number, for messages.
    number: u16,
    max: u16,
    pub(super) size: u16,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    event_index: bool,
    next_available: Wrapping<u16>,
    next_used: Wrapping<u16>,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: Wrapping<u16>,
    signalled_valid: bool,
}

impl Queue {
    /// A queue that the driver has not touched.
    #[must_use]
    pub fn new(number: u16, max: u16) -> Queue {
        Queue {
            number,
            max,
            size: max,
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
            event_index: false,
            next_available: Wrapping(0),
            next_used: Wrapping(0),
            signalled: Wrapping(0),
            signalled_valid: false,
        }
    }

    /// A queue as a driver has set it up.
    #[cfg(test)]
    pub(crate) fn enabled(memory: &Memory, size: u16, rings: [u64; 3]) -> Queue {
        let mut queue = Queue::new(0, 128);
        queue.size = size;
        [queue.descriptors, queue.available, queue.used] = rings;
        queue.enable(memory).expect("the rings are in memory");
        queue
    }

    pub(super) fn reset(&mut self) {
        *self = Queue::new(self.number, self.max);
    }

    pub(super) fn max(&self) -> u16 {
        self.max
    }

    /// Judges what the driver has set up. Called when it switches the queue on.
    pub(super) fn enable(&mut self, memory: &Memory) -> Result<(), Fault> {
        let size = u64::from(self.size);
        let good = self.size.is_power_of_two() && self.size <= self.max;
        let placed = [
            (self.descriptors, 16, 16 * size),
            (self.available, 2, 6 + 2 * size),
            (self.used, 4, 6 + 8 * size),
        ]
        .into_iter()
        .all(|(address, align, len)| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            address % align == 0 && memory.get_slice(GuestAddress(address), len).is_ok()
        });
        if good && placed {
            self.ready = true;
            Ok(())
        } else {
            Err(Fault::Setup(self.number))
        }
    }

    pub(super) fn set_event_index(&mut self, on: bool) {
        self.event_index = on;
    }

    /// The next request; `None` when there is none (the driver will then notify), or the queue is off.
    pub fn pop(&mut self, memory: &Memory) -> Result<Option<Chain>, Fault> {
        if !self.ready {
            return Ok(None);
        }
        if self.waiting(memory)? == 0 {
            if !self.event_index {
                return Ok(None);
            }
            // Ask to be told about the next one, then look again: the driver may have added it in between.
            self.store(
                memory,
                self.used + 4 + 8 * u64::from(self.size),
                self.next_available.0,
                Ordering::Relaxed,
            )?;
            fence(Ordering::SeqCst);
            if self.waiting(memory)? == 0 {
                return Ok(None);
            }
        }
        let slot = self.available + 4 + 2 * u64::from(self.next_available.0 & (self.size - 1));
        let head = self.load(memory, slot, Ordering::Relaxed)?;
        let chain = Chain::walk(memory, self.descriptors, self.size, head)?;
        self.next_available += 1;
        Ok(Some(chain))
    }

    fn waiting(&self, memory: &Memory) -> Result<u16, Fault> {
        let index = Wrapping(self.load(memory, self.available + 2, Ordering::Acquire)?);
        let waiting = (index - self.next_available).0;
        if waiting > self.size {
            Err(Fault::Runaway(waiting))
        } else {
            Ok(waiting)
        }
    }

    /// Gives a request back, with `len` bytes written into it.
    pub fn push(&mut self, memory: &Memory, chain: &Chain, len: u32) -> Result<(), Fault> {
        self.add_used(memory, chain.head(), len)?;
        self.publish(memory)
    }

    /// As [`Queue::push`], but the driver sees nothing before [`Queue::publish`].
    pub fn add_used(&mut self, memory: &Memory, head: u16, len: u32) -> Result<(), Fault> {
        let address = self.used + 4 + 8 * u64::from(self.next_used.0 & (self.size - 1));
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        entry[4..].copy_from_slice(&len.to_le_bytes());
        memory
            .write_slice(&entry, GuestAddress(address))
            .map_err(|_| Fault::OutsideMemory { address, len: 8 })?;
        self.next_used += 1;
        Ok(())
    }

    /// Shows the driver what was added.
    pub fn publish(&mut self, memory: &Memory) -> Result<(), Fault> {
        self.store(memory, self.used + 2, self.next_used.0, Ordering::Release)
    }

    /// Whether the driver wants an interrupt for what was given back since the last call.
    pub(super) fn needs_interrupt(&mut self, memory: &Memory) -> Result<bool, Fault> {
        if !self.ready
            || (self.signalled_valid && self.signalled == self.next_used)
            || (!self.signalled_valid && self.next_used.0 == 0)
        {
            return Ok(false);
        }
        let (old, known) = (self.signalled, self.signalled_valid);
        (self.signalled, self.signalled_valid) = (self.next_used, true);
        // The used index must be visible before the driver's wish is read (virtio 1.2, 2.7.7.2).
        fence(Ordering::SeqCst);
        if !self.event_index {
            return Ok(self.load(memory, self.available, Ordering::Relaxed)? & 1 == 0);
        }
        let wish = Wrapping(self.load(
            memory,
            self.available + 4 + 2 * u64::from(self.size),
            Ordering::Relaxed,
        )?);
        Ok(!known || self.next_used - wish - Wrapping(1) < self.next_used - old)
    }

    fn load(&self, memory: &Memory, address: u64, order: Ordering) -> Result<u16, Fault> {
        memory
            .load::<u16>(GuestAddress(address), order)
            .map(u16::from_le)
            .map_err(|_| Fault::OutsideMemory { address, len: 2 })
    }

    fn store(
        &self,
        memory: &Memory,
        address: u64,
        value: u16,
        order: Ordering,
    ) -> Result<(), Fault> {
        memory
            .store(value.to_le(), GuestAddress(address), order)
            .map_err(|_| Fault::OutsideMemory { address, len: 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Driver, test_memory};

    #[test]
    fn requests_come_and_go_past_the_wrap_of_the_indices() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        for round in 0..70_000u32 {
            driver.offer(&memory, &[(0x8000, 4, false)]);
            let chain = queue.pop(&memory).unwrap().unwrap();
            queue.push(&memory, &chain, round).unwrap();
            assert_eq!(driver.collect(&memory), Some((chain.head(), round)));
            assert_eq!(queue.pop(&memory).unwrap(), None);
        }
    }

    #[test]
    fn an_index_that_ran_ahead_is_a_fault() {
        let memory = test_memory();
        let driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        driver.set_available_index(&memory, 9);
        assert_eq!(queue.pop(&memory), Err(Fault::Runaway(9)));
        driver.set_available_index(&memory, u16::MAX);
        assert_eq!(queue.pop(&memory), Err(Fault::Runaway(u16::MAX)));
    }

    #[test]
    fn a_queue_with_impossible_places_is_not_enabled() {
        let memory = test_memory();
        let good = Driver::new(&memory, 8).queue(&memory);
        let cases: &[fn(&mut Queue)] = &[
            |q| q.size = 0,
            |q| q.size = 3,
            |q| q.size = 256,
            |q| q.descriptors += 8,
            |q| q.available += 1,
            |q| q.used += 2,
            |q| q.descriptors = 0x10_0000 - 16,
            |q| q.available = u64::MAX - 1,
            |q| q.used = 0x10_0000,
        ];
        for (i, spoil) in cases.iter().enumerate() {
            let mut queue = good.clone();
            queue.ready = false;
            spoil(&mut queue);
            assert_eq!(queue.enable(&memory), Err(Fault::Setup(0)), "case {i}");
            assert_eq!(queue.pop(&memory), Ok(None), "an off queue gives nothing");
        }
    }

    #[test]
    fn interrupts_follow_the_drivers_wish() {
        let memory = test_memory();
        for event_index in [false, true] {
            let mut driver = Driver::new(&memory, 8);
            let mut queue = driver.queue(&memory);
            queue.set_event_index(event_index);
            assert!(
                !queue.needs_interrupt(&memory).unwrap(),
                "nothing was given back"
            );
            let serve = |driver: &mut Driver, queue: &mut Queue| {
                driver.offer(&memory, &[(0x8000, 4, false)]);
                let chain = queue.pop(&memory).unwrap().unwrap();
                queue.push(&memory, &chain, 0).unwrap();
                queue.needs_interrupt(&memory).unwrap()
            };
            assert!(serve(&mut driver, &mut queue));
            driver.wish(&memory, event_index, 3);
            assert!(!serve(&mut driver, &mut queue), "not yet wanted");
            assert!(!serve(&mut driver, &mut queue) || !event_index);
            if event_index {
                assert!(serve(&mut driver, &mut queue), "the fourth passes index 3");
            }
        }
    }
}
