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
        "the server redirects to {0:?}{hint}; only the configured host is followed, and only by https",
        hint = login(.0)
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
        "the server does not speak Git's protocol version 2 (git 2.18 or newer does; behind nginx or Apache, the header Git-Protocol must be passed on; Azure DevOps, dulwich, klaus and node-git-server never speak it)"
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

/// What a redirect to a page for people is about: private repositories of GitLab and Azure DevOps answer so without credentials.
fn login(location: &str) -> &'static str {
    let location = location.to_ascii_lowercase();
    let login = [
        "login", "sign_in", "signin", "sign-in", "/oauth", "/saml", "/sso",
    ];
    match login.iter().any(|word| location.contains(word)) {
        true => ", which is a login page: it wants credentials, or there is no such repository",
        false => "",
    }
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
