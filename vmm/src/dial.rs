// SPDX-License-Identifier: Apache-2.0
//! What stands behind the guest's vsock ports: 1024 is the agent channel, port P is the Unix socket `vsock.sock_P` in the VM's
//! folder, which the monitor is in, made by whoever offers a service to the guest.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use racklet_api::guest::AGENT_PORT;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::agent::Agent;
use crate::calls::Waiting;
use crate::devices::vsock::{Dialer, Stream};
use crate::poll::{Poll, Token};

/// Opens the host's ends.
pub(crate) struct HostDialer {
    pub(crate) agent: Agent,
    pub(crate) poll: Poll,
    /// Number of the vsock device, for its events.
    pub(crate) device: u16,
    /// Those that want to reach the guest.
    pub(crate) calls: Waiting,
}

impl HostDialer {
    fn token(&self, token: u32) -> Token {
        Token::Host {
            device: self.device,
            token,
        }
    }
}

impl Dialer for HostDialer {
    fn admits(&self, port: u32, from: u32) -> bool {
        port != AGENT_PORT || from < racklet_api::guest::AGENT_FROM_BELOW
    }

    fn dial(&mut self, port: u32, token: u32) -> io::Result<Box<dyn Stream>> {
        if port == AGENT_PORT {
            return Ok(self.agent.connect());
        }
        let stream = connect_to(&format!("vsock.sock_{port}"))?;
        self.poll.edges(&stream, self.token(token))?;
        Ok(Box::new(UnixEnd(stream)))
    }

    fn call(&mut self, token: u32) -> Option<(u32, Box<dyn Stream>)> {
        self.calls.take(&self.poll, self.token(token))
    }

    fn called(&mut self, taken: bool) {
        self.calls.count(taken);
    }
}

/// The host's end of a connection: a Unix socket that does not block.
pub(crate) struct UnixEnd(pub(crate) UnixStream);

impl Stream for UnixEnd {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        // Not std's: that is `recvfrom`, which nothing else needs.
        Ok(rustix::io::read(&self.0, to)?)
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
pub(crate) fn connect_to(path: &str) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_agent_is_who_comes_from_a_port_that_only_the_guests_root_can_bind() {
        let dialer = HostDialer {
            agent: Agent::default(),
            poll: Poll::new().unwrap(),
            device: 0,
            calls: Waiting::default(),
        };
        for (port, from, admitted) in [
            (AGENT_PORT, 1, true),
            (AGENT_PORT, 1023, true),
            (AGENT_PORT, 1024, false),
            (AGENT_PORT, 40_000, false),
            (5000, 40_000, true),
        ] {
            assert_eq!(dialer.admits(port, from), admitted, "{from} to {port}");
        }
    }

    #[test]
    fn a_port_without_a_socket_is_refused_and_one_with_a_socket_is_connected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert!(connect_to(path.to_str().unwrap()).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = connect_to(path.to_str().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        stream.write_all(b"x").unwrap();
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(
            stream.read(&mut byte).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert!(connect_to(&"x".repeat(200)).is_err());
    }
}
