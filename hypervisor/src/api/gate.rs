// SPDX-License-Identifier: Apache-2.0
//! The network's door: holds connections until they say something, and gives each that does a thread of its own for a bounded time.
//!
//! Which of them has to go when there are too many is decided in `seats`; here are the sockets.

use super::seats::{self, HEARD, MAX_PROVEN, SILENT, Unproven};
use crate::console::Once;
use racklet_line::Socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads at a time: those that were just sent away are still about to end.
const MAX_THREADS: usize = HEARD.total + MAX_PROVEN + 16;
const STACK: usize = 256 * 1024;
/// Without a place for a thread, or without descriptors, one looks again so much later.
const BUSY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Gate {
    table: Mutex<BTreeMap<u64, Held>>,
    proven: AtomicUsize,
    threads: AtomicUsize,
}

struct Held {
    stream: Arc<TcpStream>,
    unproven: Unproven,
}

/// A connection that said something, as its thread has it.
pub(super) struct Visitor {
    gate: Arc<Gate>,
    id: u64,
    stream: Arc<TcpStream>,
    /// When it must have shown a signature.
    pub(super) end: Instant,
}

/// A place among those that are answered; given back when it is dropped.
pub(super) struct Seat(Arc<Gate>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.proven.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        // Whoever panicked left whole entries behind.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts for ever; `serve` runs in a thread per connection that speaks.
    pub(super) fn run<F>(self: &Arc<Self>, listener: &TcpListener, serve: F)
    where
        F: Fn(Visitor) + Clone + Send + 'static,
    {
        let trouble = Once::default();
        let mut next = 0;
        // Somebody who knocked and went again must not be waited for.
        if let Err(error) = listener.set_nonblocking(true) {
            trouble.say(&format!("the API's socket: {error}"));
        }
        loop {
            let round = self
                .wait(listener)
                .and_then(|knocks| self.listen_to_the_silent(&serve).map(|()| knocks))
                .and_then(|knocks| {
                    if knocks {
                        // One at a time: between two of them it shows who has said something.
                        self.admit(listener.accept()?, next);
                        next += 1;
                    }
                    Ok(())
                });
            match round {
                Ok(()) => trouble.clear(),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // Out of descriptors or threads, as a rule: others will end.
                    trouble.say(&format!(
                        "the API cannot take connections: {error}; trying again"
                    ));
                    thread::sleep(BUSY);
                }
            }
        }
    }

    /// Waits until somebody knocks (then `true`), a silent connection says something, or one's time is over.
    fn wait(&self, listener: &TcpListener) -> io::Result<bool> {
        let silent: Vec<(Arc<TcpStream>, Instant)> = self
            .table()
            .values()
            .filter(|held| held.unproven.heard.is_none())
            .map(|held| (Arc::clone(&held.stream), held.unproven.end()))
            .collect();
        let timeout = silent
            .iter()
            .map(|(_, end)| end.saturating_duration_since(Instant::now()))
            .min()
            .map(|left| Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            });
        let mut fds = vec![PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        fds.extend(
            silent
                .iter()
                .map(|(stream, _)| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)),
        );
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives threads to those who have said something since, and lets go of those who never will.
    fn listen_to_the_silent<F>(self: &Arc<Self>, serve: &F) -> io::Result<()>
    where
        F: Fn(Visitor) + Clone + Send + 'static,
    {
        let now = Instant::now();
        let mut spoke = Vec::new();
        self.table().retain(|id, held| {
            if held.unproven.heard.is_some() {
                return true;
            }
            match said_something(&held.stream) {
                Said::Nothing => now < held.unproven.end(),
                Said::Goodbye => false,
                Said::Something => {
                    spoke.push(*id);
                    true
                }
            }
        });
        for id in spoke {
            if let Some(visitor) = self.hear(id, now) {
                self.start(visitor, serve.clone())?;
            }
        }
        Ok(())
    }

    /// Takes a silent connection among those that speak.
    fn hear(self: &Arc<Self>, id: u64, now: Instant) -> Option<Visitor> {
        let mut table = self.table();
        let from = table.get(&id)?.unproven.from;
        make_room(&mut table, from, true);
        let held = table.get_mut(&id)?;
        held.unproven.heard = Some(now);
        Some(Visitor {
            gate: Arc::clone(self),
            id,
            stream: Arc::clone(&held.stream),
            end: held.unproven.end(),
        })
    }

    fn start<F>(self: &Arc<Self>, visitor: Visitor, serve: F) -> io::Result<()>
    where
        F: Fn(Visitor) + Send + 'static,
    {
        let running = Running(Arc::clone(self));
        if self.threads.fetch_add(1, Ordering::SeqCst) >= MAX_THREADS {
            return Err(io::Error::other("too many of them are about to end"));
        }
        thread::Builder::new()
            .name("api".into())
            .stack_size(STACK)
            .spawn(move || {
                let _running = running;
                serve(visitor);
            })
            .map(drop)
    }

    fn admit(&self, (stream, from): (TcpStream, SocketAddr), id: u64) {
        let mut table = self.table();
        make_room(&mut table, from.ip(), false);
        let held = Held {
            stream: Arc::new(stream),
            unproven: Unproven::new(from.ip(), Instant::now()),
        };
        table.insert(id, held);
    }
}

/// Sends away whoever has to go before there is one more from `from` among the silent, or among those that speak.
fn make_room(table: &mut BTreeMap<u64, Held>, from: IpAddr, speaking: bool) {
    let room = if speaking { HEARD } else { SILENT };
    let all = table
        .iter()
        .map(|(id, held)| (*id, &held.unproven))
        .filter(|(_, one)| one.heard.is_some() == speaking);
    if let Some(leaver) = seats::leaver(all, from, room)
        && let Some(held) = table.remove(&leaver)
    {
        // Its thread, should it have one, reads the end of the connection.
        let _ = held.stream.shutdown(Shutdown::Both);
    }
}

/// Counts a thread while it runs.
struct Running(Arc<Gate>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::SeqCst);
    }
}

enum Said {
    Nothing,
    Something,
    Goodbye,
}

fn said_something(stream: &TcpStream) -> Said {
    let mut byte = [0];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    match rustix::net::recv(stream, &mut byte, flags) {
        Ok((0, _)) => Said::Goodbye,
        Ok(_) => Said::Something,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Said::Nothing,
        Err(_) => Said::Goodbye,
    }
}

impl Visitor {
    /// A good signature was shown: from now on nobody sends this connection away. `None` when it was sent away just before, or when
    /// too many others are being answered.
    pub(super) fn prove(&self) -> Option<Seat> {
        self.gate.table().remove(&self.id)?;
        let seat = Seat(Arc::clone(&self.gate));
        (self.gate.proven.fetch_add(1, Ordering::SeqCst) < MAX_PROVEN).then_some(seat)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.gate.table().remove(&self.id);
    }
}

impl Read for Visitor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = (&*self.stream).read(out)?;
        if let Some(held) = self.gate.table().get_mut(&self.id) {
            held.unproven.heard = Some(Instant::now());
        }
        Ok(read)
    }
}

impl Write for Visitor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Visitor {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_timeout(timeout)
    }
}
