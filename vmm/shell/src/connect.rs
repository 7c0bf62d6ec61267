// SPDX-License-Identifier: Apache-2.0
//! `racklet-vmm connect`: a port of the guest on standard input and output.
//!
//! Two threads: one waits for input while the other shows what comes. The end of the input is told to the guest (it may go on sending);
//! the end of what the guest sends is the end here.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, bail};
use clap::Args;

/// `OK 4294967295` and its end.
const LINE: usize = 14;

/// Connect standard input and output to a port (vsock) at which something in the guest listens
#[derive(Args)]
pub(crate) struct Connect {
    /// The microVM's folder, as given to `run --folder`
    folder: PathBuf,
    /// The guest's port
    port: u32,
}

impl Connect {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.folder.join("vsock.sock");
        let mut stream = UnixStream::connect(&path)
            .with_context(|| format!("connect to {}: is there a monitor?", path.display()))?;
        writeln!(stream, "CONNECT {}", self.port).context("ask for the port")?;
        if !answered(&mut stream).context("wait for the guest")? {
            bail!(
                "the guest does not take it: nothing listens at its port {}, or it has no driver for virtio sockets",
                self.port
            );
        }
        let mut to = stream.try_clone().context("share the connection")?;
        // Not waited for: input that nobody gives must not hold up the end.
        thread::spawn(move || {
            // What the guest does not take is the end of the connection, which the other thread sees.
            let _ = io::copy(&mut io::stdin().lock(), &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        io::copy(&mut stream, &mut Passing).context("pass on what the guest sends")?;
        Ok(())
    }
}

/// Standard output without a wait for the end of a line.
struct Passing;

impl Write for Passing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the line that says that the connection is there, and no byte behind it; false where it ends instead.
fn answered(from: &mut impl Read) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE {
        match from.read(&mut byte) {
            Ok(0) => return Ok(false),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // As when it ended with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    match line.strip_prefix(b"OK ") {
        Some(port) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) => Ok(true),
        _ => Err(io::Error::other("the monitor says something else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_that_the_connection_is_there_and_what_is_behind_it_is_the_guests() {
        let mut said = &b"OK 1073741824\nfrom the guest"[..];
        assert!(answered(&mut said).unwrap());
        assert_eq!(said, b"from the guest");
        for ended in [&b""[..], b"OK 1", b"O"] {
            assert!(!answered(&mut &*ended).unwrap());
        }
        for wrong in [&b"NO\n"[..], b"OK \n", b"OK x\n", &[b'1'; 100]] {
            assert!(answered(&mut &*wrong).is_err());
        }
    }
}
