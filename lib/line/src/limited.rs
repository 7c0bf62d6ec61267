// SPDX-License-Identifier: Apache-2.0
//! Conversations that end: whoever is on the other side, and however slowly they go.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A socket whose reads and writes together end at a given time, however slowly the other side goes.
#[derive(Debug)]
pub struct Limited<S> {
    socket: S,
    end: Instant,
}

/// A socket whose single reads and writes can be bounded.
pub trait Socket: Read + Write {
    /// Each read and each write fails after `timeout`.
    ///
    /// # Errors
    /// What the system says, and for a timeout of zero.
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl Socket for UnixStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl<S: Socket> Limited<S> {
    /// A conversation that ends `within` this time from now.
    pub fn new(socket: S, within: Duration) -> Self {
        Self {
            socket,
            end: Instant::now() + within,
        }
    }

    /// A conversation that ends at `end`.
    pub fn until(socket: S, end: Instant) -> Self {
        Self { socket, end }
    }

    /// The socket itself.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// It ends `by` from now instead.
    pub fn extend(&mut self, by: Duration) {
        self.end = Instant::now() + by;
    }

    fn arm(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_timeout(left)
    }
}

impl<S: Socket> Read for Limited<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.read(out)
    }
}

impl<S: Socket> Write for Limited<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_ends_with_the_time_that_was_given() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let trickle = std::thread::spawn(move || {
            while (&theirs).write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut out = Vec::new();
        let error = Limited::new(ours, Duration::from_millis(100))
            .read_to_end(&mut out)
            .expect_err("ends");
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
            ),
            "{error}"
        );
        trickle.join().expect("the other side ends, too");
    }
}
