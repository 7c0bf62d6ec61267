// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets have behind a port of the vsock device.

use std::io;

use racklet_vmm::devices::vsock::Stream;

/// An echo of at most 4 KiB at a time.
pub struct Echo(pub Vec<u8>);

impl Stream for Echo {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = to.len().min(self.0.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        to[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let room = 4096_usize.saturating_sub(self.0.len()).min(from.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.extend_from_slice(&from[..room]);
        Ok(room)
    }

    fn end(&mut self) {}

    fn tells(&self) -> bool {
        false
    }
}
