// SPDX-License-Identifier: Apache-2.0
//! Netlink: the kernel's message protocol for network configuration, over a plain blocking socket.
//!
//! [`codec`] writes and reads messages; [`Socket`] sends one and waits for the kernel's answer. What the messages mean is
//! in [`crate::rtnl`] and [`crate::nft`]: one small codec serves both, where a crate of types would serve only the first (what
//! that costs is in docs/dependencies.md). A message is claims of strangers as far as names and texts go: reading takes what
//! it knows, passes over the rest, and is bounded by the datagram.

pub(crate) mod codec;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

pub use codec::Message;
use codec::Request;

const SOL_NETLINK: i32 = 270;
const NETLINK_ADD_MEMBERSHIP: i32 = 1;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;

/// Room for the largest datagram the kernel sends: dumps come in pieces of at most 32 KiB, answers carry the request.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// Room for one request, a whole nftables transaction included.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The kernel answers at once; this only keeps a daemon from hanging on a fault.
const PATIENCE: Duration = Duration::from_secs(10);
/// A dump that was overtaken by a change is taken again, this many times.
const DUMP_TRIES: usize = 8;

/// Why a conversation with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be set up or used.
    #[error("netlink: {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("the kernel refused{}", text.as_ref().map_or_else(String::new, |text| format!(": {text}")))]
    Refused {
        /// The kernel's own words, when it gave any.
        text: Option<String>,
        /// Its error number.
        source: io::Error,
    },
    /// The answer was cut off or is not netlink.
    #[error("netlink: the kernel's answer cannot be read")]
    Malformed,
    /// The request does not fit netlink's 16-bit lengths.
    #[error("netlink: the request is too large")]
    TooLarge,
    /// Things kept changing while they were being listed.
    #[error("netlink: the list kept changing while it was read")]
    Unsteady,
}

impl NetlinkError {
    /// The kernel's error number, if it refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the thing named is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        // ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL: the families of objects each have their own.
        matches!(self.errno(), Some(2 | 3 | 19 | 99))
    }

    /// Whether the thing to be made is there already.
    #[must_use]
    pub fn is_existing(&self) -> bool {
        self.errno() == Some(17)
    }
}

fn failed(doing: &'static str) -> impl Fn(rustix::io::Errno) -> NetlinkError {
    move |errno| NetlinkError::Io {
        doing,
        source: errno.into(),
    }
}

/// A netlink socket that speaks with the kernel only.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket of a netlink `protocol` (0 routes, 12 netfilter, 16 generic), a member of the multicast `groups` (a bit mask).
    pub(crate) fn open(protocol: u32, groups: u32) -> Result<Self, NetlinkError> {
        let protocol = core::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
        let fd = net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(failed("open the socket"))?;
        bind(&fd, groups)?;
        // Best effort: without the right to force, the default sizes hold and a large request fails with its reason.
        let _ = net::sockopt::set_socket_send_buffer_size_force(&fd, SOCKET_BUFFER);
        let _ = net::sockopt::set_socket_recv_buffer_size_force(&fd, SOCKET_BUFFER);
        // Answers without the request in them, with the kernel's own words.
        set_option(&fd, SOL_NETLINK, NETLINK_CAP_ACK, 1)?;
        set_option(&fd, SOL_NETLINK, NETLINK_EXT_ACK, 1)?;
        net::sockopt::set_socket_timeout(&fd, net::sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(failed("set the time limit"))?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// Becomes a member of one more multicast group, by its number: those of generic families do not fit a mask.
    pub(crate) fn join(&mut self, group: u32) -> Result<(), NetlinkError> {
        let group = i32::try_from(group).map_err(|_| NetlinkError::Malformed)?;
        set_option(&self.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Sends one request and waits until the kernel has done it.
    pub(crate) fn execute(&mut self, request: Request) -> Result<(), NetlinkError> {
        let sequence = self.send(request.acknowledged())?;
        loop {
            for message in self.receive()? {
                if message.sequence == sequence
                    && let Some(result) = message.result()
                {
                    return result;
                }
            }
        }
    }

    /// Sends one request and gives all objects that the kernel lists in answer.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<Message>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.send(request.clone().dumping())?;
            if let Some(found) = self.collect(sequence)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Unsteady)
    }

    /// The answers to a dump; nothing when a change overtook it.
    fn collect(&mut self, sequence: u32) -> Result<Option<Vec<Message>>, NetlinkError> {
        let mut found = Vec::new();
        let mut overtaken = false;
        loop {
            for message in self.receive()? {
                if message.sequence != sequence {
                    continue;
                }
                overtaken |= message.is_interrupted();
                if message.is_done() {
                    message.result().unwrap_or(Ok(()))?;
                    return Ok((!overtaken).then_some(found));
                }
                if let Some(result) = message.result() {
                    result?;
                } else {
                    found.push(message);
                }
            }
        }
    }

    /// Sends a batch as one datagram and waits for its last message to be acknowledged. The first refusal counts.
    pub(crate) fn transact(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        let mut bytes = Vec::new();
        // The kernel answers errors for any message and an acknowledgement where one is asked for: at the last one
        // inside the begin and end markers, so that its absence cannot be mistaken for success.
        let last_inside = requests.len().saturating_sub(2);
        let mut awaited = 0;
        for (index, request) in requests.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let request = if index == last_inside {
                awaited = self.sequence;
                request.acknowledged()
            } else {
                request
            };
            bytes.extend_from_slice(&request.finish(self.sequence)?);
        }
        self.send_bytes(&bytes)?;
        let mut refusal = None;
        loop {
            for message in self.receive()? {
                let Some(result) = message.result() else {
                    continue;
                };
                if let Err(error) = result {
                    refusal.get_or_insert(error);
                }
                if message.sequence == awaited {
                    return refusal.map_or(Ok(()), Err);
                }
            }
            // A refusal of the whole batch names its first message only: nothing else may follow.
            if refusal.is_some() && !self.has_more()? {
                return refusal.map_or(Ok(()), Err);
            }
        }
    }

    fn has_more(&self) -> Result<bool, NetlinkError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default())).map_err(failed("wait"))?;
        Ok(ready > 0)
    }

    fn send(&mut self, request: Request) -> Result<u32, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence)?;
        self.send_bytes(&bytes)?;
        Ok(self.sequence)
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let sent = rustix::io::retry_on_intr(|| net::send(&self.fd, bytes, SendFlags::empty()))
            .map_err(failed("send"))?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(NetlinkError::TooLarge)
        }
    }

    /// Waits for one datagram.
    pub(crate) fn receive(&mut self) -> Result<Vec<Message>, NetlinkError> {
        let buffer = &mut self.buffer[..];
        let (_, length) =
            rustix::io::retry_on_intr(|| net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC))
                .map_err(failed("receive"))?;
        let bytes = self.buffer.get(..length).ok_or(NetlinkError::Malformed)?;
        Message::split(bytes)
    }
}

/// Binds to the groups and connects to the kernel: datagrams of other processes are then refused by the kernel itself.
fn bind(fd: &OwnedFd, groups: u32) -> Result<(), NetlinkError> {
    net::bind(fd, &SocketAddrNetlink::new(0, groups)).map_err(failed("bind the socket"))?;
    net::connect(fd, &SocketAddrNetlink::new(0, 0)).map_err(failed("connect to the kernel"))
}

fn set_option(fd: &OwnedFd, level: i32, name: i32, value: i32) -> Result<(), NetlinkError> {
    crate::socket::set_option(fd, level, name, value).map_err(|source| NetlinkError::Io {
        doing: "set a socket option",
        source,
    })
}
