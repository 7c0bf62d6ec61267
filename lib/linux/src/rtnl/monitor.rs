// SPDX-License-Identifier: Apache-2.0
//! News about links, addresses and router advertisements. The file descriptor becomes readable when there is some.

use std::os::fd::{AsFd, BorrowedFd};

use super::objects::{Address, Link};
use super::{DEL_ADDRESS, DEL_LINK, NETLINK_ROUTE, NEW_ADDRESS, NEW_LINK};
use crate::netlink::codec::Message;
use crate::netlink::{NetlinkError, Socket};

const NEW_ND_USER_OPTION: u16 = 68;
const ROUTER_ADVERTISEMENT: u8 = 134;
const ENOBUFS: i32 = 105;
/// Multicast groups as bits: links (1), IPv4 addresses (5), IPv6 addresses (9), router advertisement options (20).
const GROUPS: u32 = 1 << 0 | 1 << 4 | 1 << 8 | 1 << 19;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An interface appeared or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// Its index.
        index: u32,
    },
    /// An interface got an address, or the address changed.
    Address(Address),
    /// An interface lost an address.
    AddressGone(Address),
    /// A router advertised options that the kernel does not use itself.
    RouterOptions {
        /// Index of the interface.
        interface: u32,
        /// The neighbour discovery options.
        options: Vec<u8>,
    },
    /// The kernel had to drop news: look at everything again.
    Lost,
}

impl News {
    /// What a message tells, if it is news.
    // untrusted: netlink_answers
    pub fn read(message: &Message) -> Option<Self> {
        match message.kind {
            // The bridge sends its own flavour of link news (family AF_BRIDGE, 7) about ports: not about the link itself.
            NEW_LINK | DEL_LINK if message.parts::<16>()?.0[0] == 7 => None,
            NEW_LINK => Link::read(message).map(Self::Link),
            DEL_LINK => Link::read(message).map(|link| Self::LinkGone { index: link.index }),
            NEW_ADDRESS => Address::read(message).map(Self::Address),
            DEL_ADDRESS => Address::read(message).map(Self::AddressGone),
            NEW_ND_USER_OPTION => router_options(message),
            _ => None,
        }
    }
}

/// Listens for news in the network namespace it was opened in.
#[derive(Debug)]
pub struct Monitor(Socket);

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Monitor {
    /// Begins to listen.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(NETLINK_ROUTE, GROUPS).map(Self)
    }

    /// The next news; waits a bounded time when the file descriptor is not readable.
    pub fn receive(&mut self) -> Result<Vec<News>, NetlinkError> {
        match self.0.receive() {
            Ok(messages) => Ok(messages.iter().filter_map(News::read).collect()),
            Err(NetlinkError::Io { source, .. }) if source.raw_os_error() == Some(ENOBUFS) => {
                Ok(vec![News::Lost])
            }
            Err(error) => Err(error),
        }
    }
}

/// `struct nduseroptmsg`: 16 bytes, then as many bytes of options as it says.
fn router_options(message: &Message) -> Option<News> {
    let (fixed, rest) = message.parts::<16>()?;
    if fixed[8] != ROUTER_ADVERTISEMENT {
        return None;
    }
    let length = usize::from(u16::from_ne_bytes([fixed[2], fixed[3]]));
    Some(News::RouterOptions {
        interface: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        options: rest.0.get(..length)?.to_vec(),
    })
}
