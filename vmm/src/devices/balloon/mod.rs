// SPDX-License-Identifier: Apache-2.0
//! A balloon (virtio 1.2, 5.5): memory of the guest goes back to the host.
//!
//! Two ways, and both are the guest's doing. It fills the balloon with pages that it does without, as far as the host asks for (the
//! target, a number in the configuration); and it reports pages that happen to be free, unasked. In either case it may use a page
//! again at any time without a word, and finds zeros there.
//!
//! What is named is judged as any other claim: numbers outside of memory and requests that cannot be go back undone and are counted.
//! Pages that the guest still needs (its kernel, the rings of a queue) are its own loss.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vm_memory::{GuestAddress, GuestMemoryBackend};

pub use account::{Account, Statistics};

use crate::memory::Memory;
use crate::virtio::{Budget, Chain, Device, Fault, Queue, Turn};

mod account;

/// For a Linux guest's command line: free areas of 128 KiB and more are reported. Unasked, it is those of `pageblock_order`, 2 or 4 MiB,
/// and none at all before 32 of them are free at once (`page_reporting_process_zone`, mm/page_reporting.c): 128 MiB, which a small guest
/// never has. A kernel without reports passes over it.
pub const ARGUMENT: &str = "page_reporting.page_reporting_order=5";

/// Token of a host event: have the driver make its statistics anew.
pub const ASK: u32 = 0;

/// Bytes of a page as the driver counts them, whatever the pages of guest and host are (5.5.6).
const PAGE: u64 = 4096;
/// What the configuration is counted in, per MiB.
const PER_MIB: u32 = 256;

const F_STATISTICS: u64 = 1 << 1;
/// The driver may take pages out of the balloon before a program of the guest is killed for want of memory.
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
const F_REPORTING: u64 = 1 << 5;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// The statistics', where the driver accepted them. The reports' queue is the fifth by the specification; Linux leaves out those that
/// were not accepted and counts on (`virtio_mmio.c`, `queue_idx`), so that any behind the first two may be theirs.
const STATISTICS: usize = 2;
/// Linux wants room for 32 segments in a report.
const QUEUE: u16 = 64;

/// Most page numbers of a request: 4 times what Linux puts into one.
const MOST_NUMBERS: usize = 1024;
/// Most bytes of a request for statistics that are looked at: 25 of them, of 10 bytes each; Linux has 16.
const MOST_STATISTICS: usize = 250;
/// Bytes that are given back in one call: some milliseconds where all are in 4-KiB pages.
const PIECE: u64 = 8 << 20;
/// A turn ends when that many bytes have gone back…
const TURN: u64 = 32 << 20;
/// …where each call is worth at least these: some microseconds whatever its length.
const CALL: u64 = 128 << 10;
const REQUESTS: u32 = 64;

/// What the driver has said of its balloon. How large it is to be is the new machine's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    actual: u32,
}

/// The device.
pub struct Balloon {
    account: Account,
    /// The target and what the driver says it has reached, each in pages of 4 KiB.
    config: [u8; 8],
    statistics: bool,
    reporting: bool,
    /// A report of which only so many bytes have gone back, and its queue.
    report: Option<(usize, Chain, u64)>,
    /// The driver's buffer for statistics, which goes back when they are wanted anew.
    buffer: Option<Chain>,
}

impl Balloon {
    /// A balloon whose target is in `account`, and which says there what became of it.
    #[must_use]
    pub fn new(account: Account) -> Balloon {
        let mut balloon = Balloon {
            account,
            config: [0; 8],
            statistics: false,
            reporting: false,
            report: None,
            buffer: None,
        };
        balloon.refresh();
        balloon
    }

    /// What the driver says it has reached.
    fn actual(&self) -> u32 {
        let [_, _, _, _, a0, a1, a2, a3] = self.config;
        u32::from_le_bytes([a0, a1, a2, a3])
    }

    /// Takes requests of page numbers: the pages are to be in the balloon, or out of it again.
    fn numbers(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
        budget: &mut Budget,
        inflate: bool,
    ) -> Result<(), Fault> {
        while let Some(chain) = queue.pop(memory, budget)? {
            let mut bytes = [0; 4 * MOST_NUMBERS];
            let mut numbers = [0; MOST_NUMBERS];
            let good = numbers_of(&chain, memory, &mut bytes, &mut numbers);
            let Some(numbers) = good else {
                queue.refuse(memory, chain)?;
                continue;
            };
            if inflate {
                for run in runs(numbers) {
                    let len = run.end - run.start;
                    budget.bytes(len.max(CALL));
                    if !self.give_back(memory, GuestAddress(run.start), len) {
                        queue.count_failed();
                    }
                }
            }
            queue.push(memory, chain, 0)?;
        }
        Ok(())
    }

    /// Takes reports of free pages, and goes on with the one whose turn ended.
    fn reports(
        &mut self,
        number: usize,
        queue: &mut Queue,
        memory: &Memory,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        loop {
            let (chain, mut done) = match self.report.take() {
                Some((of, chain, done)) if of == number => (chain, done),
                other => {
                    self.report = other;
                    match queue.pop(memory, budget)? {
                        Some(chain) => (chain, 0),
                        None => return Ok(()),
                    }
                }
            };
            // A driver that reports more than there is has reported some of it twice.
            let len = chain.writable_len();
            if !self.reporting || len == 0 || len > memory.size() {
                queue.refuse(memory, chain)?;
                continue;
            }
            while let Some(part) = chain.writable(done, PIECE).next() {
                if !budget.request() {
                    self.report = Some((number, chain, done));
                    return Ok(());
                }
                let len = u64::from(part.len);
                budget.bytes(len.max(CALL));
                if !self.give_back(memory, part.address, len) {
                    queue.count_failed();
                }
                done += len;
            }
            queue.push(memory, chain, 0)?;
        }
    }

