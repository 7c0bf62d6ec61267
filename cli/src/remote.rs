// SPDX-License-Identifier: Apache-2.0
//! Talks to a tray's API: TLS 1.3 to exactly the key that the rack repository announces, one request per connection, signed for
//! that connection by a key that lives as long as the command. The user's key signs once, and not before a tray is there.

mod answer;
mod connect;
mod pass;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use racklet_api::hypervisor::Fault;
use racklet_api::hypervisor::access::{self, PASS_HEADER, SIGNATURE_HEADER};
use racklet_trust::PublicKey;
use serde::de::DeserializeOwned;

use crate::ssh::SshError;
use connect::{Connection, Patience};
pub(crate) use pass::Signer;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;
/// A tray is given so long to accept and prove who it is, and then to begin with its answer.
const SILENCE: Duration = Duration::from_secs(5);
/// And so long for all of an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// A tray holds a connection that asks nothing for 3 s: when the person took longer to sign, there has to be another.
const FRESH: Duration = Duration::from_secs(1);
/// A tray with too many visitors sends some away before they have asked; asking again changes nothing but the answer.
const ATTEMPTS: u32 = 3;

/// Why a tray did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error(
        "find {tray} (tried {tried}): name its address with --address HOST[:PORT], or once for all with `git config racklet.{tray}.address HOST`"
    )]
    Resolve {
        tray: String,
        tried: String,
        source: io::Error,
    },
    #[error("connect to {tray} at {address}: is it on, and is this its address?")]
    Connect {
        tray: String,
        address: String,
        source: io::Error,
    },
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    #[error(
        "{address} does not have the identity key of {tray}; another machine answers there, or trays/{tray}.yaml is out of date"
    )]
    Identity {
        tray: String,
        address: String,
        source: io::Error,
    },
    #[error("{tray} at {address} accepts the connection and then says nothing for {seconds} s")]
    Silent {
        tray: String,
        address: String,
        seconds: u64,
    },
    #[error("talk to {tray} at {address}")]
    Io {
        tray: String,
        address: String,
        source: io::Error,
    },
    #[error("sign the request")]
    Sign(#[source] Arc<SshError>),
    #[error("make a key for this command: the system gives no random numbers")]
    Random,
    #[error("{tray} answers something that is not HTTP")]
    Protocol { tray: String },
    #[error("{tray} refuses: {message} (HTTP {status})")]
    Refused {
        tray: String,
        status: u16,
        message: String,
    },
    #[error("{tray} answers something unexpected; is `racklet` older than the tray?")]
    Answer {
        tray: String,
        source: serde_json::Error,
    },
}

impl RemoteError {
    /// Whether the tray may answer later: it is not there, or not yet. What it refuses it refuses later too, but for a tray
    /// that is just starting.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Silent { .. } | Self::Io { .. } => {
                true
            }
            Self::Refused { status, .. } => matches!(status, 404 | 503),
            _ => false,
        }
    }
}

/// A tray that can be asked.
pub(crate) struct Tray<'a> {
    pub(crate) rack: &'a str,
    pub(crate) name: &'a str,
    /// `HOST` or `HOST:PORT`, the most promising one first; whoever answers has to have the identity key.
    pub(crate) addresses: &'a [String],
    pub(crate) identity: &'a PublicKey,
    pub(crate) signer: &'a Signer,
}

/// What a tray said, and where it was reached.
pub(crate) struct Answered<T> {
    pub(crate) value: T,
    pub(crate) at: SocketAddr,
}

impl Tray<'_> {
    /// One request; the answer must be 200 and of the expected shape.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
    ) -> Result<Answered<T>, RemoteError> {
        self.ask_waiting(method, target, Duration::ZERO)
    }

    /// The same for a request that the tray may leave unanswered for `follow`.
    pub(crate) fn ask_waiting<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        follow: Duration,
    ) -> Result<Answered<T>, RemoteError> {
        let mut attempt = 1;
        let (status, body, at) = loop {
            match self.request(method, target, follow) {
                Err(RemoteError::Io { source, .. }) if attempt < ATTEMPTS && sent_away(&source) => {
                    attempt += 1;
                }
                other => break other?,
            }
        };
        if status != 200 {
            let message = match serde_json::from_slice::<Fault>(&body) {
                Ok(fault) => fault.error,
                Err(_) => "no reason given".to_owned(),
            };
            return Err(RemoteError::Refused {
                tray: self.name.to_owned(),
                status,
                message,
            });
        }
        let value = serde_json::from_slice(&body).map_err(|source| RemoteError::Answer {
            tray: self.name.to_owned(),
            source,
        })?;
        Ok(Answered { value, at })
    }

    fn request(
        &self,
        method: &str,
        target: &str,
        follow: Duration,
    ) -> Result<(u16, Vec<u8>, SocketAddr), RemoteError> {
        // First the tray, then the person: nobody touches a token for a tray that is off.
        let mut connection = self.connect()?;
        let credentials = self.signer.credentials()?;
        if connection.since.elapsed() > FRESH {
            connection = self.connect()?;
        }
        let request = access::Request {
            rack: self.rack,
            tray: self.name,
            identity: self.identity,
            channel: &connection.channel,
            method,
            target,
            body: b"",
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\n{PASS_HEADER}: {}\r\n{SIGNATURE_HEADER}: {}\r\naccept: application/json\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.name,
            credentials.pass,
            credentials.sign(&request),
        );
        let at = connection.at;
        connection.stream.sock.patience = Patience {
            silence: SILENCE + follow,
            end: Instant::now() + ANSWER + follow,
        };
        let answer = exchange(&mut connection, head.as_bytes())
            .map_err(|source| self.io(at, SILENCE + follow, source))?;
        match answer::parse(&answer) {
            Some((status, body)) => Ok((status, body, at)),
            None if answer.is_empty() => {
                Err(self.io(at, SILENCE, io::ErrorKind::UnexpectedEof.into()))
            }
            None => Err(RemoteError::Protocol {
                tray: self.name.to_owned(),
            }),
        }
    }

    fn connect(&self) -> Result<Connection, RemoteError> {
        connect::connect(self.name, self.addresses, self.identity, SILENCE)
    }

    fn io(&self, at: SocketAddr, silence: Duration, source: io::Error) -> RemoteError {
        connect::failed(self.name, &at.to_string(), silence, source)
    }
}

fn exchange(connection: &mut Connection, head: &[u8]) -> io::Result<Vec<u8>> {
    let stream = &mut connection.stream;
    stream.write_all(head)?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
        // A peer that closes without saying so; the lengths in the answer decide whether anything is missing.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    Ok(answer)
}

fn sent_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
