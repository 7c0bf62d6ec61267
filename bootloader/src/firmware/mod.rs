// SPDX-License-Identifier: Apache-2.0
//! The machine as UEFI shows it.

mod clock;
mod console;
mod disk;
mod files;
mod linux;

use alloc::vec::Vec;
use core::{fmt, slice, time::Duration};

use racklet_bootloader::{
    baked::Image,
    flow::Firmware,
    line::Line,
    place::PartitionId,
    verify::{Bootable, Files, ReadError, Refusal},
};
use racklet_trust::slot::{Copies, SIZE};
use uefi::{
    Handle, Status,
    boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol},
    proto::{ProtocolPointer, device_path::DevicePath, loaded_image::LoadedImage},
};

/// Boot services, and the partition that the bootloader was started from.
pub(crate) struct Uefi {
    clock: clock::Clock,
    console: console::Console,
    partition: Option<Handle>,
}

impl Uefi {
    /// Starts the clock and finds the consoles.
    pub(crate) fn new() -> Self {
        Self {
            clock: clock::Clock::start(),
            console: console::Console::find(),
            partition: None,
        }
    }

    /// Finds the partition that the bootloader came from; the slots are there too.
    pub(crate) fn open_partition(&mut self) -> uefi::Result {
        let image = open::<LoadedImage>(boot::image_handle())?;
        self.partition = Some(image.device().ok_or(Status::NO_MEDIA)?);
        Ok(())
    }
}

/// The bootloader's own image as the firmware loaded it.
pub(crate) struct OwnImage {
    start: *const u8,
    size: usize,
}

impl OwnImage {
    /// Asks the firmware where it is.
    pub(crate) fn find() -> uefi::Result<Self> {
        let image = open::<LoadedImage>(boot::image_handle())?;
        let (start, size) = image.info();
        let size = usize::try_from(size).map_err(|_| Status::LOAD_ERROR)?;
        match start.is_null() {
            true => Err(Status::LOAD_ERROR.into()),
            false => Ok(Self {
                start: start.cast(),
                size,
            }),
        }
    }
}

impl Image for OwnImage {
    fn bytes(&self, start: usize, length: usize) -> Option<&[u8]> {
        if start.checked_add(length)? > self.size {
            return None;
        }
        // SAFETY: the piece lies within what the firmware says this program was loaded to (checked above), which stays while it
        // runs. `Baked` asks for headers and for the sections that an image build added only, and no code of ours writes to those.
        Some(unsafe { slice::from_raw_parts(self.start.add(start), length) })
    }
}

/// Opens a protocol without taking it from the drivers that use it.
fn open<P: ProtocolPointer + ?Sized>(handle: Handle) -> uefi::Result<ScopedProtocol<P>> {
    let params = OpenProtocolParams {
        handle,
        agent: boot::image_handle(),
        controller: None,
    };
    // SAFETY: nothing else runs while this application does (UEFI has one thread and no device is removed by us), so that the
    // interface stays until the returned guard is dropped, which every caller does before it starts another image.
    unsafe { boot::open_protocol(params, OpenProtocolAttributes::GetProtocol) }
}

impl Files for Uefi {
    fn read(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, ReadError> {
        files::read(self.partition, path, most)
    }
}

impl Copies for Uefi {
    type Error = disk::DiskError;

    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], disk::DiskError> {
        disk::Disk::open(self.partition)?.read_copy(copy)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), disk::DiskError> {
        disk::Disk::open(self.partition)?.write_copy(copy, bytes)
    }
}

impl Firmware for Uefi {
    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.console.write(&Line(self.clock.elapsed(), text));
    }

    fn came_from(&self) -> Option<PartitionId> {
        let path = open::<DevicePath>(self.partition?).ok()?;
        PartitionId::of_device_path(path.as_bytes())
    }

    fn pause(&mut self, time: Duration) {
        boot::stall(time);
    }

    fn start(&mut self, bootable: Bootable, initramfs_end: &[u8], arguments: &str) -> Refusal {
        linux::start(bootable, initramfs_end, arguments)
    }
}
