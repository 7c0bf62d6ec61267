// SPDX-License-Identifier: Apache-2.0
//! The two sectors of the slot record, moved below the firmware's file system (see `racklet_fat` for why).

use alloc::{format, string::String, vec, vec::Vec};
use core::fmt;

use racklet_fat::{LocateError, locate};
use racklet_trust::slot::SIZE;
use uefi::{Handle, Status, boot::ScopedProtocol, proto::media::block::BlockIO};

/// Where the copies are on the boot partition.
const PATHS: [&str; 2] = ["racklet/slots.0", "racklet/slots.1"];
/// The largest block of any disk in use; larger ones are not believed.
const MAX_BLOCK: usize = 64 << 10;

/// Why a copy cannot be moved.
pub(crate) enum DiskError {
    /// The partition cannot be used.
    Partition(Status),
    /// A block cannot be read or written.
    Block(u64, Status),
    /// The file is not where it must be.
    Locate(&'static str, String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(status) => write!(f, "the boot partition cannot be used: {status}"),
            Self::Block(block, status) => write!(f, "block {block}: {status}"),
            Self::Locate(path, reason) => write!(f, "{path}: {reason}"),
        }
    }
}

pub(crate) struct Disk {
    protocol: ScopedProtocol<BlockIO>,
    media: u32,
    block: usize,
    align: usize,
    read_only: bool,
}

impl Disk {
    pub(crate) fn open(partition: Option<Handle>) -> Result<Self, DiskError> {
        let handle = partition.ok_or(DiskError::Partition(Status::NO_MEDIA))?;
        let protocol =
            super::open::<BlockIO>(handle).map_err(|error| DiskError::Partition(error.status()))?;
        let media = protocol.media();
        let disk = Self {
            media: media.media_id(),
            block: media.block_size() as usize,
            // Both 0 and 1 mean that any address will do.
            align: (media.io_align() as usize).max(1),
            read_only: media.is_read_only(),
            protocol,
        };
        let plausible = disk.block.is_power_of_two()
            && (SIZE..=MAX_BLOCK).contains(&disk.block)
            && disk.align.is_power_of_two()
            && disk.align <= MAX_BLOCK;
        match plausible {
            true => Ok(disk),
            false => Err(DiskError::Partition(Status::UNSUPPORTED)),
        }
    }

    pub(crate) fn read_copy(mut self, copy: usize) -> Result<[u8; SIZE], DiskError> {
        let offset = self.place(copy)?;
        let mut bytes = [0; SIZE];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn write_copy(mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), DiskError> {
        let offset = self.place(copy)?;
        if self.read_only {
            return Err(DiskError::Partition(Status::WRITE_PROTECTED));
        }
        let (number, within) = self.split(offset);
        let mut memory = self.memory();
        self.read_block(number, &mut memory)?;
        let start = self.start_in(&memory);
        memory[start + within..][..SIZE].copy_from_slice(bytes);
        let block = &memory[start..start + self.block];
        self.protocol
            .write_blocks(self.media, number, block)
            .and_then(|()| self.protocol.flush_blocks())
            .map_err(|error| DiskError::Block(number, error.status()))
    }

    fn place(&mut self, copy: usize) -> Result<u64, DiskError> {
        let path = PATHS[copy];
        let place =
            locate(|offset, sector| self.read(offset, sector), path).map_err(
                |error| match error {
                    LocateError::Read(error) => error,
                    error => DiskError::Locate(path, format!("{error}")),
                },
            )?;
        match place.size as usize == SIZE {
            true => Ok(place.offset),
            false => Err(DiskError::Locate(
                path,
                format!("it has {} bytes", place.size),
            )),
        }
    }

    fn read(&mut self, offset: u64, sector: &mut [u8; SIZE]) -> Result<(), DiskError> {
        let (number, within) = self.split(offset);
        let mut memory = self.memory();
        self.read_block(number, &mut memory)?;
        let start = self.start_in(&memory);
        sector.copy_from_slice(&memory[start + within..][..SIZE]);
        Ok(())
    }

    fn read_block(&mut self, number: u64, memory: &mut [u8]) -> Result<(), DiskError> {
        let start = self.start_in(memory);
        self.protocol
            .read_blocks(self.media, number, &mut memory[start..start + self.block])
            .map_err(|error| DiskError::Block(number, error.status()))
    }

    /// The block that holds a byte offset (a multiple of [`SIZE`]), and the place within it.
    fn split(&self, offset: u64) -> (u64, usize) {
        let block = self.block as u64;
        let within = usize::try_from(offset % block).expect("less than a block");
        (offset / block, within)
    }

    /// Room for a block at an address that the device can use.
    fn memory(&self) -> Vec<u8> {
        vec![0; self.block + self.align]
    }

    fn start_in(&self, memory: &[u8]) -> usize {
        memory.as_ptr().align_offset(self.align)
    }
}
