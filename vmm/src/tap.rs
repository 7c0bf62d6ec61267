// SPDX-License-Identifier: Apache-2.0
//! The host's end of a card: a tap device that exists already.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};

use racklet_linux::tap::{self, Offloads, TapError};
use rustix::buffer::spare_capacity;

use crate::devices::net::Tap;

/// A tap that this process alone reads and writes. Reading and writing do not block.
pub(crate) struct HostTap {
    file: File,
}

impl HostTap {
    /// Attaches to the tap `name`.
    pub(crate) fn attach(name: &str) -> Result<HostTap, TapError> {
        let file = tap::attach(name)?;
        tap::use_v1_headers(&file)?;
        Ok(HostTap { file })
    }
}

/// Appends what one `read` gives, in the room that `frame` has reserved.
pub(crate) fn read_into(file: &File, frame: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::io::read(file, spare_capacity(frame))?)
}

impl AsRawFd for HostTap {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Tap for HostTap {
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize> {
        read_into(&self.file, frame)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.file.write(frame)
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        tap::set_offloads(&self.file, offloads)
    }
}
