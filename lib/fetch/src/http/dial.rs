// SPDX-License-Identifier: Apache-2.0
//! A connection to an address of a host that works: takes TCP and shakes hands.
//!
//! ```text
//!   look up ─> families in turn ─> one TCP attempt, 250 ms later another ... ─first to connect─> handshake ─> the connection
//!                                         ^                                                          │ none in 10 s, or no good
//!                                         └──────────── those that are left ─────────────────────────┘
//! ```
//!
//! One address of several is often of no use: IPv6 that the home's router announces and does not carry, a firewall that loses large
//! packets, a stale record. Racing and its 250 ms are RFC 8305's ("Happy Eyeballs", sections 4 and 5). It does not decide whom to believe:
//! whichever address it is, its certificate is judged alike.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::{
    error::HttpError,
    stream::{Paced, Patience, Resolve, Tls, Until},
};
use crate::{
    limits::Timeouts,
    pulse::{BEAT, Pulse},
    url::HttpsUrl,
};

/// More addresses than this are not tried.
const MAX_ADDRESSES: usize = 8;
/// Hosts whose address is remembered: a rack has few.
const MAX_REMEMBERED: usize = 16;

/// The address that worked last, by host and port. Conversations that come from one configuration share it, so that a broken address
/// costs its 10 s once and not with every connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worked(Arc<Mutex<Vec<Known>>>);

#[derive(Debug)]
struct Known {
    host: String,
    port: u16,
    address: SocketAddr,
}

impl Worked {
    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let known = self.known();
        let mut here = known.iter().filter(|it| it.host == host && it.port == port);
        here.next().map(|it| it.address)
    }

    fn put(&self, host: &str, port: u16, address: SocketAddr) {
        let mut known = self.known();
        known.retain(|it| it.host != host || it.port != port);
        let host = host.to_owned();
        known.insert(
            0,
            Known {
                host,
                port,
                address,
            },
        );
        known.truncate(MAX_REMEMBERED);
    }
}

/// How connections are made.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) timeouts: Timeouts,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) pulse: Arc<dyn Pulse>,
    pub(crate) worked: Worked,
}

/// An address that TCP is being asked for.
struct Asked {
    address: SocketAddr,
    socket: OwnedFd,
    by: Instant,
}

/// The addresses of a host on their way.
#[derive(Default)]
struct Race {
    left: VecDeque<SocketAddr>,
    asked: Vec<Asked>,
    failed: Vec<(SocketAddr, HttpError)>,
}

impl Dial {
    /// Connects to the first of the host's addresses that works.
    pub(crate) fn connect(&self, url: &HttpsUrl, until: Until) -> Result<Tls, HttpError> {
        let mut patience = Patience::new(self.pulse.clone(), until);
        let addresses = match url.host.parse() {
            Ok(address) => vec![SocketAddr::new(address, url.port)],
            Err(_) => self.look_up(url, &mut patience)?,
        };
        let first = self.worked.find(&url.host, url.port);
        let mut race = Race {
            left: in_turn(addresses, first),
            ..Race::default()
        };
        while let Some((address, tcp)) = self.race(&mut race, &mut patience)? {
            // The others are asked again if this one is of no use.
            let others = std::mem::take(&mut race.asked).into_iter().rev();
            others.for_each(|other| race.left.push_front(other.address));
            match self.shake_hands(url, tcp, until, race.left.len()) {
                Ok(tls) => {
                    self.worked.put(&url.host, url.port, address);
                    return Ok(tls);
                }
                Err(error @ HttpError::CalledOff) => return Err(error),
                Err(error) => race.failed.push((address, error)),
            }
        }
        Err(match race.failed.len() {
            0 => HttpError::NoAddress(url.host.clone()),
            1 => race.failed.remove(0).1,
            _ => HttpError::Addresses {
                host: url.host.clone(),
                failed: race.failed,
            },
        })
    }

    /// The next address that takes TCP; `None` when there is none left.
    fn race(
        &self,
        race: &mut Race,
        patience: &mut Patience,
    ) -> Result<Option<(SocketAddr, TcpStream)>, HttpError> {
        let mut next = None;
        loop {
            let (now, left) = patience.look()?;
            if race.asked.is_empty() || next.is_some_and(|next| next <= now) {
                next = None;
                if let Some(address) = race.left.pop_front() {
                    match ask(address) {
                        Ok(socket) => race.asked.push(Asked {
                            address,
                            socket,
                            by: now + self.timeouts.connect,
                        }),
                        Err(error) => {
                            race.fail(address, error);
                            continue;
                        }
                    }
                }
            }
            if race.asked.is_empty() {
                return Ok(None);
            }
            let next = *next.get_or_insert(now + self.timeouts.stagger);
            let mut wait = left.min(BEAT);
            if !race.left.is_empty() {
                wait = wait.min(next.saturating_duration_since(now));
            }
            for asked in &race.asked {
                wait = wait.min(asked.by.saturating_duration_since(now));
            }
            let Some(index) = race.ready(wait) else {
                // `now` is of before the wait: one that is late waits for the next round at most.
                let late = race.asked.iter().position(|asked| asked.by <= now);
                if let Some(late) = late {
                    let asked = race.asked.remove(late);
                    race.fail(asked.address, Errno::TIMEDOUT);
                }
                continue;
            };
            let Asked {
                address, socket, ..
            } = race.asked.remove(index);
            let tcp = match sockopt::socket_error(&socket) {
                Ok(Ok(())) => TcpStream::from(socket),
                Ok(Err(error)) | Err(error) => {
                    race.fail(address, error);
                    continue;
                }
            };
            match tcp
                .set_nonblocking(false)
                .and_then(|()| tcp.set_nodelay(true))
            {
                Ok(()) => return Ok(Some((address, tcp))),
                Err(source) => race
                    .failed
                    .push((address, HttpError::Connect { address, source })),
            }
        }
    }

