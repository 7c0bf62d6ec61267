// SPDX-License-Identifier: Apache-2.0
//! A disk (virtio 1.2, 5.2) on a file or block device: read, write, flush, identification.
//!
//! Writes reach the host's page cache; a flush is `fdatasync`. Requests are done one after the other on the event loop.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::memory::{self, Memory};
use crate::virtio::{Chain, Device, Fault, Queue};

const QUEUE: u16 = 128;
const SECTOR: u64 = 512;
const HEADER: u32 = 16;

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

/// A disk of whole sectors of 512 bytes; what the file has beyond them is not shown.
pub struct Block {
    file: File,
    sectors: u64,
    read_only: bool,
    id: [u8; 20],
    config: [u8; 16],
}

impl Block {
    /// A disk on an open file of `size` bytes.
    #[must_use]
    pub fn new(file: File, size: u64, read_only: bool, serial: &str) -> Block {
        let sectors = size / SECTOR;
        let mut id = [0; 20];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let mut config = [0; 16];
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        // A request adds its header and its status to the data segments.
        config[12..].copy_from_slice(&u32::from(QUEUE - 2).to_le_bytes());
        Block {
            file,
            sectors,
            read_only,
            id,
            config,
        }
    }

    /// Does one request; gives the status and the bytes written before it.
    fn serve(&self, chain: &Chain, memory: &Memory) -> Result<(u8, u32), Fault> {
        let mut header = [0; HEADER as usize];
        if chain.read(memory, 0, &mut header) != header.len() {
            return Err(Fault::Malformed("header"));
        }
        let room = chain
            .writable_len()
            .checked_sub(1)
            .ok_or(Fault::Malformed("status byte"))?;
        let [k0, k1, k2, k3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let given = chain.readable_len() - HEADER;
        let (done, written) = match u32::from_le_bytes([k0, k1, k2, k3]) {
            READ => match self.range(sector, room) {
                Some(at) => (
                    memory::read_file(memory, &chain.writable(0, room), self.file.as_fd(), at),
                    room,
                ),
                None => return Ok((IO_ERROR, 0)),
            },
            WRITE => match self.range(sector, given) {
                Some(at) if !self.read_only => (
                    memory::write_file(
                        memory,
                        &chain.readable(HEADER, given),
                        self.file.as_fd(),
                        at,
                    ),
                    0,
                ),
                _ => return Ok((IO_ERROR, 0)),
            },
            FLUSH => (self.flush(), 0),
            GET_ID => {
                let len = room.min(20);
                chain.write(memory, 0, &self.id[..len as usize]);
                (Ok(()), len)
            }
            _ => return Ok((UNSUPPORTED, 0)),
        };
        Ok(if done.is_ok() {
            (OK, written)
        } else {
            (IO_ERROR, 0)
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            Ok(())
        } else {
            self.file.sync_data()
        }
    }

    /// Byte offset of a transfer that lies on the disk and is whole sectors.
    fn range(&self, sector: u64, len: u32) -> Option<u64> {
        let count = u64::from(len) / SECTOR;
        let whole = u64::from(len) % SECTOR == 0 && count > 0;
        let end = sector.checked_add(count)?;
        (whole && end <= self.sectors).then(|| sector * SECTOR)
    }
}

impl Device for Block {
    fn id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        F_SEG_MAX | F_FLUSH | if self.read_only { F_READ_ONLY } else { 0 }
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn notify(
        &mut self,
        _queue: usize,
        queues: &mut [Queue],
        memory: &Memory,
    ) -> Result<(), Fault> {
        while let Some(chain) = queues[0].pop(memory)? {
            let (status, written) = self.serve(&chain, memory)?;
            // `serve` saw at least one writable byte; the status is the last (5.2.6).
            chain.write(memory, chain.writable_len() - 1, &[status]);
            queues[0].push(memory, &chain, written + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
