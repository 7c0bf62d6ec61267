// SPDX-License-Identifier: Apache-2.0
//! A disk (virtio 1.2, 5.2) on a file or block device: read, write, flush, identification.
//!
//! Writes reach the host's page cache; a flush is `fdatasync`. Requests are done one after the other on the disk's own thread, which
//! waits for the file as long as it takes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::memory::{self, Memory};
use crate::virtio::{Budget, Chain, Device, Fault, Parts, Queue, Turn};

const QUEUE: u16 = 128;
const SECTOR: u64 = 512;
const HEADER: usize = 16;
/// Most bytes of a request's data; it is also as long as a reset may have to wait for a file that is in the host's memory (tens of
/// milliseconds).
const MOST: u64 = 1 << 26;
/// Most bytes of a segment, as the driver is told: as many of these as it is told, 126, are 63 MiB and so below [`MOST`]. Without it,
/// Linux sends as much as its `max_sectors_kb` says.
const SEGMENT: u32 = 512 << 10;

const F_SIZE_MAX: u64 = 1 << 1;
const F_SEG_MAX: u64 = 1 << 2;
const F_READ_ONLY: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// What a disk's bytes are on. Each call blocks until it is done.
pub trait Backend: Send {
    /// Reads from `offset` on until every part is full.
    fn read(&self, memory: &Memory, to: Parts<'_>, offset: u64) -> io::Result<()>;
    /// Writes every part from `offset` on.
    fn write(&self, memory: &Memory, from: Parts<'_>, offset: u64) -> io::Result<()>;
    /// What was written before is kept when the power goes.
    fn flush(&self) -> io::Result<()>;
}

impl Backend for File {
    fn read(&self, memory: &Memory, to: Parts<'_>, offset: u64) -> io::Result<()> {
        memory::read_file(memory, to, self.as_fd(), offset)
    }

    fn write(&self, memory: &Memory, from: Parts<'_>, offset: u64) -> io::Result<()> {
        memory::write_file(memory, from, self.as_fd(), offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// How a request ended.
enum Served {
    /// With so many bytes written before the status.
    Done(u32),
    /// The file did not do it.
    Failed,
    /// It asks for what cannot be: the status for that.
    Refused(u8),
}

/// A disk of whole sectors of 512 bytes; what the file has beyond them is not shown.
pub struct Block<B> {
    backend: B,
    sectors: u64,
    read_only: bool,
    /// The driver cannot flush, so that what it is told is written has to be kept when the power goes (virtio 1.2, 5.2.6.2).
    write_through: bool,
    id: [u8; 20],
    config: [u8; 16],
}

impl<B: Backend> Block<B> {
    /// A disk of `size` bytes.
    #[must_use]
    pub fn new(backend: B, size: u64, read_only: bool, serial: &str) -> Block<B> {
        let sectors = size / SECTOR;
        let mut id = [0; 20];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let mut config = [0; 16];
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        config[8..12].copy_from_slice(&SEGMENT.to_le_bytes());
        // A request adds its header and its status to the data segments.
        config[12..].copy_from_slice(&u32::from(QUEUE - 2).to_le_bytes());
        Block {
            backend,
            sectors,
            read_only,
            write_through: false,
            id,
            config,
        }
    }

    /// Does one request; gives the status and the bytes written before it. Nothing for one that has no place for a status.
    fn serve(&self, chain: &Chain, memory: &Memory) -> Option<Served> {
        let room = chain.writable_len().checked_sub(1)?;
        let mut header = [0; HEADER];
        if chain.read(memory, 0, &mut header) != header.len() {
            return Some(Served::Refused(IO_ERROR));
        }
        let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let given = chain.readable_len() - HEADER as u64;
        let (done, written) = match u32::from_le_bytes([k0, k1, k2, k3]) {
            READ => match self.range(sector, room) {
                Some(at) => (self.backend.read(memory, chain.writable(0, room), at), room),
                None => return Some(Served::Refused(IO_ERROR)),
            },
            WRITE => match self.range(sector, given) {
                Some(at) if !self.read_only => (
                    self.write(memory, chain.readable(HEADER as u64, given), at),
                    0,
                ),
                _ => return Some(Served::Refused(IO_ERROR)),
            },
            FLUSH => (self.flush(), 0),
            GET_ID => {
                let len = usize::try_from(room).map_or(self.id.len(), |r| r.min(self.id.len()));
                chain.write(memory, 0, &self.id[..len]);
                (Ok(()), len as u64)
            }
            _ => return Some(Served::Refused(UNSUPPORTED)),
        };
        Some(match done {
            Ok(()) => Served::Done(u32::try_from(written).expect("at most MOST")),
            Err(_) => Served::Failed,
        })
    }

    fn write(&self, memory: &Memory, from: Parts<'_>, at: u64) -> io::Result<()> {
        self.backend.write(memory, from, at)?;
        if self.write_through {
            return self.backend.flush();
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            Ok(())
        } else {
            self.backend.flush()
        }
    }

    /// Byte offset of a transfer that lies on the disk and is whole sectors.
    fn range(&self, sector: u64, len: u64) -> Option<u64> {
        let count = len / SECTOR;
        let whole = len.is_multiple_of(SECTOR) && count > 0 && len <= MOST;
        let end = sector.checked_add(count)?;
        (whole && end <= self.sectors).then(|| sector * SECTOR)
    }
}

impl<B: Backend> Device for Block<B> {
    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        F_SIZE_MAX | F_SEG_MAX | F_FLUSH | if self.read_only { F_READ_ONLY } else { 0 }
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
        self.write_through = features & F_FLUSH == 0;
    }

    /// One request a turn: any of them may take long, and neither the interrupt for the one before nor an order may wait for it.
    fn notify(
        &mut self,
        _queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<Turn, Fault> {
        let mut budget = Budget::new(1, 1);
        let Some(chain) = queues[0].pop(memory, &mut budget)? else {
            return Ok(budget.turn()); // more where a request of a wrong form was the turn's only one
        };
        let (status, written) = match self.serve(&chain, memory) {
            Some(Served::Done(written)) => (OK, written),
            Some(Served::Failed) => {
                queues[0].count_failed();
                (IO_ERROR, 0)
            }
            Some(Served::Refused(status)) => {
                queues[0].count_refused();
                (status, 0)
            }
            None => {
                queues[0].refuse(memory, chain)?;
                return Ok(Turn::More);
            }
        };
        // There is at least one writable byte: the status is the last (5.2.6).
        chain.write(memory, chain.writable_len() - 1, &[status]);
        queues[0].push(memory, chain, written + 1)?;
        Ok(Turn::More)
    }

    fn more(&mut self, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.notify(0, queues, memory)
    }
}

#[cfg(test)]
mod tests;
