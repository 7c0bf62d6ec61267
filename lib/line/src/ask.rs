// SPDX-License-Identifier: Apache-2.0
//! The asking side: one request, one answer, in a bounded time.

use std::io::{self, BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Limited, MOST_FILES, ReadError, read, write};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there, or so many wait already that the system takes no more.
    #[error("connect to {0}")]
    Connect(PathBuf, #[source] io::Error),
    /// The request could not be sent in time.
    #[error("ask at {0}")]
    Send(PathBuf, #[source] io::Error),
    /// The answer did not come in time, or is none.
    #[error("read the answer of {0}")]
    Answer(PathBuf, #[source] ReadError),
    /// The other side ended the conversation instead of answering.
    #[error("{0} ended the conversation without an answer")]
    Silent(PathBuf),
}

/// Connects to `path` without waiting: a listener whose queue is full refuses, where a blocking connect would wait for it
/// without an end (unix(7) knows no timeout for it).
///
/// # Errors
/// What the system says; a path longer than a socket's address (107 bytes) is one.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Sends `request` to who listens at `path` and reads the answer, both together `within` this time however slowly it comes.
///
/// # Errors
/// See [`AskError`].
pub fn ask<R: DeserializeOwned>(
    path: &Path,
    request: &impl Serialize,
    within: Duration,
) -> Result<R, AskError> {
    ask_with(path, request, &[], within)
}

/// The same, and sends these open files along, at most [`MOST_FILES`]: the other side gets descriptors of its own.
///
/// # Errors
/// See [`AskError`].
pub fn ask_with<R: DeserializeOwned>(
    path: &Path,
    request: &impl Serialize,
    files: &[BorrowedFd<'_>],
    within: Duration,
) -> Result<R, AskError> {
    let connected = connect(path).and_then(|stream| {
        stream.set_nonblocking(false)?;
        Ok(stream)
    });
    let stream = connected.map_err(|error| AskError::Connect(path.into(), error))?;
    let send = |error| AskError::Send(path.into(), error);
    let mut stream = Limited::new(stream, within);
    if files.is_empty() {
        write(&mut stream, request).map_err(send)?;
    } else {
        let mut line = serde_json::to_vec(request).map_err(|e| send(e.into()))?;
        line.push(b'\n');
        send_files(stream.socket(), files, &line).map_err(send)?;
    }
    read(&mut BufReader::new(stream))
        .map_err(|error| AskError::Answer(path.into(), error))?
        .ok_or_else(|| AskError::Silent(path.into()))
}

/// Sends a request and the files with it, in one message: what is read of it together is one turn of who answers.
fn send_files(socket: &UnixStream, files: &[BorrowedFd<'_>], line: &[u8]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The space is rounded up, so that more may fit than are taken.
    let fits = files.len() <= MOST_FILES;
    if !fits || !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    let parts = [IoSlice::new(line)];
    let sent = sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    // A new connection has room for more than any request.
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Caller;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Asks somebody who does `answer` with the connection.
    fn asked(answer: impl FnOnce(UnixStream) + Send + 'static) -> Result<u8, AskError> {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("listens");
        let other = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accepts");
            let request: Option<String> = read(&mut BufReader::new(&stream)).expect("reads");
            assert_eq!(request.as_deref(), Some("how many?"));
            answer(stream);
        });
        let answer = ask(&path, &"how many?", Duration::from_millis(300));
        other.join().expect("ends");
        answer
    }

    #[test]
    fn a_request_is_answered() {
        let answer = asked(|mut stream| write(&mut stream, &7).expect("writes"));
        assert_eq!(answer.expect("an answer"), 7);
    }

    #[test]
    fn files_come_with_the_request_that_names_them_and_no_more_than_are_taken() {
        use std::io::Seek;
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("listens");
        let mut file = tempfile::tempfile().expect("scratch");
        file.write_all(b"ours").expect("writes");
        for (takes, count) in [(true, 2), (true, 1), (false, 2)] {
            let files = [file.as_fd(), file.as_fd()];
            let (listener, mut ours) = (&listener, &file);
            thread::scope(|scope| {
                let other = scope.spawn(move || {
                    let (stream, _) = listener.accept().expect("accepts");
                    let caller = if takes {
                        Caller::with_files
                    } else {
                        Caller::new
                    };
                    let mut caller = caller(stream, 100).expect("a caller");
                    let mut heard = 0;
                    while heard == 0 {
                        caller
                            .turn(|request: Result<String, _>| {
                                heard += usize::from(request.is_ok());
                                heard
                            })
                            .expect("is there");
                    }
                    caller.take_files()
                });
                let within = Duration::from_secs(60);
                let answer: usize =
                    ask_with(&path, &"take these", &files[..count], within).expect("an answer");
                let taken = other.join().expect("ends");
                assert_eq!((answer, taken.len()), (1, if takes { count } else { 0 }));
                for taken in taken {
                    let mut theirs = std::fs::File::from(taken);
                    ours.rewind().expect("seeks");
                    let mut text = String::new();
                    io::Read::read_to_string(&mut theirs, &mut text).expect("reads");
                    assert_eq!(text, "ours", "the same open file");
                }
            });
        }
        let many = [file.as_fd(); MOST_FILES + 1];
        let error = ask_with::<u8>(&path, &"x", &many, Duration::from_secs(60));
        assert!(matches!(error, Err(AskError::Send(..))));
    }

    #[test]
    fn silence_nonsense_and_a_trickle_are_errors_that_name_the_socket() {
        let ended = asked(drop).expect_err("no answer");
        assert!(matches!(ended, AskError::Silent(_)), "{ended}");
        let nonsense = asked(|mut stream| stream.write_all(b"{\n").expect("writes"));
        let nonsense = nonsense.expect_err("no answer");
        assert!(
            matches!(nonsense, AskError::Answer(_, ReadError::Parse(_))),
            "{nonsense}"
        );
        let trickle = asked(|mut stream| {
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let trickle = trickle.expect_err("no answer");
        assert!(
            matches!(trickle, AskError::Answer(_, ReadError::Io(_))),
            "{trickle}"
        );
        assert!(trickle.to_string().contains("socket"), "{trickle}");
    }

    #[test]
    fn a_listener_with_a_full_queue_refuses_at_once() {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).expect("listens");
        // The queue of std's listeners is the system's longest at the most: 4,096 (net.core.somaxconn).
        let mut waiting = Vec::new();
        let refused = loop {
            match connect(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10_000, "the queue has no end");
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let error = ask::<u8>(&path, &1, Duration::from_secs(600)).expect_err("refused");
        assert!(matches!(error, AskError::Connect(..)), "{error}");
    }
}
