// SPDX-License-Identifier: Apache-2.0
//! Stream sockets between guest and host (virtio 1.2, 5.10).
//!
//! The guest connects to CID 2; what stands behind a port is the [`Dialer`]'s matter, and so is who wants to connect to a port of the
//! guest. Nothing here knows files or the event loop.

use std::io;

mod connection;
mod device;
mod packet;

pub(crate) use device::MOST_CONNECTIONS;
pub(crate) use device::PATIENCE;
pub use device::{CALL, PUMP, Vsock};
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
    /// The guest has taken the connection, which the host wanted, and sees it as one from this port. Comes before anything else.
    fn taken(&mut self, _port: u32) -> io::Result<()> {
        Ok(())
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

    /// The next connection that the host wants, and to which port of the guest; the device has a host event with [`CALL`] when there is
    /// one. Its stream's events are to have this token.
    fn call(&mut self, _token: u32) -> Option<(u32, Box<dyn Stream>)> {
        None
    }

    /// One of these was taken by the guest, or came to nothing.
    fn called(&mut self, _taken: bool) {}
}
