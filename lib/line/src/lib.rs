// SPDX-License-Identifier: Apache-2.0
//! One JSON object per line over a Unix socket: how the processes of a tray talk.
//!
//! Who asks uses [`ask`], who answers a [`Server`] or, with an event loop of its own, one [`Caller`] per connection.
//! Neither side waits without an end for the other. What the objects mean is in `racklet-api`, in the module named after
//! who answers.
#![forbid(unsafe_code)]

mod ask;
mod limited;
mod serve;

use std::io::{self, BufRead, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use ask::{AskError, ask, ask_with, connect};
pub use limited::{Limited, Socket};
pub use serve::{Bounds, Caller, Gone, Server, Unreadable};

/// Longest line either side has to read, in bytes with its newline.
pub const MAX_LINE: usize = 64 * 1024;

/// Most descriptors that come with one message.
pub const MOST_FILES: usize = 3;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed.
    #[error("read a message")]
    Io(#[from] io::Error),
    /// The line is longer than [`MAX_LINE`] or ends without a newline.
    #[error("the message is longer than {MAX_LINE} bytes or cut off")]
    Unfinished,
    /// The line is not the JSON it should be.
    #[error("the message does not parse")]
    Parse(#[from] serde_json::Error),
}

/// Reads one message; `None` when the other side is done.
pub fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>, ReadError> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).expect("64 KiB fits");
    from.by_ref().take(limit).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(ReadError::Unfinished),
    }
}

/// Writes one message in a single `write`.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_one_by_one() {
        let mut bytes = Vec::new();
        write(&mut bytes, &1).expect("writes");
        write(&mut bytes, &"zwei\n").expect("writes");
        let mut reader = bytes.as_slice();
        assert_eq!(read::<u8>(&mut reader).expect("reads"), Some(1));
        assert_eq!(
            read::<String>(&mut reader).expect("reads"),
            Some("zwei\n".to_owned())
        );
        assert_eq!(read::<u8>(&mut reader).expect("reads"), None);
    }

    #[test]
    fn endless_and_cut_lines_are_refused() {
        let endless = vec![b'1'; MAX_LINE + 1];
        assert!(matches!(
            read::<u8>(&mut endless.as_slice()),
            Err(ReadError::Unfinished)
        ));
        assert!(matches!(
            read::<u8>(&mut b"1".as_slice()),
            Err(ReadError::Unfinished)
        ));
    }
}
