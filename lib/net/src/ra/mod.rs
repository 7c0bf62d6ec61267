// SPDX-License-Identifier: Apache-2.0
//! DNS servers out of IPv6 router advertisements (RFC 8106), and the table of those in force.
//!
//! The kernel does the rest of stateless configuration; it hands the options it does not use to user space
//! (`RTM_NEWNDUSEROPT`), and [`dns_servers`] reads those.

use core::net::Ipv6Addr;
use core::time::Duration;

const RDNSS: u8 = 25;
/// Servers kept, over all routers.
pub const MAX_SERVERS: usize = 8;
/// Shortest lifetime that is followed to the letter; a router that says less would make the list flap.
const MIN_LIFETIME: u32 = 8;

/// Servers a router names, and for how many seconds; 0 withdraws them, [`u32::MAX`] is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsServers {
    /// Seconds.
    pub lifetime: u32,
    /// Usable addresses only.
    pub servers: Vec<Ipv6Addr>,
}

/// Reads the RDNSS options among neighbour discovery options; others and malformed ones are skipped, and nothing after
/// an option without length is read.
// untrusted: router_advertisement
#[must_use]
pub fn dns_servers(options: &[u8]) -> Vec<DnsServers> {
    let mut found = Vec::new();
    let mut rest = options;
    while let [kind, units, ..] = rest {
        let length = usize::from(*units) * 8;
        if length == 0 || length > rest.len() || found.len() == MAX_SERVERS {
            break;
        }
        let (option, tail) = rest.split_at(length);
        rest = tail;
        // 8 bytes of header, 16 for each address.
        if *kind != RDNSS || length < 24 || !(length - 8).is_multiple_of(16) {
            continue;
        }
        let servers = option[8..]
            .as_chunks::<16>()
            .0
            .iter()
            .map(|octets| Ipv6Addr::from(*octets))
            .filter(|server| {
                !server.is_multicast() && !server.is_unspecified() && !server.is_loopback()
            })
            .take(MAX_SERVERS)
            .collect();
        found.push(DnsServers {
            lifetime: u32::from_be_bytes([option[4], option[5], option[6], option[7]]),
            servers,
        });
    }
    found
}

#[derive(Debug, Clone)]
struct Entry {
    interface: u32,
    server: Ipv6Addr,
    /// Nothing: for ever.
    until: Option<Duration>,
}

/// The DNS servers in force, from all interfaces.
#[derive(Debug, Clone, Default)]
pub struct DnsTable(Vec<Entry>);

impl DnsTable {
    /// Takes in what a router on `interface` (an index) said at `now`.
    pub fn learn(&mut self, now: Duration, interface: u32, claim: &DnsServers) {
        self.expire(now);
        for server in &claim.servers {
            self.0
                .retain(|entry| (entry.interface, entry.server) != (interface, *server));
            if claim.lifetime == 0 {
                continue;
            }
            let seconds = claim.lifetime.max(MIN_LIFETIME);
            let until = (claim.lifetime != u32::MAX)
                .then(|| now.saturating_add(Duration::from_secs(u64::from(seconds))));
            // A full table keeps what it has: a flood of new names must not push out the working ones.
            if self.0.len() < MAX_SERVERS {
                self.0.push(Entry {
                    interface,
                    server: *server,
                    until,
                });
            }
        }
    }

    /// Forgets what was learnt on an interface that lost its network.
    pub fn forget(&mut self, interface: u32) {
        self.0.retain(|entry| entry.interface != interface);
    }

    /// Drops what is over. Call before [`Self::servers`].
    pub fn expire(&mut self, now: Duration) {
        self.0
            .retain(|entry| entry.until.is_none_or(|until| until > now));
    }

    /// When the next entry ends.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.0.iter().filter_map(|entry| entry.until).min()
    }

    /// Interface and server, oldest first; the interface is what a link-local server needs.
    pub fn servers(&self) -> impl Iterator<Item = (u32, Ipv6Addr)> {
        self.0.iter().map(|entry| (entry.interface, entry.server))
    }
}

#[cfg(test)]
mod tests;
