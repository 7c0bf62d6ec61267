// SPDX-License-Identifier: Apache-2.0
//! Stream sockets between a virtual machine and its host (`AF_VSOCK`).

use std::fs::File;
use std::io;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect as connect_to,
    listen as listen_at, socket_with,
};

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

impl Address {
    fn new(cid: u32, port: u32) -> Address {
        Address {
            family: AddressFamily::VSOCK.as_raw(),
            reserved: 0,
            port,
            cid,
            zero: [0; 4],
        }
    }
}

/// `VMADDR_CID_ANY`: any address of ours.
const ANY: u32 = u32::MAX;
/// `LAST_RESERVED_PORT` (net/vmw_vsock/af_vsock.c): up to here binding takes `CAP_NET_BIND_SERVICE`.
const LAST_RESERVED: u32 = 1023;

fn socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::VSOCK, SocketType::STREAM);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Connects to a port; the connection reads and writes like a file. The kernel gives up after two seconds without an answer.
pub fn connect(cid: u32, port: u32) -> io::Result<File> {
    let socket = socket()?;
    connect_to(&socket, &Address::new(cid, port))?;
    Ok(File::from(socket))
}

/// The same from a port that only the privileged can bind, by which the other side knows them. One whose last connection is not
/// quite over keeps its port for some seconds; then the next lower one is taken.
pub fn connect_reserved(cid: u32, port: u32) -> io::Result<File> {
    let socket = socket()?;
    let mut bound = Err(Errno::ADDRINUSE);
    for from in (1..=LAST_RESERVED).rev() {
        bound = bind(&socket, &Address::new(ANY, from));
        if bound != Err(Errno::ADDRINUSE) {
            break;
        }
    }
    bound?;
    connect_to(&socket, &Address::new(cid, port))?;
    Ok(File::from(socket))
}

/// Takes connections at a port.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Listens at a port, for whoever connects to it, the host included.
///
/// # Errors
/// When the port is taken, or reserved.
pub fn listen(port: u32) -> io::Result<Listener> {
    let socket = socket()?;
    bind(&socket, &Address::new(ANY, port))?;
    // As many as Linux keeps for anybody by default (`net.core.somaxconn`).
    listen_at(&socket, 4096)?;
    Ok(Listener(socket))
}

impl Listener {
    /// Waits for the next one; it reads and writes like a file.
    ///
    /// # Errors
    /// What accept(2) says.
    pub fn accept(&self) -> io::Result<File> {
        Ok(accept_with(&self.0, SocketFlags::CLOEXEC)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_listened_at_once() {
        match listen(0x7ace_0001) {
            Ok(first) => {
                let again = listen(0x7ace_0001).expect_err("it is taken");
                assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
                drop(first);
                assert!(listen(0x7ace_0001).is_ok());
            }
            // A kernel without such sockets.
            Err(error) => assert_eq!(
                error.raw_os_error(),
                Some(Errno::AFNOSUPPORT.raw_os_error())
            ),
        }
    }

    #[test]
    fn nobody_listens_at_an_unlikely_port_of_ourselves() {
        assert!(connect(1, 0xdead_beef).is_err());
        assert!(connect_reserved(1, 0xdead_beef).is_err());
    }
}
