// SPDX-License-Identifier: Apache-2.0
//! One TLS connection whose every wait ends: by the request's deadline, or because too little comes ([`Timeouts`]).

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::error::HttpError;
use crate::{
    limits::Timeouts,
    pulse::{BEAT, Pulse},
    url::HttpsUrl,
};

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

/// When a request must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Until {
    pub(crate) at: Instant,
    /// How long the request had from its beginning; `None` when the end is the whole conversation's.
    pub(crate) of: Option<Duration>,
}

impl Until {
    /// `span` from `now`, or the conversation's end, if that is sooner.
    pub(crate) fn within(now: Instant, span: Duration, end: Option<Instant>) -> Self {
        match end {
            Some(end) if end < now + span => Self { at: end, of: None },
            _ => Self {
                at: now + span,
                of: Some(span),
            },
        }
    }

    fn passed(self) -> HttpError {
        self.of.map_or(HttpError::NoTimeLeft, HttpError::TotalTime)
    }
}

/// Ends waits, and beats while they last.
#[derive(Debug)]
struct Patience {
    pulse: Arc<dyn Pulse>,
    until: Until,
    beaten: Instant,
}

impl Patience {
    fn new(pulse: Arc<dyn Pulse>, until: Until) -> Self {
        let beaten = pulse.now();
        Self {
            pulse,
            until,
            beaten,
        }
    }

    /// Now, and how long until the end; an error when it is there.
    fn look(&mut self) -> Result<(Instant, Duration), HttpError> {
        let now = self.pulse.now();
        if now.saturating_duration_since(self.beaten) >= BEAT {
            self.beaten = now;
            if !self.pulse.beat() {
                return Err(HttpError::CalledOff);
            }
        }
        match self.until.at.checked_duration_since(now) {
            Some(left) if !left.is_zero() => Ok((now, left)),
            _ => Err(self.until.passed()),
        }
    }
}

/// A TCP stream that gives up on a peer that is too slow.
#[derive(Debug)]
pub(crate) struct Paced {
    tcp: TcpStream,
    window: Duration,
    minimum: u64,
    patience: Patience,
    window_end: Instant,
    window_bytes: u64,
    /// Reads give what is there and do not wait.
    at_once: bool,
    /// Bytes that came in and went out, TLS records included.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Paced {
    fn new(tcp: TcpStream, timeouts: &Timeouts, patience: Patience) -> Self {
        let now = patience.pulse.now();
        Self {
            tcp,
            window: timeouts.window,
            minimum: timeouts.minimum,
            patience,
            window_end: now + timeouts.window,
            window_bytes: 0,
            at_once: false,
            received: 0,
            sent: 0,
        }
    }

    /// A new request begins: the clocks start anew.
    pub(crate) fn restart(&mut self, until: Until) {
        self.patience.until = until;
        self.window_end = self.patience.pulse.now() + self.window;
        self.window_bytes = 0;
    }

    /// Whether reads fail with `WouldBlock` instead of waiting.
    pub(crate) fn read_at_once(&mut self, at_once: bool) -> io::Result<()> {
        self.at_once = at_once;
        self.tcp.set_nonblocking(at_once)
    }

    /// How long the next call may block, or why there will be none.
    fn next_wait(&mut self) -> io::Result<Duration> {
        let (now, left) = self.patience.look()?;
        if now >= self.window_end {
            if self.window_bytes < self.minimum {
                return Err(HttpError::Stalled {
                    bytes: self.window_bytes,
                    window: self.window,
                }
                .into());
            }
            self.window_end = now + self.window;
            self.window_bytes = 0;
        }
        // A time-out of zero would mean none at all.
        let shortest = Duration::from_millis(1);
        Ok(left.min(self.window_end - now).min(BEAT).max(shortest))
    }

    fn paced(
        &mut self,
        mut call: impl FnMut(&mut TcpStream, Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let wait = self.next_wait()?;
            match call(&mut self.tcp, wait) {
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
        let count = if self.at_once {
            self.tcp.read(buffer)?
        } else {
            self.paced(|tcp, wait| {
                tcp.set_read_timeout(Some(wait))?;
                tcp.read(buffer)
            })?
        };
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Paced {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.paced(|tcp, wait| {
            tcp.set_write_timeout(Some(wait))?;
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
    resolver: &Arc<dyn Resolve>,
    pulse: &Arc<dyn Pulse>,
    until: Until,
) -> Result<Tls, HttpError> {
    let mut patience = Patience::new(pulse.clone(), until);
    let mut addresses = match url.host.parse() {
        Ok(address) => vec![SocketAddr::new(address, url.port)],
        Err(_) => look_up(url, resolver.clone(), &mut patience)?,
    };
    addresses.truncate(MAX_ADDRESSES);
    let mut last = HttpError::NoAddress(url.host.clone());
    let count = addresses.len();
    for (tried, address) in addresses.into_iter().enumerate() {
        let (_, left) = patience.look()?;
        // The first addresses may lead nowhere: the later ones keep their share of the time.
        let share = left / u32::try_from(count - tried).unwrap_or(1);
        let wait = timeouts.connect.min(share).max(Duration::from_millis(1));
        let tcp = match TcpStream::connect_timeout(&address, wait) {
            Ok(tcp) => tcp,
            Err(source) => {
                last = HttpError::Connect { address, source };
                continue;
            }
        };
        tcp.set_nodelay(true)
            .map_err(|source| HttpError::Connect { address, source })?;
        return shake_hands(url, config, Paced::new(tcp, timeouts, patience));
    }
    Err(last)
}

/// The addresses of a name, from a thread of its own: the C library's resolver keeps no deadline. Where it is late, the thread
/// outlives the wait, and nobody listens to it any more.
fn look_up(
    url: &HttpsUrl,
    resolver: Arc<dyn Resolve>,
    patience: &mut Patience,
) -> Result<Vec<SocketAddr>, HttpError> {
    let failed = |source| HttpError::Resolve {
        host: url.host.clone(),
        source,
    };
    let (send, answer) = mpsc::sync_channel(1);
    let (host, port) = (url.host.clone(), url.port);
    std::thread::Builder::new()
        .name("resolver".into())
        .stack_size(256 << 10)
        .spawn(move || {
            let _ = send.send(resolver.resolve(&host, port));
        })
        .map_err(failed)?;
    loop {
        let (_, left) = patience.look()?;
        match answer.recv_timeout(left.min(BEAT)) {
            Ok(addresses) => return addresses.map_err(failed),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(failed(io::Error::other("the resolver ended")));
            }
        }
    }
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
