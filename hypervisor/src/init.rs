// SPDX-License-Identifier: Apache-2.0
//! Asking `init`, which alone writes floors and slots and may restart the machine.

use racklet_api::init::{Op, Request, Response};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::shared::Shared;

/// Why `init` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("ask init")]
    Ask(#[from] racklet_line::AskError),
    #[error("init refused: {0}")]
    Refused(String),
}

/// How often `init` is asked how the card is.
const STATE_EVERY: Duration = Duration::from_secs(10);

/// Keeps `shared` told of where the tray keeps what it must remember. A thread of its own: the repository thread may wait for
/// a server for long, and those that answer the API must not wait at all.
pub(crate) fn watch_state(socket: PathBuf, shared: Arc<Shared>) -> io::Result<()> {
    thread::Builder::new().name("state".into()).spawn(move || {
        loop {
            // What was last known stays when `init` does not answer: it says why elsewhere.
            if let Ok(Response {
                status: Some(status),
                ..
            }) = ask(&socket, Op::Status)
            {
                shared.view().state = Some(status.state);
            }
            thread::sleep(STATE_EVERY);
        }
    })?;
    Ok(())
}

pub(crate) fn ask(socket: &Path, op: Op) -> Result<Response, InitError> {
    // Floors are written to a card before the answer comes.
    let patience = Duration::from_secs(10);
    let response: Response = racklet_line::ask(socket, &Request::new(op), patience)?;
    if response.ok {
        Ok(response)
    } else {
        Err(InitError::Refused(response.error.unwrap_or_default()))
    }
}
