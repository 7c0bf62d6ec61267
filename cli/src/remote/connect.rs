// SPDX-License-Identifier: Apache-2.0
//! Finds a tray under one of its addresses: there is somebody, and it has the tray's key.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use racklet_api::hypervisor as http;
use racklet_api::hypervisor::access::{CHANNEL_LABEL, Channel};
use racklet_trust::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::RemoteError;

/// A connection to the tray, its identity proven.
pub(super) struct Connection {
    pub(super) stream: StreamOwned<ClientConnection, Patient>,
    /// What only its two ends know.
    pub(super) channel: Channel,
    pub(super) at: SocketAddr,
    pub(super) since: Instant,
}

/// How long the other side is waited for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Without a word.
    pub(super) silence: Duration,
    /// In all.
    pub(super) end: Instant,
}

/// A socket whose reads and writes end.
pub(super) struct Patient {
    socket: TcpStream,
    pub(super) patience: Patience,
}

impl Patient {
    fn arm(&self) -> io::Result<()> {
        let left = self.patience.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let wait = Some(left.min(self.patience.silence));
        self.socket.set_read_timeout(wait)?;
        self.socket.set_write_timeout(wait)
    }
}

impl Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.read(out)
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Tries the addresses in order; all together have `within`, and whatever one leaves of it is there for the next.
pub(super) fn connect(
    tray: &str,
    addresses: &[String],
    identity: &PublicKey,
    within: Duration,
) -> Result<Connection, RemoteError> {
    let config = Arc::new(config(identity)?);
    let end = Instant::now() + within;
    let mut worst: Option<RemoteError> = None;
    for (index, address) in addresses.iter().enumerate() {
        let found = match with_port(address).to_socket_addrs() {
            Ok(found) => found.collect::<Vec<_>>(),
            Err(source) => {
                let error = RemoteError::Resolve {
                    tray: tray.to_owned(),
                    tried: addresses.join(", "),
                    source,
                };
                worst.get_or_insert(error);
                continue;
            }
        };
        let share = share(end, addresses.len() - index);
        let until = Instant::now() + share;
        for (index, at) in found.iter().enumerate() {
            let until = Instant::now() + self::share(until, found.len() - index);
            match connect_to(tray, *at, &config, until, within) {
                Ok(connection) => return Ok(connection),
                // Somebody who is there and is another is worth more words than an address where nobody is.
                Err(error) if telling(&error) >= worst.as_ref().map_or(0, telling) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
    }
    Err(worst.unwrap_or_else(|| RemoteError::Resolve {
        tray: tray.to_owned(),
        tried: addresses.join(", "),
        source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
    }))
}

/// How much an error says about the tray.
fn telling(error: &RemoteError) -> u8 {
    match error {
        RemoteError::Resolve { .. } => 0,
        RemoteError::Connect { .. } => 1,
        RemoteError::Identity { .. } => 3,
        _ => 2,
    }
}

fn share(end: Instant, among: usize) -> Duration {
    let among = u32::try_from(among).unwrap_or(u32::MAX).max(1);
    // Zero would be no time-out at all.
    (end.saturating_duration_since(Instant::now()) / among).max(Duration::from_millis(1))
}

fn with_port(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, http::PORT).to_string(),
        Err(_) if address.contains(':') => address.to_owned(),
        Err(_) => format!("{address}:{}", http::PORT),
    }
}

fn connect_to(
    tray: &str,
    at: SocketAddr,
    config: &Arc<ClientConfig>,
    end: Instant,
    within: Duration,
) -> Result<Connection, RemoteError> {
    let socket =
        TcpStream::connect_timeout(&at, share(end, 1)).map_err(|source| RemoteError::Connect {
            tray: tray.to_owned(),
            address: at.to_string(),
            source,
        })?;
    let since = Instant::now();
    let patience = Patience {
        silence: within,
        end,
    };
    let server = ServerName::try_from(tray.to_owned()).map_err(|_| RemoteError::Protocol {
        tray: tray.to_owned(),
    })?;
    let mut stream = StreamOwned::new(
        ClientConnection::new(Arc::clone(config), server)?,
        Patient { socket, patience },
    );
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .map_err(|source| failed(tray, &at.to_string(), within, source))?;
    }
    let channel = stream
        .conn
        .export_keying_material(Channel::default(), CHANNEL_LABEL, None)?;
    Ok(Connection {
        stream,
        channel,
        at,
        since,
    })
}

/// What went wrong on a connection.
pub(super) fn failed(
    tray: &str,
    address: &str,
    silence: Duration,
    source: io::Error,
) -> RemoteError {
    let (tray, address) = (tray.to_owned(), address.to_owned());
    // rustls puts its own error inside.
    let tls = source
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>());
    match source.kind() {
        _ if tls => RemoteError::Identity {
            tray,
            address,
            source,
        },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RemoteError::Silent {
            tray,
            address,
            seconds: silence.as_secs(),
        },
        _ => RemoteError::Io {
            tray,
            address,
            source,
        },
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
