// SPDX-License-Identifier: Apache-2.0
//! Stream sockets between guest and host (virtio 1.2, 5.10).
//!
//! The guest connects to CID 2; what stands behind a port is the [`Dialer`]'s matter. The host opens no connections towards
//! the guest. Nothing here knows files or the event loop.

use std::io;

mod connection;
mod device;
mod packet;

pub(crate) use device::MOST_CONNECTIONS;
pub use device::{PUMP, Vsock};
pub use packet::{HEADER, Header};

/// The host's end of a connection; never blocks.
pub trait Stream: Send {
    /// Takes bytes for the guest; 0 when there will be no more, `WouldBlock` when there are none now.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize>;
    /// Gives bytes of the guest; `WouldBlock` when there is no room now.
    fn write(&mut self, from: &[u8]) -> io::Result<usize>;
    /// The guest will send no more.
    fn end(&mut self);
    /// Whether the device gets a host event with this stream's token when it becomes ready. One that does not is looked at for [`PUMP`].
    fn tells(&self) -> bool {
        true
    }
}

/// Opens the host's ends.
pub trait Dialer: Send {
    /// Whether the guest's port `from` may connect to `port`.
    fn admits(&self, _port: u32, _from: u32) -> bool {
        true
    }

    /// Opens what stands behind `port`. When the stream becomes ready later, the device wants a host event with `token`.
    fn dial(&mut self, port: u32, token: u32) -> io::Result<Box<dyn Stream>>;
}
