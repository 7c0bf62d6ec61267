// SPDX-License-Identifier: Apache-2.0
//! What happened, as one line each for the console, and waiting on file descriptors.

use racklet_tell::error::chain;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use racklet_net::dhcp4::Lost;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// One piece of news about one interface. `Display` gives the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The interface, or `dns`.
    pub interface: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A card is looked after from now on.
    Found {
        /// Whether something is plugged in already.
        carrier: bool,
    },
    /// The card is gone.
    Gone,
    /// Something was plugged in, or out.
    Carrier(bool),
    /// A DHCP lease is in use.
    Lease {
        /// The address.
        address: Ipv4Addr,
        /// Bits of the subnet.
        prefix_length: u8,
        /// The router.
        gateway: Option<Ipv4Addr>,
        /// Who gave it.
        server: Ipv4Addr,
        /// For how long; nothing means for ever.
        lifetime: Option<Duration>,
    },
    /// The DHCP lease is over.
    LeaseLost(Lost),
    /// A DHCP answer was not believed; the text says why.
    Refused(String),
    /// The kernel configured an address (IPv6), or a fixed one is set.
    Address {
        /// The address.
        address: IpAddr,
        /// Bits of the subnet.
        prefix_length: u8,
    },
    /// The DNS servers changed.
    DnsServers {
        /// Best first.
        servers: Vec<IpAddr>,
    },
    /// Something failed; it is tried again with the next change or time-out.
    Trouble(String),
}

impl Event {
    pub(crate) fn new(interface: &str, what: What) -> Self {
        Self {
            interface: interface.to_owned(),
            what,
        }
    }

    pub(crate) fn trouble(interface: &str, error: &dyn std::error::Error) -> Self {
        Self::new(interface, What::Trouble(chain(error)))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.interface)?;
        match &self.what {
            What::Found { carrier: true } => f.write_str("found, carrier present"),
            What::Found { carrier: false } => f.write_str("found, waiting for a carrier"),
            What::Gone => f.write_str("gone"),
            What::Carrier(true) => f.write_str("carrier"),
            What::Carrier(false) => f.write_str("no carrier; waiting for it"),
            What::Lease {
                address,
                prefix_length,
                gateway,
                server,
                lifetime,
            } => {
                write!(f, "{address}/{prefix_length} from DHCP server {server}")?;
                if let Some(gateway) = gateway {
                    write!(f, ", gateway {gateway}")?;
                }
                match lifetime {
                    Some(lifetime) => write!(f, ", for {} s", lifetime.as_secs()),
                    None => f.write_str(", for ever"),
                }
            }
            What::LeaseLost(lost) => write!(f, "DHCP lease is over: {lost}; asking again"),
            What::Refused(why) => write!(f, "DHCP answer refused: {why}"),
            What::Address {
                address,
                prefix_length,
            } => write!(f, "{address}/{prefix_length}"),
            What::DnsServers { servers } if servers.is_empty() => f.write_str("no servers known"),
            What::DnsServers { servers } => {
                f.write_str("servers")?;
                servers.iter().try_for_each(|server| write!(f, " {server}"))
            }
            What::Trouble(text) => write!(f, "{text}; trying again"),
        }
    }
}

/// Waits until one of the descriptors is readable or the time is over.
pub(crate) fn wait(descriptors: &[BorrowedFd<'_>], at_most: Duration) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    // An hour is for ever here, and fits.
    let at_most = at_most.min(Duration::from_secs(3600));
    let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn is_ready(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    wait(&[descriptor], Duration::ZERO)
}
