// SPDX-License-Identifier: Apache-2.0
//! Stream sockets between a virtual machine and its host (`AF_VSOCK`), client side.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The host's address.
pub const HOST: u32 = 2;

/// Connects to a port; the connection reads and writes like a file. The kernel gives up after two seconds without an answer.
pub fn connect(cid: u32, port: u32) -> io::Result<File> {
    // SAFETY: plain numbers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open, checked above, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeros is a valid `sockaddr_vm`; its reserved fields must be zero.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::sa_family_t::try_from(libc::AF_VSOCK).expect("40 fits");
    address.svm_cid = cid;
    address.svm_port = port;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_vm>()).expect("16 bytes");
    // SAFETY: `address` is a whole `sockaddr_vm` and `len` its size.
    if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
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
