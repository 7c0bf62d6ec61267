// SPDX-License-Identifier: Apache-2.0
//! Talks to a tray's API: TLS 1.3 to exactly the key that the rack repository announces, one signed request at a time.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use racklet_api::http::{self, Fault, Request};
use racklet_trust::{PublicKey, namespace};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde::de::DeserializeOwned;

use crate::ssh::{self, Key, SshError};

/// Longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// Longer than any `follow` the tray allows.
const ANSWER: Duration = Duration::from_secs(http::MAX_FOLLOW + 15);

/// Why a tray did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error(
        "find the address of {address}: name it with --address HOST[:PORT], or once for all with `git config racklet.{tray}.address HOST`"
    )]
    Resolve {
        tray: String,
        address: String,
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
    #[error("talk to {tray}")]
    Io { tray: String, source: io::Error },
    #[error("sign the request")]
    Sign(#[from] SshError),
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

/// A tray that can be asked.
pub(crate) struct Tray<'a> {
    pub(crate) rack: &'a str,
    pub(crate) name: &'a str,
    /// `HOST` or `HOST:PORT`.
    pub(crate) address: &'a str,
    pub(crate) identity: &'a PublicKey,
    pub(crate) key: &'a Key,
}

impl Tray<'_> {
    /// One request; the answer must be 200 and of the expected shape.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
    ) -> Result<T, RemoteError> {
        let (status, body) = self.request(method, target)?;
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
        serde_json::from_slice(&body).map_err(|source| RemoteError::Answer {
            tray: self.name.to_owned(),
            source,
        })
    }

    fn request(&self, method: &str, target: &str) -> Result<(u16, Vec<u8>), RemoteError> {
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let request = Request {
            rack: self.rack,
            tray: self.name,
            timestamp,
            method,
            target,
            body: b"",
        };
        let armored = ssh::sign(self.key, namespace::API, &http::canonical_request(&request))?;
        let signature = http::signature_to_header(&String::from_utf8_lossy(&armored));
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\n{}: {timestamp}\r\n{}: {signature}\r\naccept: application/json\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.name,
            http::TIMESTAMP_HEADER,
            http::SIGNATURE_HEADER,
        );
        let tray = || self.name.to_owned();
        let mut stream = self.connect()?;
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.flush())
            .map_err(|source| self.io(source))?;
        let mut answer = Vec::new();
        match stream.take(MAX_ANSWER).read_to_end(&mut answer) {
            // A peer that closes without saying so; the lengths below decide whether anything is missing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(source) => return Err(self.io(source)),
            Ok(_) => {}
        }
        parse(&answer).ok_or_else(|| RemoteError::Protocol { tray: tray() })
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>, RemoteError> {
        let address = match self.address.parse::<std::net::IpAddr>() {
            Ok(ip) => std::net::SocketAddr::new(ip, http::PORT).to_string(),
            Err(_) if self.address.contains(':') => self.address.to_owned(),
            Err(_) => format!("{}:{}", self.address, http::PORT),
        };
        let (name, shown) = (self.name.to_owned(), address.clone());
        let resolved = address
            .to_socket_addrs()
            .map_err(|source| RemoteError::Resolve {
                tray: name.clone(),
                address: shown.clone(),
                source,
            })?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut connected = None;
        for candidate in resolved {
            match TcpStream::connect_timeout(&candidate, CONNECT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(stream) = connected else {
            return Err(RemoteError::Connect {
                tray: name,
                address: shown,
                source: last,
            });
        };
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream, Some(ANSWER)).map_err(|source| self.io(source))?;
        }
        let server = ServerName::try_from(self.name.to_owned())
            .map_err(|_| RemoteError::Protocol { tray: name.clone() })?;
        let mut stream = StreamOwned::new(
            ClientConnection::new(Arc::new(config(self.identity)?), server)?,
            stream,
        );
        while stream.conn.is_handshaking() {
            stream
                .conn
                .complete_io(&mut stream.sock)
                .map_err(|source| {
                    // rustls puts its own error inside.
                    if source
                        .get_ref()
                        .is_some_and(|inner| inner.is::<rustls::Error>())
                    {
                        RemoteError::Identity {
                            tray: name.clone(),
                            address: shown.clone(),
                            source,
                        }
                    } else {
                        self.io(source)
                    }
                })?;
        }
        Ok(stream)
    }

    fn io(&self, source: io::Error) -> RemoteError {
        RemoteError::Io {
            tray: self.name.to_owned(),
            source,
        }
    }
}

fn config(identity: &PublicKey) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Pinned {
        key: spki(identity),
        provider: provider.clone(),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth())
}

/// An Ed25519 key as certificates spell it (RFC 8410).
fn spki(key: &PublicKey) -> Vec<u8> {
    const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    [PREFIX.as_slice(), key.material()].concat()
}

/// Believes the handshake when the pinned key signed it. What else the certificate says does not matter: names and
/// authorities say nothing that the signed repository does not say better.
#[derive(Debug)]
struct Pinned {
    key: Vec<u8>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(self.key.as_slice());
        verify_tls13_signature_with_raw_key(
            message,
            &key,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Status and body of a whole HTTP/1.1 answer; `None` when it is none or incomplete.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else {
        return None;
    };
    let body = &answer[length..];
    let header = |name: &str| {
        head.headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|h| std::str::from_utf8(h.value).ok())
    };
    let body =
        if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            chunked(body)?
        } else if let Some(length) = header("content-length") {
            body.get(..length.trim().parse().ok()?)?.to_vec()
        } else {
            body.to_vec()
        };
    Some((head.code?, body))
}

fn chunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(rest).ok()?
        else {
            return None;
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(start..start.checked_add(size)?)?);
        rest = rest.get(start + size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_read_and_cut_ones_are_not() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        let pieces =
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";
        assert_eq!(parse(plain), Some((200, b"body".to_vec())));
        assert_eq!(parse(pieces), Some((404, b"body".to_vec())));
        for cut in 0..plain.len() {
            assert_eq!(parse(&plain[..cut]), None, "{cut}");
        }
        for cut in 0..pieces.len() - 4 {
            assert_eq!(parse(&pieces[..cut]), None, "{cut}");
        }
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
            None
        );
    }
}
