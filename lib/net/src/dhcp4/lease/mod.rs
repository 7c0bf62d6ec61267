// SPDX-License-Identifier: Apache-2.0
//! From a server's answer to a lease that is safe to apply, or the reason why it is not.
//!
//! A server that answers nonsense about the parts that make up an address is refused as a whole. Servers it merely
//! names (DNS, NTP) are dropped one by one when unusable, since a tray can come up without them.

use core::net::Ipv4Addr;
use core::time::Duration;

use super::message::{Message, option};

const MAX_SERVERS: usize = 4;
const MAX_ROUTES: usize = 16;
/// RFC 791: every host takes 576 bytes; a smaller MTU is a mistake or an attack (the kernel would stop IPv4 below 68).
const MIN_MTU: u16 = 576;
/// Shorter leases would make a tray do little else than renew.
const MIN_LEASE: u32 = 30;
/// The lease time that means for ever.
const INFINITE: u32 = u32::MAX;

/// A route a server hands out with the address (RFC 3442).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRoute {
    /// Where it leads; host bits are zero.
    pub destination: Ipv4Addr,
    /// Bits of the destination that count.
    pub prefix_length: u8,
    /// The next hop; nothing means directly reachable.
    pub via: Option<Ipv4Addr>,
}

/// An address with all that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The tray's address.
    pub address: Ipv4Addr,
    /// Bits of the subnet.
    pub prefix_length: u8,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// Where to send what is not for the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes.
    pub routes: Vec<StaticRoute>,
    /// DNS servers, best first, at most four.
    pub dns: Vec<Ipv4Addr>,
    /// NTP servers, best first, at most four.
    pub ntp: Vec<Ipv4Addr>,
    /// MTU to set on the interface.
    pub mtu: Option<u16>,
    /// How long the lease holds; nothing means for ever.
    pub lifetime: Option<Duration>,
    /// When to ask the same server again, since the beginning of the lease.
    pub renew_after: Duration,
    /// When to ask any server, since the beginning of the lease.
    pub rebind_after: Duration,
}

/// Why an offer or acknowledgement cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No host can have that address.
    #[error("{0} cannot be a host's address")]
    Address(Ipv4Addr),
    /// The server does not say who it is.
    #[error("no usable server identifier")]
    Server,
    /// The mask is missing, has holes, or spans more than a /8.
    #[error("no usable subnet mask (/8 to /32)")]
    Mask,
    /// The address names the subnet itself or its broadcast.
    #[error("{0}/{1} is the subnet's own or broadcast address")]
    EdgeOfSubnet(Ipv4Addr, u8),
    /// The router is the client or not a host.
    #[error("{0} cannot be the router")]
    Router(Ipv4Addr),
    /// The static routes cannot be read or are too many.
    #[error("static routes are malformed or more than {MAX_ROUTES}")]
    Routes,
    /// The MTU is too small.
    #[error("MTU {0} is below {MIN_MTU}")]
    Mtu(u16),
    /// The lease time is missing or too short.
    #[error("lease time is missing or below {MIN_LEASE} s")]
    Lifetime,
    /// An option has the wrong length for what it is.
    #[error("option {0} has the wrong length")]
    Length(u8),
}

impl Lease {
    /// Judges an offer or acknowledgement.
    pub fn judge(message: &Message) -> Result<Self, Unusable> {
        let address = message.yiaddr;
        if !is_host(address) {
            return Err(Unusable::Address(address));
        }
        let server = message
            .address(option::SERVER_ID)
            .filter(|server| is_host(*server))
            .ok_or(Unusable::Server)?;
        let prefix_length = message
            .number(option::MASK)
            .and_then(prefix_of_mask)
            .ok_or(Unusable::Mask)?;
        check_within_subnet(address, prefix_length)?;
        let (gateway, routes) = routes(message, address)?;
        let mtu = mtu(message)?;
        let (lifetime, renew_after, rebind_after) = times(message)?;
        let named = |code| -> Vec<Ipv4Addr> {
            let mut servers = message.addresses(code, MAX_SERVERS);
            servers.retain(|server| is_host(*server));
            servers
        };
        Ok(Self {
            address,
            prefix_length,
            server,
            gateway,
            routes,
            dns: named(option::DNS),
            ntp: named(option::NTP),
            mtu,
            lifetime,
            renew_after,
            rebind_after,
        })
    }
}

/// Unicast, on some network, and not this host's own loopback.
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && !address.is_loopback() && first < 224
}

