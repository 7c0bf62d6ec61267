// SPDX-License-Identifier: Apache-2.0
//! Stream sockets between a virtual machine and its host (`AF_VSOCK`), client side.

use std::fs::File;
use std::io;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as connect_to, socket_with};

use crate::socket::length_of;

/// The host's address.
pub const HOST: u32 = 2;

/// `struct sockaddr_vm` (linux/vm_sockets.h), which rustix has no type for.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}
// SAFETY: the pointer is to `self`, which outlives the call of `f`; the length is that of the whole `repr(C)` structure,
// whose fields leave no padding (2 + 2 + 4 + 4 + 4 bytes).
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const *self).cast(), length_of::<Self>())
    }
}

/// Connects to a port; the connection reads and writes like a file. The kernel gives up after two seconds without an answer.
pub fn connect(cid: u32, port: u32) -> io::Result<File> {
    let family = AddressFamily::VSOCK;
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let address = Address {
        family: family.as_raw(),
        reserved: 0,
        port,
        cid,
        zero: [0; 4],
    };
    connect_to(&socket, &address)?;
    Ok(File::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_at_an_unlikely_port_of_ourselves() {
        assert!(connect(1, 0xdead_beef).is_err());
    }
}
