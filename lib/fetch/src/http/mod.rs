// SPDX-License-Identifier: Apache-2.0
//! Just enough HTTP/1.1 for Git's smart protocol: one request at a time over one TLS connection that is kept while it serves.
//!
//! No compression, no cookies, no proxies, no caching. A redirect is an error that names where it leads, so that [`crate::remote`] can
//! decide; everything else that is not the Git answer asked for is an error with the reason.

mod dial;
mod error;
mod head;
mod stream;

use std::{
    io::{self, BufRead, Read, Write},
    time::{Duration, Instant},
};

pub(crate) use self::dial::{Dial, Worked};
pub use self::error::HttpError;
pub(crate) use self::head::fuzz_head;
pub(crate) use self::stream::Until;
pub use self::stream::{Resolve, SystemResolver};
use self::{
    head::{Framing, Head, check, parse},
    stream::Tls,
};
use crate::{limits::Timeouts, url::HttpsUrl};

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Interim answers (1xx) before the answer itself. Nothing that was asked for has any; some proxies send one or two.
const MAX_INTERIM: usize = 8;
/// [`Request::expected`] of what is no answer of Git's: plain files, which servers call what they like, or nothing at all.
pub(crate) const ANY: &str = "*/*";
/// How much is read from TLS at once: its largest record.
const BUFFER: usize = 16 * 1024;

/// One connection, made when first needed and made anew when the server dropped it.
#[derive(Debug)]
pub(crate) struct Client {
    dial: Dial,
    authorization: Option<String>,
    /// When everything must be done.
    end: Option<Instant>,
    open: Option<Open>,
    /// Bytes on the wire over closed connections.
    received: u64,
    sent: u64,
}

#[derive(Debug)]
struct Open {
    tls: Tls,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// When it began to lie idle.
    idle_since: Instant,
}

/// A body being read. Dropping it before its end drops the connection.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    client: &'a mut Client,
    framing: Framing,
    keep: bool,
    left: u64,
    limit: u64,
}

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a HttpsUrl,
    /// Behind the URL's path.
    pub(crate) suffix: &'a str,
    /// `None` is GET.
    pub(crate) post: Option<(&'static str, &'a [u8])>,
    /// The `Content-Type` that a Git server answers with, or [`ANY`].
    pub(crate) expected: &'static str,
    /// Largest body.
    pub(crate) limit: u64,
    /// When its answer must be complete.
    pub(crate) until: Until,
}

impl Client {
    pub(crate) fn new(dial: Dial, authorization: Option<String>) -> Self {
        Self {
            dial,
            authorization,
            end: None,
            open: None,
            received: 0,
            sent: 0,
        }
    }

    /// By the clock that patience goes by.
    pub(crate) fn now(&self) -> Instant {
        self.dial.pulse.now()
    }

