// SPDX-License-Identifier: Apache-2.0
//! Why a request brought no usable answer, in words for a console.

use std::{io, net::SocketAddr, time::Duration};

/// Why a request brought no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// DNS.
    #[error("the address of {host} cannot be found")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's words.
        source: io::Error,
    },
    /// DNS knows the name, but no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// TCP.
    #[error("no connection to {address}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// The kernel's words.
        source: io::Error,
    },
    /// None of several addresses works.
    #[error("none of the {} addresses of {host} works: {}", .failed.len(), each(.failed))]
    Addresses {
        /// The name.
        host: String,
        /// Each address and what went wrong with it.
        failed: Vec<(SocketAddr, HttpError)>,
    },
    /// An address took the connection, and nothing came of it.
    #[error("the TLS handshake was not done in {} seconds", .0.as_secs_f32())]
    Handshake(Duration),
    /// The certificate or the handshake.
    #[error("TLS: {}", explain(.0))]
    Tls(rustls::Error),
    /// The connection broke.
    #[error("the connection was cut")]
    Cut(#[source] io::Error),
    /// 3xx.
    #[error(
        "the server redirects to {location:?} (status {status}); use that address if you trust it"
    )]
    Redirect {
        /// 301 and the like.
        status: u16,
        /// Where to.
        location: String,
    },
    /// Neither 2xx nor 3xx.
    #[error("the server answered {status} {reason}{}", hint(*.status))]
    Status {
        /// 404 and the like.
        status: u16,
        /// The server's words, cut.
        reason: String,
        /// For how long it wants to be left alone, if it says.
        retry_after: Option<Duration>,
    },
    /// An answer that is not from a Git server.
    #[error(
        "the answer is {found:?} instead of {expected:?}: this is no Git server with smart HTTP; a captive portal or a proxy may be answering in its place"
    )]
    NotGit {
        /// `Content-Type` found, cut.
        found: String,
        /// The one expected.
        expected: &'static str,
    },
    /// Not HTTP, or more of it than anybody needs.
    #[error("the answer is not proper HTTP: {0}")]
    Malformed(&'static str),
    /// A body beyond its bound.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// Too little in too long.
    #[error("the server is too slow: {bytes} bytes in {} seconds", window.as_secs_f32())]
    Stalled {
        /// What came.
        bytes: u64,
        /// In which time.
        window: Duration,
    },
    /// Nothing came while the server prepared its answer.
    #[error(
        "the server said nothing for {} seconds while it prepared the answer; on a server of your own, set `git config pack.window 0` in the repository, and let no proxy hold answers back",
        .0.as_secs_f32()
    )]
    Silent(Duration),
    /// It was still preparing its answer at the end.
    #[error(
        "the server prepared the answer for {} seconds and sent nothing of it; on a server of your own, set `git config pack.window 0` in the repository",
        .0.as_secs_f32()
    )]
    Thinking(Duration),
    /// The whole of it took too long.
    #[error("the answer was not complete after {} seconds", .0.as_secs_f32())]
    TotalTime(Duration),
    /// The time for the whole conversation is over: [`crate::remote::Remote::finish_by`].
    #[error("the server was not done in the time that there was for it")]
    NoTimeLeft,
    /// The caller's [`crate::pulse::Pulse`] wants no more of it.
    #[error("the request was called off for something more urgent")]
    CalledOff,
}

/// What went wrong with each address, said to its end: a list has no single source.
fn each(failures: &[(SocketAddr, HttpError)]) -> String {
    let each = failures.iter().map(|(address, error)| match error {
        HttpError::Connect { source, .. } => format!("{address}: no connection: {source}"),
        HttpError::Cut(source) => format!("{address}: {error}: {source}"),
        error => format!("{address}: {error}"),
    });
    each.collect::<Vec<_>>().join("; ")
}

fn hint(status: u16) -> &'static str {
    match status {
        400 => ": it may want a client certificate",
        401 => {
            ": the credentials in the tray configuration are missing or not accepted; many servers look at the user name, too"
        }
        403 => {
            ": the credentials in the tray configuration are missing or not accepted, or it blocks this network for a while"
        }
        404 => ": there is no such repository, or it needs credentials",
        407 => ": a proxy in front of it wants credentials, which trays have none for",
        413 => {
            ": the request is too large for what stands in front of Git (nginx: client_max_body_size 0)"
        }
        429 | 503 => ": it is overloaded",
        502 | 504 => ": what stands in front of Git gets no answer from it",
        511 => ": the network wants a login first (a captive portal)",
        _ => "",
    }
}

fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        // The first bytes are no record of TLS, such as those of `HTTP/1.1 400`.
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            return "what answers does not speak TLS; the port may be one for plain HTTP".into();
        }
        _ => return error.to_string(),
    };
    let text = match certificate {
        C::Expired | C::ExpiredContext { .. } => "the server's certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet by the clock here, which a time server puts right where it is behind"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "the server's certificate is for another name"
        }
        C::UnknownIssuer => {
            "the server's certificate comes from an authority that is not trusted here, or the server does not send the certificates between (its chain is incomplete: nginx wants fullchain.pem)"
        }
        // rustls has no name of its own for it.
        C::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is one of an authority, as `openssl req -x509` makes them; make an authority and a certificate that it signs, or add `-addext basicConstraints=critical,CA:FALSE`"
        }
        _ => "the server's certificate is refused",
    };
    format!("{text} ({error})")
}

impl HttpError {
    /// Recovers what this module's readers put into an [`io::Error`].
    pub(crate) fn from_io(error: io::Error) -> Self {
        let kind = error.kind();
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => match error.downcast::<rustls::Error>() {
                Ok(tls) => Self::Tls(tls),
                Err(error) => Self::Cut(if kind == io::ErrorKind::UnexpectedEof {
                    kind.into()
                } else {
                    error
                }),
            },
        }
    }
}

impl From<HttpError> for io::Error {
    fn from(error: HttpError) -> Self {
        Self::other(error)
    }
}
