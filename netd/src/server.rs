// SPDX-License-Identifier: Apache-2.0
//! The socket: one request and one answer per line, several callers, none of whom can keep the others waiting.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use racklet_api::line::{self, MAX_LINE};
use racklet_api::netd::{Op, Request, Response};

/// Callers at a time; a further one takes the place of the oldest.
const CALLERS: usize = 16;
/// A caller that does not read its answer is dropped after this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// The listening socket and its callers.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    callers: Vec<Caller>,
}

#[derive(Debug)]
struct Caller {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Server {
    /// Listens, in the place of an earlier netd. Only root may connect.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            callers: Vec::new(),
        })
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let callers = self.callers.iter().map(|caller| caller.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(callers)
    }

    /// Answers what was asked. Does not wait for requests.
    pub(crate) fn serve(&mut self, mut answer: impl FnMut(Op) -> Response) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                if self.callers.len() == CALLERS {
                    self.callers.remove(0);
                }
                self.callers.push(Caller {
                    stream,
                    unread: Vec::new(),
                });
            }
        }
        self.callers
            .retain_mut(|caller| caller.serve(&mut answer).is_ok());
    }
}

impl Caller {
    /// Fails when the caller is done or misbehaves.
    fn serve(&mut self, answer: &mut impl FnMut(Op) -> Response) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                self.reply(&respond(&line, answer))?;
            }
            if self.unread.len() >= MAX_LINE {
                self.reply(&Response::refused("the request is too long"))?;
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    fn reply(&mut self, response: &Response) -> io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        line::write(&mut self.stream, response)?;
        self.stream.set_nonblocking(true)
    }
}

fn respond(line: &[u8], answer: &mut impl FnMut(Op) -> Response) -> Response {
    match serde_json::from_slice::<Request>(line) {
        Ok(Request { v: 1, op }) => answer(op),
        Ok(Request { v, .. }) => {
            Response::refused(format!("version {v} is not spoken here, only 1"))
        }
        Err(error) => Response::refused(format!("not a request: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    fn exchange(sent: &[u8]) -> (String, Vec<Op>) {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("netd.sock");
        let mut server = Server::bind(&path).expect("listens");
        let mut stream = UnixStream::connect(&path).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("timeout");
        let mut asked = Vec::new();
        for part in sent.chunks(4096) {
            stream.write_all(part).expect("sends");
            server.serve(|op| {
                asked.push(op);
                Response::done()
            });
        }
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("answer");
        (line, asked)
    }

    #[test]
    fn a_request_in_pieces_is_answered_once_whole() {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("netd.sock");
        let mut server = Server::bind(&path).expect("listens");
        let mut stream = UnixStream::connect(&path).expect("connects");
        let mut asked = 0;
        for piece in [&br#"{"v":1,"#[..], br#""op":"status"}"#, b"\n"] {
            assert_eq!(asked, 0);
            stream.write_all(piece).expect("sends");
            server.serve(|_| {
                asked += 1;
                Response::done()
            });
        }
        assert_eq!(asked, 1);
    }

    #[test]
    fn nonsense_and_other_versions_are_refused_with_the_reason() {
        for (sent, reason) in [
            (&b"{}\n"[..], "not a request"),
            (b"\xff\xfe\n", "not a request"),
            (b"{\"v\":2,\"op\":\"status\"}\n", "version 2"),
        ] {
            let (line, asked) = exchange(sent);
            assert!(line.contains(reason), "{line}");
            assert!(asked.is_empty());
        }
    }

    #[test]
    fn an_endless_line_is_cut_off() {
        let (line, asked) = exchange(&vec![b'x'; MAX_LINE]);
        assert!(line.contains("too long"), "{line}");
        assert!(asked.is_empty());
    }
}
