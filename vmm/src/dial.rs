// SPDX-License-Identifier: Apache-2.0
//! What stands behind the guest's vsock ports: 1024 is the agent channel, port P is the Unix socket `vsock.sock_P` in the VM's
//! folder, made by whoever offers a service to the guest.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use racklet_api::vmm::AGENT_PORT;

use crate::agent::Agent;
use crate::devices::vsock::{Dialer, Stream};
use crate::poll::{Poll, Token};

/// Opens the host's ends. Paths are inside the monitor's own root.
pub(crate) struct HostDialer {
    pub(crate) agent: Agent,
    pub(crate) poll: Poll,
    /// Number of the vsock device, for its events.
    pub(crate) device: u16,
}

impl Dialer for HostDialer {
    fn dial(&mut self, port: u32, token: u32) -> io::Result<Box<dyn Stream>> {
        if port == AGENT_PORT {
            return Ok(self.agent.connect());
        }
        let stream = connect(&format!("/vsock.sock_{port}"))?;
        self.poll.edges(
            stream.as_raw_fd(),
            Token::Host {
                device: self.device,
                token,
            },
        )?;
        Ok(Box::new(UnixEnd(stream)))
    }
}

struct UnixEnd(UnixStream);

impl Stream for UnixEnd {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from)
    }

    fn end(&mut self) {
        // Fails when the other side is gone already.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// Connects without ever blocking: a listener whose backlog is full refuses.
fn connect(path: &str) -> io::Result<UnixStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: plain arguments; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is open, checked above, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = libc::sockaddr_un {
        sun_family: libc::sa_family_t::try_from(libc::AF_UNIX).expect("1 fits"),
        sun_path: [0; 108],
    };
    if path.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as _;
    }
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_un>()).expect("110 bytes");
    // SAFETY: the address is a whole `sockaddr_un`, NUL-terminated as its last byte stays 0, and `len` is its size.
    if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_port_without_a_socket_is_refused_and_one_with_a_socket_is_connected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(connect(path.to_str().unwrap()).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = connect(path.to_str().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        stream.write_all(b"x").unwrap();
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(
            stream.read(&mut byte).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(connect(&"x".repeat(200)).is_err());
    }
}