    /// Bytes received and sent so far, TLS included.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let (received, sent) = self
            .open
            .as_ref()
            .map_or((0, 0), |open| (open.tls.sock.received, open.tls.sock.sent));
        (self.received + received, self.sent + sent)
    }

    /// Whatever is asked from now on is done by then, or not at all.
    pub(crate) fn finish_by(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// The end of something that begins now and may take `span`.
    pub(crate) fn within(&self, span: Duration) -> Until {
        Until::within(self.dial.pulse.now(), span, self.end)
    }

    /// The end of the time in which a server prepares a pack, which begins now.
    pub(crate) fn thinking(&self) -> Until {
        Until {
            thinks: true,
            ..self.within(self.dial.timeouts.thinking)
        }
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.dial.timeouts
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.received += open.tls.sock.received;
            self.sent += open.tls.sock.sent;
        }
    }

    /// Sends `request` and reads the answer's head.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> Result<Body<'_>, HttpError> {
        let now = self.dial.pulse.now();
        let idle = |open: &Open| now.saturating_duration_since(open.idle_since);
        let longest = self.dial.timeouts.idle;
        if (self.open.as_mut()).is_some_and(|open| idle(open) > longest || !open.is_idle()) {
            self.close();
        }
        let reused = self.open.is_some();
        let head = match self.exchange(request) {
            // The server, or a router that forgot the connection, may drop an idle one at any time: that says nothing about this request.
            Err(HttpError::Cut(_)) if reused => {
                self.close();
                self.exchange(request)
            }
            // Sent because the connection was idle, while the request was on its way (RFC 9110, 15.5.9).
            Ok((head, _)) if reused && head.status == 408 => {
                self.close();
                self.exchange(request)
            }
            other => other,
        };
        let (head, used) = head.inspect_err(|_| self.close())?;
        let open = self.open.as_mut().expect("exchange left it open");
        open.start += used;
        let checked = check(&head, request.expected);
        let (framing, keep) = checked.inspect_err(|_| self.close())?;
        if let Framing::Length(length) = framing
            && length > request.limit
        {
            self.close();
            return Err(HttpError::TooLarge(request.limit));
        }
        Ok(Body {
            client: self,
            framing: if framing == Framing::Length(0) {
                Framing::Done
            } else {
                framing
            },
            keep,
            left: request.limit,
            limit: request.limit,
        })
    }

    fn exchange(&mut self, request: &Request<'_>) -> Result<(Head, usize), HttpError> {
        let now = self.dial.pulse.now();
        let (open, idle) = match &mut self.open {
            Some(open) => {
                let idle = now.saturating_duration_since(open.idle_since);
                (open, Some(idle))
            }
            none => {
                let open = none.insert(Open {
                    tls: self.dial.connect(request.url, request.until)?,
                    buffer: vec![0; BUFFER],
                    start: 0,
                    end: 0,
                    idle_since: now,
                });
                (open, None)
            }
        };
        open.tls.sock.restart(request.until);
        let within = self.dial.timeouts.reused;
        // One that just answered is alive: a pack is asked for behind a question, and may be long in coming. To ask for it a second time
        // would double the server's work.
        if idle.is_some_and(|idle| idle >= within || !request.until.thinks) {
            open.tls.sock.shows_life_within(within);
        }
        let mut text = format!(
            "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: git/2.47 (racklet {})\r\nGit-Protocol: version=2\r\nAccept: {}\r\n",
            if request.post.is_some() {
                "POST"
            } else {
                "GET"
            },
            request.url.path,
            request.suffix,
            request.url.authority(),
            env!("CARGO_PKG_VERSION"),
            request.expected,
        );
        if let Some(authorization) = &self.authorization {
            text += &format!("Authorization: {authorization}\r\n");
        }
        if let Some((kind, body)) = request.post {
            text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(request.post.map_or(&[], |(_, body)| body));
        open.tls
            .write_all(&bytes)
            .and_then(|()| open.tls.flush())
            .map_err(HttpError::from_io)?;
        for _ in 0..=MAX_INTERIM {
            let (head, used) = open.head()?;
            // 101 is no interim answer: it ends HTTP, which nobody asked for.
            if head.status / 100 != 1 || head.status == 101 {
                return Ok((head, used));
            }
            open.start += used;
        }
        Err(HttpError::Malformed(
            "more than 8 interim answers come before it",
        ))
    }
}

impl Open {
    fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether the connection is open and nothing has come on it since the last answer's end. What did come belongs to no
    /// question: taken for the answer to the next one, a server could answer before it is asked.
    fn is_idle(&mut self) -> bool {
        if self.start < self.end || self.tls.sock.read_at_once(true).is_err() {
            return false;
        }
        let read = self.tls.read(&mut self.buffer);
        let waits = matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        waits && self.tls.sock.read_at_once(false).is_ok()
    }

