// SPDX-License-Identifier: Apache-2.0
//! A split virtqueue (virtio 1.2, 2.7) with event indices.

use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{Budget, Chain, Fault};
use crate::memory::{Memory, Segment};

/// What a driver says of a queue before it switches it on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// The queue's number, for messages.
    number: u16,
    max: u16,
    pub(super) size: u16,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl Setup {
    /// Of a queue that the driver has not touched, which can have up to `max` entries.
    pub(super) fn new(number: u16, max: u16) -> Setup {
        Setup {
            number,
            max,
            size: max,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    pub(super) fn max(&self) -> u16 {
        self.max
    }

    /// The queue, if it can be: a power of two of entries, at most what was offered, and rings that lie in memory.
    pub(super) fn queue(&self, memory: &Memory, event_index: bool) -> Result<Queue, Fault> {
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
        if !(good && placed) {
            return Err(Fault::Setup(self.number));
        }
        Ok(Queue {
            ready: true,
            size: self.size,
            descriptors: self.descriptors,
            available: self.available,
            used: self.used,
            event_index,
            ..Queue::off()
        })
    }
}

/// How many requests of a queue came to which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Given back.
    pub(super) returned: u64,
    /// …of these, unserved for their form.
    pub(super) refused: u64,
    /// Not served by the host's side.
    pub(super) failed: u64,
    /// How often something had to wait for the device's rate.
    pub(super) throttled: u64,
}

impl Seen {
    pub(super) fn add(&mut self, more: Seen) {
        self.returned += more.returned;
        self.refused += more.refused;
        self.failed += more.failed;
        self.throttled += more.throttled;
    }
}

/// A queue and its progress.
#[derive(Debug, Clone)]
pub struct Queue {
    ready: bool,
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    event_index: bool,
    next_available: Wrapping<u16>,
    next_used: Wrapping<u16>,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: Wrapping<u16>,
    signalled_valid: bool,
    seen: Seen,
    /// Lists of segments of requests that were given back, for those to come: at most [`SPARE`].
    spare: Vec<Vec<Segment>>,
}

/// A device holds one request at a time, and a card as many buffers as a frame needs.
const SPARE: usize = 64;

impl Queue {
    /// A queue that is not switched on: it gives and takes nothing.
    #[must_use]
    pub fn off() -> Queue {
        Queue {
            ready: false,
            size: 0,
            descriptors: 0,
            available: 0,
            used: 0,
            event_index: false,
            next_available: Wrapping(0),
            next_used: Wrapping(0),
            signalled: Wrapping(0),
            signalled_valid: false,
            seen: Seen::default(),
            spare: Vec::new(),
        }
    }

    /// A queue as a driver has set it up.
    #[cfg(test)]
    pub(crate) fn enabled(memory: &Memory, size: u16, rings: [u64; 3]) -> Queue {
        let [descriptors, available, used] = rings;
        let setup = Setup {
            size,
            descriptors,
            available,
            used,
            ..Setup::new(0, 128)
        };
        setup.queue(memory, false).expect("the rings are in memory")
    }

    /// The next request; `None` when there is none (the driver will then notify), when the budget is spent, or the queue is off.
    /// Those before it whose form is wrong have gone back.
    pub fn pop(&mut self, memory: &Memory, budget: &mut Budget) -> Result<Option<Chain>, Fault> {
        while let Some(head) = self.next_head(memory, budget)? {
            let segments = self.spare.pop().unwrap_or_default();
            match Chain::walk_into(segments, memory, self.descriptors, self.size, head) {
                Ok(chain) => return Ok(Some(chain)),
                Err(_) => {
                    self.seen.refused += 1;
                    self.add_head(memory, head, 0)?;
                    self.publish(memory)?;
                }
            }
        }
        Ok(None)
    }

    fn next_head(&mut self, memory: &Memory, budget: &mut Budget) -> Result<Option<u16>, Fault> {
        if self.available(memory)? == 0 {
            if !self.ready || !self.event_index {
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
            if self.available(memory)? == 0 {
                return Ok(None);
            }
        }
        if !budget.request() {
            return Ok(None);
        }
        let slot = self.available + 4 + 2 * u64::from(self.next_available.0 & (self.size - 1));
        let head = self.load(memory, slot, Ordering::Relaxed)?;
        if head >= self.size {
            return Err(Fault::NoSuchHead(head));
        }
        self.next_available += 1;
        Ok(Some(head))
    }

    /// How far it has come: the next request to take, the next to give back, and where the driver was last considered for an
    /// interrupt, if it was.
    pub(super) fn progress(&self) -> (u16, u16, Option<u16>) {
        let signalled = self.signalled_valid.then_some(self.signalled.0);
        (self.next_available.0, self.next_used.0, signalled)
    }

    /// A queue that was just set up goes on from there. Any three numbers are a place in it.
    pub(super) fn go_on_from(&mut self, (available, used, signalled): (u16, u16, Option<u16>)) {
        self.next_available = Wrapping(available);
        self.next_used = Wrapping(used);
        self.signalled = Wrapping(signalled.unwrap_or(0));
        self.signalled_valid = signalled.is_some();
    }

    /// How many requests the driver has made available that were not taken.
    pub fn available(&self, memory: &Memory) -> Result<u16, Fault> {
        if !self.ready {
            return Ok(0);
        }
        let index = Wrapping(self.load(memory, self.available + 2, Ordering::Acquire)?);
        let waiting = (index - self.next_available).0;
        if waiting > self.size {
            Err(Fault::Runaway(waiting))
        } else {
            Ok(waiting)
        }
    }

    /// Gives a request back, with `len` bytes written into it.
    pub fn push(&mut self, memory: &Memory, chain: Chain, len: u32) -> Result<(), Fault> {
        self.add_used(memory, chain, len)?;
        self.publish(memory)
    }

    /// Counts a request that goes back with its device's own word for "refused".
    pub fn count_refused(&mut self) {
        self.seen.refused += 1;
    }

    /// Counts a good request that the host's side did not serve.
    pub fn count_failed(&mut self) {
        self.seen.failed += 1;
    }

    /// Counts that a request, a part of one, or a frame has to wait for the device's rate.
    pub fn count_throttled(&mut self) {
        self.seen.throttled += 1;
    }

    /// Puts back the request that was taken last and of which nothing was done: it is the next one that is taken, as its driver
    /// describes it by then.
    pub fn put_back(&mut self, chain: Chain) {
        if self.ready {
            self.next_available -= 1;
        }
        self.keep(chain);
    }

    fn keep(&mut self, chain: Chain) {
        if self.spare.len() < SPARE {
            self.spare.push(chain.into_segments());
        }
    }

    /// Gives back a request that the device cannot serve, with nothing written into it, and counts it.
    pub fn refuse(&mut self, memory: &Memory, chain: Chain) -> Result<(), Fault> {
        self.seen.refused += 1;
        self.push(memory, chain, 0)
    }

    /// As [`Queue::push`], but the driver sees nothing before [`Queue::publish`].
    pub fn add_used(&mut self, memory: &Memory, chain: Chain, len: u32) -> Result<(), Fault> {
        let head = chain.head();
        self.keep(chain);
        self.add_head(memory, head, len)
    }

    fn add_head(&mut self, memory: &Memory, head: u16, len: u32) -> Result<(), Fault> {
        if !self.ready {
            return Ok(()); // switched off since it was taken: its rings are the driver's again
        }
        let address = self.used + 4 + 8 * u64::from(self.next_used.0 & (self.size - 1));
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        entry[4..].copy_from_slice(&len.to_le_bytes());
        memory
            .write_slice(&entry, GuestAddress(address))
            .map_err(|_| Fault::OutsideMemory { address, len: 8 })?;
        self.next_used += 1;
        self.seen.returned += 1;
        Ok(())
    }

    /// What happened since the last call.
    pub(super) fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    /// Shows the driver what was added.
    pub fn publish(&mut self, memory: &Memory) -> Result<(), Fault> {
        if !self.ready {
            return Ok(());
        }
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
        Ok(!known || passed(wish, old, self.next_used))
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

/// Whether an index that went from `old` to `new`, which are never all 65,536 apart, left `wish` behind it (virtio 1.2, 2.7.10;
/// `vring_need_event` of Linux).
fn passed(wish: Wrapping<u16>, old: Wrapping<u16>, new: Wrapping<u16>) -> bool {
    new - wish - Wrapping(1) < new - old
}

#[cfg(test)]
mod every;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Driver, test_memory};
    use crate::virtio::Turn;

    fn pop(queue: &mut Queue, memory: &Memory) -> Result<Option<Chain>, Fault> {
        queue.pop(memory, &mut Budget::new(1, 1))
    }

    #[test]
    fn requests_come_and_go_past_the_wrap_of_the_indices() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        for round in 0..70_000u32 {
            driver.offer(&memory, &[(0x8000, 4, false)]);
            let chain = pop(&mut queue, &memory).unwrap().unwrap();
            let head = chain.head();
            queue.push(&memory, chain, round).unwrap();
            assert_eq!(driver.collect(&memory), Some((head, round)));
            assert_eq!(pop(&mut queue, &memory).unwrap(), None);
        }
    }

    #[test]
    fn a_request_that_was_put_back_is_the_next_one() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        for _ in 0..2 {
            driver.offer(&memory, &[(0x8000, 4, false)]);
        }
        for expected in [0, 1] {
            for _ in 0..3 {
                let chain = pop(&mut queue, &memory).unwrap().unwrap();
                assert_eq!(chain.head(), expected);
                queue.put_back(chain);
            }
            let chain = pop(&mut queue, &memory).unwrap().unwrap();
            queue.push(&memory, chain, 0).unwrap();
            assert_eq!(driver.collect(&memory), Some((expected, 0)));
        }
        assert_eq!(pop(&mut queue, &memory).unwrap(), None);
    }

    #[test]
    fn an_index_that_ran_ahead_is_a_fault() {
        let memory = test_memory();
        let driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        driver.set_available_index(&memory, 9);
        assert_eq!(pop(&mut queue, &memory), Err(Fault::Runaway(9)));
        driver.set_available_index(&memory, u16::MAX);
        assert_eq!(pop(&mut queue, &memory), Err(Fault::Runaway(u16::MAX)));
    }

    #[test]
    fn a_request_of_a_wrong_form_goes_back_empty_and_the_next_is_served() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        driver.offer(&memory, &[(1 << 40, 4, false)]);
        driver.offer(&memory, &[(0x8000, 0, true)]);
        driver.offer(&memory, &[(0x8000, 4, false)]);
        let mut budget = Budget::new(3, 1);
        let chain = queue.pop(&memory, &mut budget).unwrap().unwrap();
        assert_eq!((chain.head(), queue.take_seen().refused), (2, 2));
        assert_eq!(driver.collect(&memory), Some((0, 0)));
        assert_eq!(driver.collect(&memory), Some((1, 0)));
        assert_eq!(driver.collect(&memory), None);
    }

    #[test]
    fn a_head_that_does_not_exist_is_a_fault() {
        let memory = test_memory();
        let driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        let [_, available, _] = driver.rings();
        memory
            .write_obj(8_u16, GuestAddress(available + 4))
            .unwrap();
        driver.set_available_index(&memory, 1);
        assert_eq!(pop(&mut queue, &memory), Err(Fault::NoSuchHead(8)));
    }

    #[test]
    fn a_queue_with_impossible_places_is_not_enabled() {
        let memory = test_memory();
        let [descriptors, available, used] = Driver::new(&memory, 8).rings();
        let good = Setup {
            size: 8,
            descriptors,
            available,
            used,
            ..Setup::new(0, 128)
        };
        assert!(good.queue(&memory, true).is_ok());
        let cases: &[fn(&mut Setup)] = &[
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
            let mut setup = good;
            spoil(&mut setup);
            let fault = setup.queue(&memory, true).err();
            assert_eq!(fault, Some(Fault::Setup(0)), "case {i}");
        }
        let mut off = Queue::off();
        assert_eq!(
            pop(&mut off, &memory),
            Ok(None),
            "an off queue gives nothing"
        );
    }

    #[test]
    fn no_more_is_taken_than_the_budget_allows() {
        let memory = test_memory();
        let mut driver = Driver::new(&memory, 8);
        let mut queue = driver.queue(&memory);
        for _ in 0..3 {
            driver.offer(&memory, &[(0x8000, 4, false)]);
        }
        let mut budget = Budget::new(2, 100);
        let mut taken = 0;
        while queue.pop(&memory, &mut budget).unwrap().is_some() {
            taken += 1;
        }
        assert_eq!((taken, budget.turn()), (2, Turn::More));
        let mut budget = Budget::new(2, 100);
        assert!(queue.pop(&memory, &mut budget).unwrap().is_some());
        assert!(queue.pop(&memory, &mut budget).unwrap().is_none());
        assert_eq!(budget.turn(), Turn::Done, "there is nothing left");
    }

    #[test]
    fn interrupts_follow_the_drivers_wish() {
        let memory = test_memory();
        for event_index in [false, true] {
            let mut driver = Driver::new(&memory, 8);
            let mut queue = driver.queue(&memory);
            queue.event_index = event_index;
            assert!(
                !queue.needs_interrupt(&memory).unwrap(),
                "nothing was given back"
            );
            let serve = |driver: &mut Driver, queue: &mut Queue| {
                driver.offer(&memory, &[(0x8000, 4, false)]);
                let chain = pop(queue, &memory).unwrap().unwrap();
                queue.push(&memory, chain, 0).unwrap();
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
