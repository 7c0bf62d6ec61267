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
    flow::Firmware,
    line::Line,
    verify::{Bootable, Files, ReadError, Refusal},
};
use racklet_trust::slot::{Copies, SIZE};
use uefi::{
    Handle, Status,
    boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol},
    proto::{ProtocolPointer, loaded_image::LoadedImage},
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
pub(crate) fn own_image() -> uefi::Result<&'static [u8]> {
    let image = open::<LoadedImage>(boot::image_handle())?;
    let (start, size) = image.info();
    let size = usize::try_from(size).map_err(|_| Status::LOAD_ERROR)?;
    if start.is_null() {
        return Err(Status::LOAD_ERROR.into());
    }
    // SAFETY: image_base and image_size describe the memory this program itself was loaded to, which stays while it runs. Only
    // the data sections .trust, .tray and .board are looked at, and no code writes to them.
    Ok(unsafe { slice::from_raw_parts(start.cast::<u8>(), size) })
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
    fn read(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
        files::read(self.partition, path, limit)
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

    fn pause(&mut self, time: Duration) {
        boot::stall(time);
    }

    fn start(&mut self, bootable: Bootable, initramfs_end: &[u8], arguments: &str) -> Refusal {
        linux::start(bootable, initramfs_end, arguments)
    }
}