    /// Reads more behind what is there. False at the connection's proper end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = self.tls.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count > 0)
    }

    fn head(&mut self) -> Result<(Head, usize), HttpError> {
        loop {
            if self.start < self.end
                && let Some(head) = parse(self.available())?
            {
                return Ok(head);
            }
            if self.end - self.start >= MAX_HEAD {
                return Err(HttpError::Malformed("its head is longer than 16 KiB"));
            }
            if !self.fill().map_err(HttpError::from_io)? {
                return Err(HttpError::Cut(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The line up to the next LF, without CR LF: the head of a chunk or a trailer.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        const MAX_LINE: usize = 256;
        loop {
            let available = self.available();
            if let Some(end) = available.iter().take(MAX_LINE).position(|&b| b == b'\n') {
                let line = available[..end].trim_ascii().to_vec();
                self.start += end + 1;
                return Ok(line);
            }
            if available.len() >= MAX_LINE {
                return Err(HttpError::Malformed("the head of a chunk is too long").into());
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Body<'_> {
    fn open(&mut self) -> io::Result<&mut Open> {
        self.client
            .open
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Steps over chunk heads and trailers, and notices the end.
    fn advance(&mut self) -> io::Result<()> {
        if let Framing::Chunked { left: 0, first } = self.framing {
            let open = self.open()?;
            if !first && !open.line()?.is_empty() {
                return Err(HttpError::Malformed("a chunk is longer than it says").into());
            }
            let line = open.line()?;
            let size = line
                .split(|&b| b == b';')
                .next()
                .unwrap_or(&[])
                .trim_ascii();
            let size = std::str::from_utf8(size)
                .ok()
                .filter(|s| (1..=15).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|s| u64::from_str_radix(s, 16).ok())
                .ok_or(HttpError::Malformed("the length of a chunk cannot be read"))?;
            if size == 0 {
                let mut trailers = 0;
                while !open.line()?.is_empty() {
                    trailers += 1;
                    if trailers > MAX_HEADERS {
                        return Err(HttpError::Malformed("too many trailers").into());
                    }
                }
                self.framing = Framing::Done;
            } else {
                self.framing = Framing::Chunked {
                    left: size,
                    first: false,
                };
            }
        }
        Ok(())
    }

    /// The server has prepared what was asked for: from now on it must come in a flow, and be complete when a pack must.
    pub(crate) fn flows(&mut self) {
        let until = self.client.within(self.client.timeouts().pack);
        if let Some(open) = &mut self.client.open {
            open.tls.sock.restart(until);
        }
    }

    /// Reads up to the end, which must be near, so that the connection can serve again.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while self.framing != Framing::Done {
            let count = self.fill_buf()?.len();
            if count > 0 {
                return Err(HttpError::Malformed("bytes follow the end of Git's answer").into());
            }
        }
        Ok(())
    }
}

impl BufRead for Body<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        let most = match self.framing {
            Framing::Done => return Ok(&[]),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
            Framing::Close => u64::MAX,
        };
        let closes = self.framing == Framing::Close;
        let open = self.open()?;
        if open.start == open.end && !open.fill()? {
            if closes {
                self.framing = Framing::Done;
                return Ok(&[]);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.left == 0 {
            return Err(HttpError::TooLarge(self.limit).into());
        }
        let most = usize::try_from(most.min(self.left)).unwrap_or(usize::MAX);
        let available = self.open()?.available();
        Ok(&available[..available.len().min(most)])
    }

    fn consume(&mut self, count: usize) {
        if let Some(open) = &mut self.client.open {
            open.start += count;
        }
        self.left -= count as u64;
        match &mut self.framing {
            Framing::Length(left) => {
                *left -= count as u64;
                if *left == 0 {
                    self.framing = Framing::Done;
                }
            }
            Framing::Chunked { left, .. } => *left -= count as u64,
            Framing::Close | Framing::Done => {}
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        let surplus = self
            .client
            .open
            .as_ref()
            .is_some_and(|open| open.start < open.end);
        if !self.keep || self.framing != Framing::Done || surplus {
            self.client.close();
        } else if let Some(open) = &mut self.client.open {
            open.idle_since = self.client.dial.pulse.now();
        }
    }
}
