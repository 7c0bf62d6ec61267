// SPDX-License-Identifier: Apache-2.0
//! A session with a BMC: TLS 1.3, by certificates of the rack's authority on both sides, and frames of `lib/wire` inside.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use racklet_wire::console::{ALPN, Ask, PORT, ROOM, Tell};
use racklet_wire::frame::Frame;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::authority;

/// A BMC gets so long to accept, and for the handshake, which takes its small processor a while.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom to speak with, and who speaks.
pub(super) struct Peer {
    tray: String,
    address: String,
    config: Arc<ClientConfig>,
}

impl Peer {
    /// The BMC of `tray` at an address, with or without a port; `name` is whose certificate is shown.
    pub(super) fn new(
        folder: &Path,
        tray: &str,
        address: &str,
        name: &str,
    ) -> anyhow::Result<Self> {
        let mut authorities = RootCertStore::empty();
        authorities.add(certificate(&authority::certificate(folder))?)?;
        let own = authority::of(folder, name);
        let key = own.with_extension("key");
        let private = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| anyhow::anyhow!("read {}: {error:?}", key.display()))?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(authorities)
                .with_client_auth_cert(vec![certificate(&own)?], private)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // The BMC keeps 4 KiB for a record.
        config.max_fragment_size = Some(2048);
        Ok(Self {
            tray: tray.into(),
            address: match address.contains(':') && address.parse::<std::net::IpAddr>().is_err() {
                true => address.into(),
                false => match address.parse::<std::net::IpAddr>() {
                    Ok(ip) => SocketAddr::new(ip, PORT).to_string(),
                    Err(_) => format!("{address}:{PORT}"),
                },
            },
            config: Arc::new(config),
        })
    }

    /// A session in which nothing was said yet.
    pub(super) fn connect(&self) -> anyhow::Result<Link> {
        let what = || format!("connect to the BMC of {} at {}", self.tray, self.address);
        let mut last = None;
        let mut socket = None;
        for address in self.address.to_socket_addrs().with_context(what)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(open) => {
                    socket = Some(open);
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        let Some(mut socket) = socket else {
            let error = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
            return Err(error).with_context(what);
        };
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.tray.clone())?;
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).with_context(what)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Link {
            tls,
            socket,
            frames: Vec::new(),
            ended: false,
        })
    }
}

fn certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    if !path.exists() {
        bail!(
            "{} is not there: make a certificate with `racklet key issue`, or copy yours there",
            path.display()
        );
    }
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("read {}: {error:?}", path.display()))
}

/// An open session.
pub(super) struct Link {
    tls: ClientConnection,
    pub(super) socket: TcpStream,
    /// What came and was not looked at yet; less than two frames and a record.
    frames: Vec<u8>,
    ended: bool,
}

impl Link {
    /// Puts a frame on its way.
    pub(super) fn say(&mut self, ask: &Ask<'_>) -> anyhow::Result<()> {
        let mut frame = [0; ROOM];
        let length = ask.write(&mut frame).expect("any frame has room");
        self.tls.writer().write_all(&frame[..length])?;
        self.flush()
    }

    /// Whether what was said is not all on its way yet.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends what can be sent without waiting.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes what has arrived, and gives each frame of it to `hear`; false when it was the last.
    pub(super) fn hear(
        &mut self,
        mut hear: impl FnMut(Tell<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => self.ended = true,
            Ok(_) => {
                let state = self.tls.process_new_packets()?;
                self.ended |= state.peer_has_closed();
                let there = state.plaintext_bytes_to_read();
                let before = self.frames.len();
                self.frames.resize(before + there, 0);
                self.tls.reader().read_exact(&mut self.frames[before..])?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let mut taken = 0;
        while let Some((frame, length)) = Frame::first(&self.frames[taken..])? {
            hear(Tell::read(frame)?)?;
            taken += length;
        }
        self.frames.drain(..taken);
        Ok(!self.ended)
    }
}
