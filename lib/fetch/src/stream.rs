// SPDX-License-Identifier: Apache-2.0
//! One TLS connection whose every read and write is held to the [`Timeouts`].

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::{http::HttpError, limits::Timeouts, url::HttpsUrl};

/// Turns a host's name into addresses.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// All addresses of `host`, best first.
    ///
    /// # Errors
    /// What the resolver says.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The C library's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(std::net::ToSocketAddrs::to_socket_addrs(&(host, port))?.collect())
    }
}

/// More addresses than this are not tried.
const MAX_ADDRESSES: usize = 8;

pub(crate) type Tls = StreamOwned<ClientConnection, Paced>;

/// A TCP stream that gives up on a peer that is too slow.
#[derive(Debug)]
pub(crate) struct Paced {
    tcp: TcpStream,
    timeouts: Timeouts,
    deadline: Instant,
    window_end: Instant,
    window_bytes: u64,
    /// Bytes that came in and went out, TLS records included.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Paced {
    /// A new request begins: the clocks start anew.
    pub(crate) fn restart(&mut self) {
        let now = Instant::now();
        self.deadline = now + self.timeouts.total;
        self.window_end = now + self.timeouts.window;
        self.window_bytes = 0;
    }

    /// How long the next call may block, or why there will be none.
    fn patience(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(HttpError::TotalTime(self.timeouts.total).into());
        }
        if now >= self.window_end {
            if self.window_bytes < self.timeouts.minimum {
                return Err(HttpError::Stalled {
                    bytes: self.window_bytes,
                    window: self.timeouts.window,
                }
                .into());
            }
            self.window_end = now + self.timeouts.window;
            self.window_bytes = 0;
        }
        // A time-out of zero would mean none at all.
        Ok((self.window_end.min(self.deadline) - now).max(Duration::from_millis(1)))
    }

    fn paced(
        &mut self,
        mut call: impl FnMut(&mut TcpStream, Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let patience = self.patience()?;
            match call(&mut self.tcp, patience) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Ok(count) => {
                    self.window_bytes += count as u64;
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.paced(|tcp, patience| {
            tcp.set_read_timeout(Some(patience))?;
            tcp.read(buffer)
        })?;
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Paced {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.paced(|tcp, patience| {
            tcp.set_write_timeout(Some(patience))?;
            tcp.write(buffer)
        })?;
        self.sent += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Connects to the first of the host's addresses that answers, and shakes hands.
pub(crate) fn connect(
    url: &HttpsUrl,
    config: &Arc<ClientConfig>,
    timeouts: &Timeouts,
    resolver: &dyn Resolve,
) -> Result<Tls, HttpError> {
    let addresses = match url.host.parse() {
        Ok(address) => vec![SocketAddr::new(address, url.port)],
        Err(_) => resolver
            .resolve(&url.host, url.port)
            .map_err(|source| HttpError::Resolve {
                host: url.host.clone(),
                source,
            })?,
    };
    let mut last = HttpError::NoAddress(url.host.clone());
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        let tcp = match TcpStream::connect_timeout(&address, timeouts.connect) {
            Ok(tcp) => tcp,
            Err(source) => {
                last = HttpError::Connect { address, source };
                continue;
            }
        };
        tcp.set_nodelay(true)
            .map_err(|source| HttpError::Connect { address, source })?;
        let now = Instant::now();
        let paced = Paced {
            tcp,
            timeouts: timeouts.clone(),
            deadline: now + timeouts.total,
            window_end: now + timeouts.window,
            window_bytes: 0,
            received: 0,
            sent: 0,
        };
        return shake_hands(url, config, paced);
    }
    Err(last)
}

fn shake_hands(url: &HttpsUrl, config: &Arc<ClientConfig>, paced: Paced) -> Result<Tls, HttpError> {
    let name = ServerName::try_from(url.host.clone()).expect("HttpsUrl checked the host");
    let connection = ClientConnection::new(config.clone(), name).map_err(HttpError::Tls)?;
    let mut tls = StreamOwned::new(connection, paced);
    while tls.conn.is_handshaking() {
        tls.conn
            .complete_io(&mut tls.sock)
            .map_err(HttpError::from_io)?;
    }
    Ok(tls)
}