fn prefix_of_mask(mask: u32) -> Option<u8> {
    let length = mask.leading_ones();
    let contiguous = mask.count_ones() == length;
    u8::try_from(length)
        .ok()
        .filter(|length| contiguous && (8..=32).contains(length))
}

fn check_within_subnet(address: Ipv4Addr, prefix_length: u8) -> Result<(), Unusable> {
    // RFC 3021: both addresses of a /31 are hosts; a /32 is a host.
    if prefix_length >= 31 {
        return Ok(());
    }
    let host_bits = u32::MAX >> prefix_length;
    let host = u32::from(address) & host_bits;
    if host == 0 || host == host_bits {
        return Err(Unusable::EdgeOfSubnet(address, prefix_length));
    }
    Ok(())
}

/// The default gateway and other routes. RFC 3442: option 121 stands in for option 3 when both are there.
fn routes(
    message: &Message,
    address: Ipv4Addr,
) -> Result<(Option<Ipv4Addr>, Vec<StaticRoute>), Unusable> {
    let check = |router: Ipv4Addr| {
        if is_host(router) && router != address {
            Ok(router)
        } else {
            Err(Unusable::Router(router))
        }
    };
    let Some(mut rest) = message.options.get(&option::ROUTES).map(Vec::as_slice) else {
        return match message.options.get(&option::ROUTER) {
            None => Ok((None, Vec::new())),
            Some(_) => match message.addresses(option::ROUTER, 1).as_slice() {
                [router] => Ok((Some(check(*router)?), Vec::new())),
                _ => Err(Unusable::Length(option::ROUTER)),
            },
        };
    };
    let mut gateway = None;
    let mut routes = Vec::new();
    while let [prefix_length, tail @ ..] = rest {
        let significant = usize::from(prefix_length.div_ceil(8));
        if *prefix_length > 32 || tail.len() < significant + 4 || routes.len() == MAX_ROUTES {
            return Err(Unusable::Routes);
        }
        let mut octets = [0; 4];
        octets[..significant].copy_from_slice(&tail[..significant]);
        let hop: [u8; 4] = tail[significant..significant + 4]
            .try_into()
            .map_err(|_| Unusable::Routes)?;
        let via = match Ipv4Addr::from(hop) {
            Ipv4Addr::UNSPECIFIED => None,
            router => Some(check(router)?),
        };
        rest = &tail[significant + 4..];
        match (prefix_length, via) {
            (0, Some(router)) => gateway = gateway.or(Some(router)),
            (0, None) => return Err(Unusable::Routes),
            _ => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*prefix_length));
                let destination = Ipv4Addr::from(u32::from_be_bytes(octets) & mask.unwrap_or(0));
                if !is_host(destination) {
                    return Err(Unusable::Routes);
                }
                routes.push(StaticRoute {
                    destination,
                    prefix_length: *prefix_length,
                    via,
                });
            }
        }
    }
    Ok((gateway, routes))
}

fn mtu(message: &Message) -> Result<Option<u16>, Unusable> {
    match message.options.get(&option::MTU).map(Vec::as_slice) {
        None => Ok(None),
        Some([high, low]) => match u16::from_be_bytes([*high, *low]) {
            small if small < MIN_MTU => Err(Unusable::Mtu(small)),
            mtu => Ok(Some(mtu)),
        },
        Some(_) => Err(Unusable::Length(option::MTU)),
    }
}

/// Lifetime, T1 and T2. A server's T1 and T2 count only when in order; otherwise RFC 2131's 1/2 and 7/8.
fn times(message: &Message) -> Result<(Option<Duration>, Duration, Duration), Unusable> {
    let seconds = message
        .number(option::LEASE_TIME)
        .filter(|seconds| *seconds >= MIN_LEASE)
        .ok_or(Unusable::Lifetime)?;
    let lifetime = Duration::from_secs(u64::from(seconds));
    let given = message
        .number(option::RENEWAL)
        .zip(message.number(option::REBINDING))
        .filter(|(t1, t2)| MIN_LEASE / 2 <= *t1 && t1 < t2 && *t2 < seconds)
        .map(|(t1, t2)| {
            (
                Duration::from_secs(u64::from(t1)),
                Duration::from_secs(u64::from(t2)),
            )
        });
    let (renew, rebind) = given.unwrap_or((lifetime / 2, lifetime * 7 / 8));
    Ok(((seconds != INFINITE).then_some(lifetime), renew, rebind))
}

#[cfg(test)]
pub(super) mod tests;
