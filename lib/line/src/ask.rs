// SPDX-License-Identifier: Apache-2.0
//! The asking side: one request, one answer, in a bounded time.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Limited, ReadError, read, write};

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
    let connected = connect(path).and_then(|stream| {
        stream.set_nonblocking(false)?;
        Ok(stream)
    });
    let stream = connected.map_err(|error| AskError::Connect(path.into(), error))?;
    let mut stream = Limited::new(stream, within);
    write(&mut stream, request).map_err(|error| AskError::Send(path.into(), error))?;
    read(&mut BufReader::new(stream))
        .map_err(|error| AskError::Answer(path.into(), error))?
        .ok_or_else(|| AskError::Silent(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
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
