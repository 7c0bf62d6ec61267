// SPDX-License-Identifier: Apache-2.0
//! One TLS connection whose every wait ends: by the request's deadline, or because too little comes ([`Timeouts`]).

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use super::error::HttpError;
use crate::{
    limits::Timeouts,
    pulse::{BEAT, Pulse},
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

pub(crate) type Tls = StreamOwned<ClientConnection, Paced>;

/// When a request must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Until {
    pub(crate) at: Instant,
    /// How long the request had from its beginning; `None` when the end is the whole conversation's.
    pub(crate) of: Option<Duration>,
    /// Whether the server prepares its answer meanwhile: silence counts then ([`Timeouts::silence`]), and not how much comes.
    pub(crate) thinks: bool,
}

impl Until {
    /// `span` from `now`, or the conversation's end, if that is sooner.
    pub(crate) fn within(now: Instant, span: Duration, end: Option<Instant>) -> Self {
        match end {
            Some(end) if end < now + span => Self {
                at: end,
                of: None,
                thinks: false,
            },
            _ => Self {
                at: now + span,
                of: Some(span),
                thinks: false,
            },
        }
    }

    pub(crate) fn passed(self) -> HttpError {
        match self.of {
            None => HttpError::NoTimeLeft,
            Some(span) if self.thinks => HttpError::Thinking(span),
            Some(span) => HttpError::TotalTime(span),
        }
    }
}

/// Ends waits, and beats while they last.
#[derive(Debug)]
pub(crate) struct Patience {
    pulse: Arc<dyn Pulse>,
    until: Until,
    beaten: Instant,
}

impl Patience {
    pub(crate) fn new(pulse: Arc<dyn Pulse>, until: Until) -> Self {
        let beaten = pulse.now();
        Self {
            pulse,
            until,
            beaten,
        }
    }

    /// Now, and how long until the end; an error when it is there.
    pub(crate) fn look(&mut self) -> Result<(Instant, Duration), HttpError> {
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
    silence: Duration,
    patience: Patience,
    window_end: Instant,
    window_bytes: u64,
    /// Until when something must come, on a connection that may be dead.
    first_byte: Option<Instant>,
    /// Reads give what is there and do not wait.
    at_once: bool,
    /// Bytes that came in and went out, TLS records included.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Paced {
    pub(crate) fn new(tcp: TcpStream, timeouts: &Timeouts, patience: Patience) -> Self {
        let now = patience.pulse.now();
        Self {
            tcp,
            window: timeouts.window,
            minimum: timeouts.minimum,
            silence: timeouts.silence,
            patience,
            window_end: now + timeouts.window,
            window_bytes: 0,
            first_byte: None,
            at_once: false,
            received: 0,
            sent: 0,
        }
    }

    /// A new request begins: the clocks start anew.
    pub(crate) fn restart(&mut self, until: Until) {
        self.patience.until = until;
        self.begin_window(self.patience.pulse.now());
        self.first_byte = None;
    }

    /// Something must come within `span`, or the connection counts as cut.
    pub(crate) fn shows_life_within(&mut self, span: Duration) {
        self.first_byte = Some(self.patience.pulse.now() + span);
    }

    fn begin_window(&mut self, now: Instant) {
        let thinks = self.patience.until.thinks;
        self.window_end = now + if thinks { self.silence } else { self.window };
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
            if self.patience.until.thinks {
                return Err(HttpError::Silent(self.silence).into());
            }
            if self.window_bytes < self.minimum {
                return Err(HttpError::Stalled {
                    bytes: self.window_bytes,
                    window: self.window,
                }
                .into());
            }
            self.begin_window(now);
        }
        let mut end = self.window_end;
        if let Some(first) = self.first_byte {
            if now >= first {
                return Err(io::ErrorKind::TimedOut.into());
            }
            end = end.min(first);
        }
        // A time-out of zero would mean none at all.
        let shortest = Duration::from_millis(1);
        Ok(left.min(end - now).min(BEAT).max(shortest))
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
                    if self.patience.until.thinks && count > 0 {
                        self.begin_window(self.patience.pulse.now());
                    }
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
        self.first_byte = None;
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
