// SPDX-License-Identifier: Apache-2.0
//! Why a conversation with a server failed.

use crate::{http::HttpError, pack::PackError, pkt::LineError};

/// Why a conversation with a server failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Connection, TLS, HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A redirect to another host, or to plain http.
    #[error(
        "the server redirects to {0:?}; only the configured host is followed, and only by https"
    )]
    Redirect(String),
    /// A line of Git's that cannot be.
    #[error("a line of Git's answer is not proper: {0}")]
    Line(&'static str),
    /// The server's own words.
    #[error("the server says: {0}")]
    Server(String),
    /// Version 0 or 1.
    #[error(
        "the server does not speak Git's protocol version 2 (git 2.18 or newer; behind nginx, HTTP_GIT_PROTOCOL must be passed on)"
    )]
    Version,
    /// Neither SHA-1 nor SHA-256.
    #[error("the repository names objects by {0:?}, which is not known here")]
    Format(String),
    /// More refs than allowed.
    #[error("the server lists more than {0} refs")]
    Refs(usize),
    /// A pack that is refused.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl From<LineError> for RemoteError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Read(error) => Self::Http(HttpError::from_io(error)),
            LineError::Improper(why) => Self::Line(why),
            LineError::Server(words) => Self::Server(words),
        }
    }
}

/// Git's and HTTP's errors come through the pack reader as I/O errors: give them back as what they are.
pub(super) fn from_pack(error: PackError) -> RemoteError {
    match error {
        PackError::Read(error) => match error.downcast::<LineError>() {
            Ok(line) => line.into(),
            Err(error) => RemoteError::Http(HttpError::from_io(error)),
        },
        other => other.into(),
    }
}
