// SPDX-License-Identifier: Apache-2.0
//! The event loop's epoll: what each event means is packed into its 64 bits.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The driver notified a queue of a device.
    Queue { device: u16, queue: u32 },
    /// A vCPU waits for a device to carry out an order.
    Order { device: u16 },
    /// A disk says what came of an order.
    Disk { disk: u16 },
    /// The host side of a device; the number is the device's own.
    Host { device: u16, token: u32 },
    /// A line of console output, or 512 bytes of one, wait to be taken.
    Console,
    /// A vCPU is over.
    Over,
    /// All vCPUs stand still.
    Still,
    /// A snapshot was made, or could not be.
    Saved,
    /// A second is over.
    Timer,
    /// Output that waits for the rest of its line has waited long enough.
    Flush,
    /// SIGTERM or SIGINT came.
    Signal,
    /// Somebody connects to the control socket.
    Control,
    /// A connection to the control socket.
    Client(u32),
    /// Somebody wants a connection to the guest.
    Calls,
    /// …and says which.
    Caller(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, a, b) = match self {
            Token::Queue { device, queue } => (0, device, queue),
            Token::Host { device, token } => (1, device, token),
            Token::Console => (2, 0, 0),
            Token::Over => (3, 0, 0),
            Token::Timer => (4, 0, 0),
            Token::Signal => (5, 0, 0),
            Token::Control => (6, 0, 0),
            Token::Client(n) => (7, 0, n),
            Token::Flush => (8, 0, 0),
            Token::Order { device } => (9, device, 0),
            Token::Still => (10, 0, 0),
            Token::Disk { disk } => (11, disk, 0),
            Token::Saved => (12, 0, 0),
            Token::Calls => (13, 0, 0),
            Token::Caller(n) => (14, 0, n),
        };
        kind << 48 | u64::from(a) << 32 | u64::from(b)
    }

    fn unpack(bits: u64) -> Option<Token> {
        let b = u32::try_from(bits & 0xffff_ffff).ok()?;
        let device = u16::try_from(bits >> 32 & 0xffff).ok()?;
        Some(match bits >> 48 {
            0 => Token::Queue { device, queue: b },
            1 => Token::Host { device, token: b },
            2 => Token::Console,
            3 => Token::Over,
            4 => Token::Timer,
            5 => Token::Signal,
            6 => Token::Control,
            7 => Token::Client(b),
            8 => Token::Flush,
            9 => Token::Order { device },
            10 => Token::Still,
            11 => Token::Disk { disk: device },
            12 => Token::Saved,
            13 => Token::Calls,
            14 => Token::Caller(b),
            _ => return None,
        })
    }
}

/// The epoll of the event loop. Clones add to the same one, as the sockets' device does for its connections.
#[derive(Clone)]
pub(crate) struct Poll(Arc<Epoll>);

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(Arc::new(Epoll::new()?)))
    }

    /// Says when `fd` can be read, until it has been.
    pub(crate) fn readable(&self, fd: &impl AsRawFd, token: Token) -> io::Result<()> {
        self.add(fd, EventSet::IN, token)
    }

    /// Says once each time `fd` becomes readable or writable.
    pub(crate) fn edges(&self, fd: &impl AsRawFd, token: Token) -> io::Result<()> {
        let edges =
            EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        self.add(fd, edges, token)
    }

    /// Says when what [`readable`](Poll::readable) watches can be read or written, or again only when it can be read.
    pub(crate) fn writable_too(
        &self,
        fd: &impl AsRawFd,
        token: Token,
        too: bool,
    ) -> io::Result<()> {
        let set = if too {
            EventSet::IN | EventSet::OUT
        } else {
            EventSet::IN
        };
        let event = EpollEvent::new(set, token.pack());
        self.0.ctl(ControlOperation::Modify, fd.as_raw_fd(), event)
    }

    /// Says nothing of it any more.
    pub(crate) fn forget(&self, fd: &impl AsRawFd) -> io::Result<()> {
        let none = EpollEvent::default();
        self.0.ctl(ControlOperation::Delete, fd.as_raw_fd(), none)
    }

    fn add(&self, fd: &impl AsRawFd, set: EventSet, token: Token) -> io::Result<()> {
        self.0.ctl(
            ControlOperation::Add,
            fd.as_raw_fd(),
            EpollEvent::new(set, token.pack()),
        )
    }

    /// Waits for events, for so long at most, where there is a limit, and at least in whole milliseconds. `tokens` becomes what
    /// happened: at most 32 at a time, none after a signal's handler ran.
    pub(crate) fn wait(&self, most: Option<Duration>, tokens: &mut Vec<Token>) -> io::Result<()> {
        tokens.clear();
        let mut events = [EpollEvent::default(); 32];
        let most = most.map_or(-1, |most| {
            i32::try_from(most.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        match self.0.wait(most, &mut events) {
            Ok(count) => {
                let happened = events[..count].iter();
                tokens.extend(happened.filter_map(|e| Token::unpack(e.data())));
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_packing() {
        for token in [
            Token::Queue {
                device: 18,
                queue: 2,
            },
            Token::Host {
                device: 3,
                token: u32::MAX,
            },
            Token::Console,
            Token::Over,
            Token::Timer,
            Token::Signal,
            Token::Control,
            Token::Client(7),
            Token::Flush,
            Token::Order { device: 18 },
            Token::Still,
            Token::Disk { disk: 7 },
            Token::Saved,
            Token::Calls,
            Token::Caller(7),
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }
}
