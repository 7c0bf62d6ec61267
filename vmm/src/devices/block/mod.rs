// SPDX-License-Identifier: Apache-2.0
//! A disk (virtio 1.2, 5.2) on a file or block device: read, write, flush, discard, write zeroes, identification.
//!
//! Writes reach the host's page cache; a flush is `fdatasync`. Requests are done one after the other on the disk's own thread, which
//! waits for the file as long as it takes.
//!
//! ```text
//! queue --judged (request.rs)--> Job --a step a turn--> ... --the last one, or one that failed--> status, used ring
//! ```
//!
//! A request is done in steps of at most [`STEP`] bytes, each a turn: neither a reset nor an order waits for the whole of one that
//! empties gigabytes. A reset forgets what is left of it, as a power cut does.

use std::io;
use std::sync::Arc;

use racklet_api::vmm::rate::DiskRate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::memory::Memory;
use crate::rate::{self, Knob, Meter, Wait};
use crate::virtio::{Budget, Chain, Device, Fault, Parts, Queue, Turn};

pub use place::{Claim, Order, Orders, Said};
use place::{Medium, gone};
use request::{Kind, Work};

mod file;
mod place;
mod request;

const QUEUE: u16 = 128;
const SECTOR: u64 = 512;
/// Most bytes of a request's data.
const MOST: u64 = 1 << 26;
/// Most bytes of a segment, as the driver is told: as many of these as it is told, 126, are 63 MiB and so below [`MOST`]. Without it,
/// Linux sends as much as its `max_sectors_kb` says.
const SEGMENT: u32 = 512 << 10;
/// Most bytes that one call to the host's kernel moves, empties or zeroes: milliseconds, where the file is in the host's memory.
const STEP: u64 = 16 << 20;
/// Most ranges of a request to discard or to write zeroes, as the driver is told.
const RANGES: usize = 16;
/// Most sectors of each: 1 GiB, so that a request's steps are at most 1,024.
const RANGE_SECTORS: u32 = 1 << 21;
/// Sectors of 4 KiB, the blocks of most file systems: less than one of them is emptied by nobody.
const ALIGNMENT: u32 = 8;

const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_READ_ONLY: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// Bytes of the configuration space (`struct virtio_blk_config`, 5.2.4) up to the last field that is not 0.
const CONFIG: usize = 60;

/// What a disk's bytes are on. Each call blocks until it is done. An error of the kind `Unsupported` says that it cannot be, here.
pub trait Backend: Send {
    /// Reads from `offset` on until every part is full.
    fn read(&self, memory: &Memory, to: Parts<'_>, offset: u64) -> io::Result<()>;
    /// Writes every part from `offset` on.
    fn write(&self, memory: &Memory, from: Parts<'_>, offset: u64) -> io::Result<()>;
    /// What was done before is kept when the power goes.
    fn flush(&self) -> io::Result<()>;
    /// What `length` bytes from `offset` on hold is not needed any more: room for them need not be kept, and they may read as
    /// anything.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;
    /// They read as zeros from now on. Room for them is kept, unless it may be given up.
    fn zero(&self, offset: u64, length: u64, give_up: bool) -> io::Result<()>;
    /// How many bytes there are now.
    fn size(&self) -> io::Result<u64>;
    /// Takes it for one guest, if it can be a disk: one that is written to belongs to that guest alone, one that is read to those who
    /// read. In force until [`release`](Backend::release).
    fn claim(&self, read_only: bool) -> io::Result<Claim>;
    /// Others may have it.
    fn release(&self);
}

/// What the driver knows of a disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    sectors: u64,
    read_only: bool,
}

/// A request of which steps are left.
struct Job {
    chain: Chain,
    work: Work,
    /// The range whose turn it is, and how much of it is done.
    current: usize,
    done: u64,
    /// It was paid for as one request.
    begun: bool,
    /// Its disk was taken out meanwhile.
    lost: bool,
}

/// A disk of whole sectors of 512 bytes; what the file has beyond them is not shown. Or a place for one.
pub struct Block<B> {
    medium: Option<Medium<B>>,
    sectors: u64,
    /// The driver was offered what is for disks that are written. A spare place offers it whatever comes.
    writes: bool,
    /// What the driver accepted.
    features: u64,
    id: [u8; 20],
    config: [u8; CONFIG],
    job: Option<Job>,
    meter: Meter,
    knob: Knob<DiskRate>,
    orders: Option<Arc<Orders<B>>>,
}

impl<B: Backend> Block<B> {
    /// A disk of `size` bytes.
    #[must_use]
    pub fn new(backend: B, size: u64, read_only: bool, serial: &str) -> Block<B> {
        let medium = Medium {
            backend,
            read_only,
            most: size,
        };
        let mut disk = Block::place(Some(medium), size / SECTOR, !read_only);
        disk.name(serial);
        disk
    }