    /// Reads the statistics that came, and keeps the buffer.
    fn statistics(
        &mut self,
        queue: &mut Queue,
        memory: &Memory,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        while let Some(chain) = queue.pop(memory, budget)? {
            let mut bytes = [0; MOST_STATISTICS];
            let len = chain.read(memory, 0, &mut bytes);
            self.account.tell(Statistics::parse(&bytes[..len]));
            // A driver has one; whoever gives more gets those before it back.
            if let Some(before) = self.buffer.replace(chain) {
                queue.push(memory, before, 0)?;
            }
        }
        Ok(())
    }

    /// False where the host did not take them.
    fn give_back(&self, memory: &Memory, address: GuestAddress, len: u64) -> bool {
        let given = memory.give_back(address, len);
        self.account.add_given(*given.as_ref().unwrap_or(&0));
        given.is_ok()
    }
}

/// The page numbers of a request, in order; nothing where it is none, or names a page that is not memory.
// untrusted: virtio_devices
fn numbers_of<'n>(
    chain: &Chain,
    memory: &Memory,
    bytes: &mut [u8; 4 * MOST_NUMBERS],
    numbers: &'n mut [u32; MOST_NUMBERS],
) -> Option<&'n [u32]> {
    let len = usize::try_from(chain.readable_len()).ok()?;
    if len == 0 || len % 4 != 0 || len > bytes.len() {
        return None;
    }
    // One copy: the guest cannot change a number between its check and its use.
    chain.read(memory, 0, &mut bytes[..len]);
    let numbers = &mut numbers[..len / 4];
    for (number, raw) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        *number = u32::from_le_bytes(raw.try_into().expect("4 of them"));
    }
    numbers.sort_unstable();
    let there = |number: &u32| {
        let first = GuestAddress(u64::from(*number) * PAGE);
        memory.address_in_range(first)
    };
    numbers.iter().all(there).then_some(numbers)
}

/// Addresses that follow each other, from numbers in order of which some may be named more than once. No page of memory has a
/// neighbour in another region (`arch::ram`), so that a run lies in one.
fn runs(mut numbers: &[u32]) -> impl Iterator<Item = Range<u64>> {
    std::iter::from_fn(move || {
        let (first, mut last) = (*numbers.first()?, *numbers.first()?);
        while let Some(next) = numbers.first()
            && *next - last <= 1
        {
            last = *next;
            numbers = &numbers[1..];
        }
        Some(u64::from(first) * PAGE..(u64::from(last) + 1) * PAGE)
    })
}

impl Device for Balloon {
    fn id(&self) -> u32 {
        5
    }

    fn features(&self) -> u64 {
        F_STATISTICS | F_DEFLATE_ON_OOM | F_REPORTING
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE; 5]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn writable(&self) -> Range<usize> {
        4..8
    }

    fn configure(&mut self, at: usize, bytes: &[u8]) {
        self.config[at..at + bytes.len()].copy_from_slice(bytes);
        self.account.reach(self.actual());
    }

    fn refresh(&mut self) {
        let target = self.account.target_mib().saturating_mul(PER_MIB);
        self.config[..4].copy_from_slice(&target.to_le_bytes());
    }

    fn activate(&mut self, features: u64) {
        self.statistics = features & F_STATISTICS != 0;
        self.reporting = features & F_REPORTING != 0;
    }

    fn reset(&mut self) {
        (self.report, self.buffer) = (None, None);
        self.config[4..].fill(0);
        self.account.reset();
    }

    fn queue_off(&mut self, queue: usize) {
        if matches!(self.report, Some((of, _, _)) if of == queue) {
            self.report = None;
        }
        if queue == STATISTICS {
            self.buffer = None;
        }
    }

    fn notify(&mut self, _: usize, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.more(queues, memory)
    }

    fn host_event(
        &mut self,
        _token: u32,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        if let Some(buffer) = self.buffer.take() {
            queues[STATISTICS].push(memory, buffer, 0)?;
        }
        Ok(Turn::Done)
    }

    /// A report of which a part has gone back is the next one again, and so is the buffer for statistics.
    fn save(&mut self, queues: &mut [Queue]) -> Value {
        if let Some((of, chain, _)) = self.report.take() {
            queues[of].put_back(chain);
        }
        if let Some(chain) = self.buffer.take() {
            queues[STATISTICS].put_back(chain);
        }
        json!(Saved {
            actual: self.actual(),
        })
    }

    fn restore(&mut self, saved: &Value) -> Result<(), String> {
        let saved = Saved::deserialize(saved).map_err(|e| format!("no balloon was saved: {e}"))?;
        self.config[4..].copy_from_slice(&saved.actual.to_le_bytes());
        self.account.reach(saved.actual);
        Ok(())
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        let mut budget = Budget::new(REQUESTS, TURN);
        for (number, queue) in queues.iter_mut().enumerate() {
            match number {
                INFLATE | DEFLATE => {
                    self.numbers(queue, memory, &mut budget, number == INFLATE)?;
                }
                STATISTICS if self.statistics => self.statistics(queue, memory, &mut budget)?,
                _ => self.reports(number, queue, memory, &mut budget)?,
            }
        }
        Ok(budget.turn())
    }
}

#[cfg(test)]
mod tests;
