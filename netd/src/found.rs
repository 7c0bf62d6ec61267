// SPDX-License-Identifier: Apache-2.0
//! Lets people find the tray by name: answers for `<tray>.local` on the tray's own cards (mDNS), and nowhere else. Guests'
//! networks have no socket here, and the packet filter lets nothing of theirs through to one.
//!
//! Whoever is on the same network learns the addresses that it could find by ARP as well; nobody else is answered.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use racklet_api::tray::Cidr;
use racklet_linux::socket;
use racklet_net::mdns::{self, GROUP_V4, GROUP_V6, PORT, Pace};
use racklet_uplink::Uplink;

use crate::model::overlap;

/// Packets looked at in one go, so that a flood cannot keep netd from its other work.
const BURST: usize = 16;

/// The sockets of all cards, for one name.
#[derive(Debug)]
pub(crate) struct Found {
    /// Nothing: the tray has no name, and nobody is answered.
    host: Option<String>,
    cards: BTreeMap<u32, Card>,
}

#[derive(Debug)]
struct Card {
    addresses: Vec<Cidr>,
    sockets: Vec<UdpSocket>,
    pace: Pace,
}

impl Found {
    pub(crate) fn new(host: Option<String>) -> Self {
        Self {
            host,
            cards: BTreeMap::new(),
        }
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = self.cards.values().flat_map(|card| &card.sockets);
        sockets.map(AsFd::as_fd)
    }

    /// Follows the cards' addresses, and answers what was asked. A card without addresses has no sockets; with others it gets
    /// new ones, since a group is joined by what the card has then, and tells everybody.
    pub(crate) fn work(&mut self, uplink: &Uplink, now: Duration) {
        let Some(host) = &self.host else { return };
        let present: BTreeMap<u32, Vec<Cidr>> = uplink
            .cards()
            .into_iter()
            .filter(|(_, online)| *online)
            .map(|(link, _)| (link.index, uplink.addresses_of(link.index)))
            .collect();
        self.cards
            .retain(|index, card| present.get(index) == Some(&card.addresses));
        for (index, addresses) in present {
            let card = self.cards.entry(index).or_insert_with(|| {
                let mut card = Card {
                    // Without the one or the other family the remaining one is found.
                    sockets: [open_v4(index), open_v6(index)]
                        .into_iter()
                        .flatten()
                        .collect(),
                    addresses,
                    pace: Pace::default(),
                };
                card.announce(host, now);
                card
            });
            card.serve(host, now);
        }
    }
}

fn open_v4(interface: u32) -> io::Result<UdpSocket> {
    let socket = socket::udp_on(interface, (Ipv4Addr::UNSPECIFIED, PORT).into())?;
    socket::join(&socket, interface, GROUP_V4.into())?;
    Ok(socket)
}

fn open_v6(interface: u32) -> io::Result<UdpSocket> {
    let socket = socket::udp_on(interface, (Ipv6Addr::UNSPECIFIED, PORT).into())?;
    socket::join(&socket, interface, GROUP_V6.into())?;
    Ok(socket)
}

fn group(socket: &UdpSocket) -> Option<SocketAddr> {
    let group: IpAddr = match socket.local_addr().ok()? {
        SocketAddr::V4(_) => GROUP_V4.into(),
        SocketAddr::V6(_) => GROUP_V6.into(),
    };
    Some((group, PORT).into())
}

impl Card {
    fn own(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|cidr| cidr.address).collect()
    }

    /// Tells everybody unasked: what they knew may be old (RFC 6762, 8.3). A lost packet costs one question more.
    fn announce(&mut self, host: &str, now: Duration) {
        let everything = mdns::Asked {
            v4: true,
            v6: true,
            ..mdns::Asked::default()
        };
        if let Some(packet) = mdns::answer(host, &self.own(), &everything, false)
            && self.pace.allows(now, true)
        {
            for socket in &self.sockets {
                let _ = group(socket).map(|group| socket.send_to(&packet, group));
            }
        }
    }

    fn serve(&mut self, host: &str, now: Duration) {
        let own = self.own();
        for socket in &self.sockets {
            let mut packet = [0; 2048];
            for _ in 0..BURST {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    break;
                };
                let Some(asked) = mdns::asked(&packet[..length], host) else {
                    continue;
                };
                // RFC 6762, 11: the link only.
                if !is_near(&self.addresses, from.ip()) {
                    continue;
                }
                let legacy = from.port() != PORT;
                let to_all = !legacy && !asked.unicast;
                let to = if to_all { group(socket) } else { Some(from) };
                if let Some(to) = to
                    && let Some(answer) = mdns::answer(host, &own, &asked, legacy)
                    && self.pace.allows(now, to_all)
                {
                    // Lost like any datagram: the asker asks again.
                    let _ = socket.send_to(&answer, to);
                }
            }
        }
    }
}

/// Whether an address is of this link.
fn is_near(own: &[Cidr], asker: IpAddr) -> bool {
    let link_local = match asker {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let asker = Cidr {
        address: asker,
        prefix: if asker.is_ipv4() { 32 } else { 128 },
    };
    link_local || own.iter().any(|cidr| overlap(cidr, &asker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_askers_on_the_link_are_near() {
        let own = [
            "192.0.2.7/24".parse().expect("cidr"),
            "2001:db8::7/64".parse().expect("cidr"),
        ];
        for (asker, near) in [
            ("192.0.2.99", true),
            ("192.0.3.1", false),
            ("169.254.7.7", true),
            ("fe80::1", true),
            ("2001:db8::1", true),
            ("2001:db8:1::1", false),
        ] {
            assert_eq!(is_near(&own, asker.parse().expect("ip")), near, "{asker}");
        }
    }
}