    /// A place without a disk.
    #[must_use]
    pub fn spare() -> Block<B> {
        Block::place(None, 0, true)
    }

    /// The same place with a disk in it from the start on: its driver is offered what it would be without.
    #[must_use]
    pub fn into_spare(self) -> Block<B> {
        let id = self.id;
        Block {
            id,
            ..Block::place(self.medium, self.sectors, true)
        }
    }

    fn place(medium: Option<Medium<B>>, sectors: u64, writes: bool) -> Block<B> {
        let mut config = [0; CONFIG];
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        let mut put = |at: usize, value: u32| {
            config[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(8, SEGMENT);
        // A request adds its header and its status to the data segments.
        put(12, u32::from(QUEUE - 2));
        if writes {
            let ranges = u32::try_from(RANGES).expect("16");
            for (at, value) in [
                (36, RANGE_SECTORS), // to discard
                (40, ranges),
                (44, ALIGNMENT),
                (48, RANGE_SECTORS), // to write zeroes
                (52, ranges),
                (56, 1), // which may give up their room
            ] {
                put(at, value);
            }
        }
        Block {
            medium,
            sectors,
            writes,
            features: 0,
            id: [0; 20],
            config,
            job: None,
            meter: Meter::unlimited(rate::now),
            knob: Knob::default(),
            orders: None,
        }
    }

    /// From now on it is called so.
    fn name(&mut self, serial: &str) {
        self.id = [0; 20];
        for (to, from) in self.id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
    }

    /// Its file may come to have this many bytes.
    pub fn grows(&mut self, most: u64) {
        if let Some(medium) = &mut self.medium {
            medium.most = most;
        }
    }

    /// Whoever orders something of it does so by these.
    pub fn obeys(&mut self, orders: Arc<Orders<B>>) {
        self.orders = Some(orders);
    }

    /// What is there is only read, or there is nothing.
    fn read_only(&self) -> bool {
        self.medium.as_ref().is_none_or(|medium| medium.read_only)
    }

    /// From now on it is only so fast.
    pub fn limit(&mut self, rate: &DiskRate) {
        self.meter.set(rate.bytes, rate.operations);
    }

    /// Sets how fast it is from another thread, with its next [`Device::refresh`].
    #[must_use]
    pub fn knob(&self) -> Knob<DiskRate> {
        self.knob.clone()
    }

    /// What is asked for in this chain, if it can be.
    fn judge(&self, chain: &Chain, memory: &Memory) -> Result<Work, u8> {
        let rules = request::Rules {
            sectors: self.sectors,
            read_only: self.read_only(),
            discard: self.features & F_DISCARD != 0,
            write_zeroes: self.features & F_WRITE_ZEROES != 0,
        };
        request::judge(chain, memory, &rules)
    }

    /// Bytes of a job's next step. No more than what the rate lets pass at once, in whole sectors.
    fn next(&self, job: &Job) -> u64 {
        let most = match job.work.kind {
            Kind::Discard => STEP,
            _ => STEP.min(self.meter.most() / SECTOR * SECTOR),
        };
        let range = job.work.ranges.get(job.current);
        range.map_or(0, |range| (range.length - job.done).min(most))
    }

    /// Pays for a job's next step of so many bytes. A discard moves none, and a request counts as one however many steps it has.
    fn pay(&mut self, job: &mut Job, length: u64) -> Result<(), Wait> {
        let bytes = match job.work.kind {
            Kind::Discard => 0,
            _ => length,
        };
        self.meter.take(bytes, u64::from(!job.begun))?;
        job.begun = true;
        Ok(())
    }

    /// Does the next step of a job, of so many bytes.
    fn step(&self, job: &mut Job, length: u64, memory: &Memory) -> io::Result<()> {
        let Some(range) = job.work.ranges.get(job.current) else {
            return Ok(());
        };
        let (chain, done, at) = (&job.chain, job.done, range.offset + job.done);
        if at + length > self.sectors * SECTOR {
            return Err(io::ErrorKind::UnexpectedEof.into()); // it has become smaller since
        }
        let backend = &self.medium.as_ref().ok_or_else(gone)?.backend;
        match job.work.kind {
            Kind::Read => backend.read(memory, chain.writable(done, length), at)?,
            Kind::Write => {
                let from = chain.readable(request::HEADER as u64 + done, length);
                backend.write(memory, from, at)?;
            }
            Kind::Discard => backend.discard(at, length)?,
            Kind::WriteZeroes => backend.zero(at, length, range.give_up)?,
            Kind::Flush | Kind::Identity => {}
        }
        job.done += length;
        if job.done == range.length {
            (job.current, job.done) = (job.current + 1, 0);
        }
        Ok(())
    }

    /// What was done is kept when the power goes, where the driver was promised that: it asked for it, or it cannot ask (virtio 1.2,
    /// 5.2.6.2).
    fn settle(&self, kind: Kind) -> io::Result<()> {
        let keep = match kind {
            Kind::Read | Kind::Identity => return Ok(()),
            Kind::Flush => true,
            Kind::Write | Kind::Discard | Kind::WriteZeroes => self.features & F_FLUSH == 0,
        };
        let medium = self.medium.as_ref().ok_or_else(gone)?;
        if keep && !medium.read_only {
            medium.backend.flush()
        } else {
            Ok(())
        }
    }

    /// Gives a request back with its status and the bytes written before it. There is at least one writable byte: the status is the
    /// last (5.2.6).
    fn answer(
        queue: &mut Queue,
        memory: &Memory,
        chain: Chain,
        status: u8,
        written: u64,
    ) -> Result<Turn, Fault> {
        chain.write(memory, chain.writable_len() - 1, &[status]);
        let written = u32::try_from(written).expect("at most MOST");
        queue.push(memory, chain, written + 1)?;
        Ok(Turn::More)
    }

    /// Takes the next request from the queue. A job where it takes steps; else it has been answered, or there is none.
    fn begin(&self, queue: &mut Queue, memory: &Memory) -> Result<Result<Job, Turn>, Fault> {
        let mut budget = Budget::new(1, 1);
        let Some(chain) = queue.pop(memory, &mut budget)? else {
            return Ok(Err(budget.turn())); // more where a request of a wrong form was the turn's only one
        };
        if chain.writable_len() == 0 {
            queue.refuse(memory, chain)?; // no place for a status
            return Ok(Err(Turn::More));
        }
        match self.judge(&chain, memory) {
            Ok(work) => Ok(Ok(Job {
                chain,
                work,
                current: 0,
                done: 0,
                begun: false,
                lost: false,
            })),
            Err(status) => {
                queue.count_refused();
                Self::answer(queue, memory, chain, status, 0).map(Err)
            }
        }
    }

    /// Answers a request that has no steps left.
    fn end(
        &self,
        queue: &mut Queue,
        memory: &Memory,
        job: Job,
        done: io::Result<()>,
    ) -> Result<Turn, Fault> {
        let room = job.chain.writable_len() - 1;
        let (status, written) = match (done, job.work.kind) {
            (Ok(()), Kind::Read) => (OK, room),
            (Ok(()), Kind::Identity) => {
                let len = usize::try_from(room).map_or(self.id.len(), |r| r.min(self.id.len()));
                job.chain.write(memory, 0, &self.id[..len]);
                (OK, len as u64)
            }
            (Ok(()), _) => (OK, 0),
            (Err(error), _) => {
                queue.count_failed();
                let cannot = error.kind() == io::ErrorKind::Unsupported;
                (if cannot { UNSUPPORTED } else { IO_ERROR }, 0)
            }
        };
        Self::answer(queue, memory, job.chain, status, written)
    }
}

impl<B: Backend> Device for Block<B> {
    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        let own = if self.writes {
            F_DISCARD | F_WRITE_ZEROES
        } else {
            F_READ_ONLY
        };
        F_SIZE_MAX | F_SEG_MAX | F_FLUSH | own
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn shares_its_thread(&self) -> bool {
        false
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn refresh(&mut self) {
        if let Some(rate) = self.knob.take() {
            self.limit(&rate);
        }
        self.obey();
    }

    fn reset(&mut self) {
        self.job = None;
        self.meter.forget();
    }

    fn queue_off(&mut self, _queue: usize) {
        self.reset();
    }

    /// One step a turn: any of them may take long, and neither the interrupt for the request before nor an order may wait for it.
    fn notify(
        &mut self,
        _queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        let queue = &mut queues[0];
        let mut job = match self.job.take() {
            Some(job) => job,
            None => {
                // A guest that never lets its queue become empty puts off no order: between two requests there is always time.
                self.refresh();
                match self.begin(queue, memory)? {
                    Ok(job) => job,
                    Err(turn) => return Ok(turn),
                }
            }
        };
        if job.lost {
            return self.end(queue, memory, job, Err(gone()));
        }
        let length = self.next(&job);
        if let Err(wait) = self.pay(&mut job, length) {
            if wait.first {
                queue.count_throttled();
            }
            self.job = Some(job);
            return Ok(Turn::At(wait.until));
        }
        let mut done = self.step(&mut job, length, memory);
        if done.is_ok() {
            if job.work.ranges.get(job.current).is_some() {
                self.job = Some(job);
                return Ok(Turn::More);
            }
            done = self.settle(job.work.kind);
        }
        self.end(queue, memory, job, done)
    }

    /// A request of which steps are done is the next one again: to do them twice is to do them once.
    fn save(&mut self, queues: &mut [Queue]) -> Value {
        if let Some(job) = self.job.take() {
            queues[0].put_back(job.chain);
        }
        json!(Saved {
            sectors: self.sectors,
            read_only: self.read_only(),
        })
    }

    fn restore(&mut self, saved: &Value) -> Result<(), String> {
        let saved = Saved::deserialize(saved).map_err(|e| format!("no disk was saved: {e}"))?;
        if self.medium.is_none() && saved.sectors > 0 {
            return Err(
                "a disk was attached in this place when the guest was saved: give the machine that disk there, among `disks`, with `spare`"
                    .to_owned(),
            );
        }
        // Where there is neither a sector nor a disk, nothing is written and nothing read.
        if saved.read_only != self.read_only() && saved.sectors > 0 {
            return Err(
                "a disk that is written and one that is only read are not the same: \
                        give the machine its disks as they were"
                    .to_owned(),
            );
        }
        if saved.sectors > self.sectors {
            return Err(format!(
                "its disk has {} sectors, and the guest knows {}: give it a disk as large as it was",
                self.sectors, saved.sectors
            ));
        }
        Ok(())
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.notify(0, queues, memory)
    }
}

#[cfg(test)]
mod tests;