    /// The addresses of a name, from a thread of its own: the C library's resolver keeps no deadline. Where it is late, the thread
    /// outlives the wait, and nobody listens to it any more.
    fn look_up(
        &self,
        url: &HttpsUrl,
        patience: &mut Patience,
    ) -> Result<Vec<SocketAddr>, HttpError> {
        let failed = |source| HttpError::Resolve {
            host: url.host.clone(),
            source,
        };
        let (send, answer) = mpsc::sync_channel(1);
        let (host, port, resolver) = (url.host.clone(), url.port, self.resolver.clone());
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

    /// `others` addresses wait for their turn, and keep their share of the time that is left until `until`.
    fn shake_hands(
        &self,
        url: &HttpsUrl,
        tcp: TcpStream,
        until: Until,
        others: usize,
    ) -> Result<Tls, HttpError> {
        let now = self.pulse.now();
        let left = until.at.saturating_duration_since(now);
        let share = left / u32::try_from(others + 1).unwrap_or(u32::MAX);
        let span = self.timeouts.handshake.min(share);
        let mine = Until::within(now, span, None);
        let patience = Patience::new(self.pulse.clone(), mine);
        let name = ServerName::try_from(url.host.clone()).expect("HttpsUrl checked the host");
        let connection = ClientConnection::new(self.tls.clone(), name).map_err(HttpError::Tls)?;
        let mut tls = StreamOwned::new(connection, Paced::new(tcp, &self.timeouts, patience));
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                return Err(match HttpError::from_io(error) {
                    HttpError::TotalTime(_) if span == left => until.passed(),
                    HttpError::TotalTime(span) => HttpError::Handshake(span),
                    other => other,
                });
            }
        }
        Ok(tls)
    }
}

impl Race {
    fn fail(&mut self, address: SocketAddr, error: Errno) {
        let source = error.into();
        let error = HttpError::Connect { address, source };
        self.failed.push((address, error));
    }

    /// Which of those that were asked has an answer, waiting at most so long for it.
    fn ready(&self, wait: Duration) -> Option<usize> {
        let mut polled: Vec<PollFd<'_>> = self
            .asked
            .iter()
            .map(|asked| PollFd::new(&asked.socket, PollFlags::OUT))
            .collect();
        // Not less than a millisecond, so that a wait of almost nothing does not go round in circles.
        let wait = wait.max(Duration::from_millis(1));
        let wait = Timespec::try_from(wait).expect("at most a second");
        // A signal ends the wait early, and nothing else can be wrong with these descriptors.
        poll(&mut polled, Some(&wait)).ok()?;
        polled.iter().position(|one| !one.revents().is_empty())
    }
}

/// Begins to connect.
fn ask(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The order in which addresses are tried: the one that worked before, then both families in turn, each in the resolver's order and
/// beginning with the resolver's first.
fn in_turn(addresses: Vec<SocketAddr>, worked: Option<SocketAddr>) -> VecDeque<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv4);
    let known = worked.filter(|worked| addresses.contains(worked));
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv4()) == first);
    let mut order: VecDeque<_> = known.into_iter().collect();
    while !one.is_empty() {
        if let Some(address) = one.pop_front()
            && !order.contains(&address)
        {
            order.push_back(address);
        }
        if !other.is_empty() {
            std::mem::swap(&mut one, &mut other);
        }
    }
    order.truncate(MAX_ADDRESSES);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        let with_port = text.split_whitespace().map(|it| match it.contains(':') {
            true => format!("[{it}]:443"),
            false => format!("{it}:443"),
        });
        with_port
            .map(|it| it.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn families_take_turns_and_what_worked_comes_first() {
        for (found, worked, order) in [
            ("::1 ::2 1.1.1.1 2.2.2.2", "", "::1 1.1.1.1 ::2 2.2.2.2"),
            ("1.1.1.1 ::1 ::2 ::3", "", "1.1.1.1 ::1 ::2 ::3"),
            ("::1 ::2", "", "::1 ::2"),
            ("::1 1.1.1.1 ::1", "", "::1 1.1.1.1"),
            ("::1 ::2 1.1.1.1", "1.1.1.1", "1.1.1.1 ::1 ::2"),
            // What the name does not lead to any more is not asked.
            ("::1", "1.1.1.1", "::1"),
            // A long list of one family leaves room for the other.
            (
                "::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8 ::9 1.1.1.1",
                "",
                "::1 1.1.1.1 ::2 ::3 ::4 ::5 ::6 ::7",
            ),
            ("", "", ""),
        ] {
            let worked = addresses(worked).first().copied();
            assert_eq!(
                in_turn(addresses(found), worked),
                addresses(order),
                "{found}"
            );
        }
    }

    #[test]
    fn what_worked_is_remembered_by_host_and_port_for_a_bounded_number_of_them() {
        let worked = Worked::default();
        let [one, other] = addresses("1.1.1.1 ::1")[..] else {
            unreachable!()
        };
        worked.put("a", 443, one);
        worked.put("a", 443, other);
        assert_eq!(worked.find("a", 443), Some(other));
        assert_eq!(worked.find("a", 444), None);
        for n in 0..MAX_REMEMBERED {
            worked.put(&format!("h{n}"), 443, one);
        }
        assert_eq!(worked.find("a", 443), None);
        assert_eq!(worked.known().len(), MAX_REMEMBERED);
    }
}
