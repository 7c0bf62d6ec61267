// SPDX-License-Identifier: Apache-2.0
//! Asking `init`, which alone writes floors and slots and may restart the machine.

use racklet_api::init::{Op, Request, Response};
use racklet_api::line;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why `init` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("speak to init at {0}")]
    Io(PathBuf, #[source] io::Error),
    #[error("init's answer")]
    Answer(#[from] line::ReadError),
    #[error("init ended the conversation")]
    Silent,
    #[error("init refused: {0}")]
    Refused(String),
}

pub(crate) fn ask(socket: &Path, op: Op) -> Result<Response, InitError> {
    let io = |error| InitError::Io(socket.to_owned(), error);
    let stream = UnixStream::connect(socket).map_err(io)?;
    // Floors are written to a card before the answer comes.
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).map_err(io)?;
    stream.set_write_timeout(patience).map_err(io)?;
    line::write(&mut &stream, &Request::new(op)).map_err(io)?;
    let response: Response = line::read(&mut BufReader::new(&stream))?.ok_or(InitError::Silent)?;
    if response.ok {
        Ok(response)
    } else {
        Err(InitError::Refused(response.error.unwrap_or_default()))
    }
}
