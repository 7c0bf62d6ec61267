// SPDX-License-Identifier: Apache-2.0
//! One network card: its DHCP client, its sockets, and the kernel's configuration of it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use racklet_api::handoff::Dhcp4Lease;
use racklet_api::tray::NetworkConfig;
use racklet_linux::netlink::NetlinkError;
use racklet_linux::packet::DhcpSocket;
use racklet_linux::rtnl::{Address, Link, Rtnl};
use racklet_net::dhcp4::{
    self, CLIENT_PORT, Client, Config, Lease, Output, Refused, SERVER_PORT, StaticRoute,
};
use racklet_net::udp4::{self, Datagram};

use crate::event::{Event, What};
use crate::plan::{self, Change};
use crate::{Settings, UplinkError};
use racklet_tell::error::chain;

/// Packets handled at a time, so that a flood cannot keep the caller from its other work.
const BURST: usize = 32;
/// Refusals told of until something is accepted again.
const REFUSALS: u8 = 5;

#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) link: Link,
    pub(crate) addresses: Vec<Address>,
    dhcp: Option<Dhcp>,
    /// The configuration must be compared with the kernel's.
    dirty: bool,
}

#[derive(Debug)]
struct Dhcp {
    client: Client,
    socket: DhcpSocket,
    /// Bound while a lease is held: renewals go out by it, and the kernel does not answer the server's unicast replies
    /// with "port unreachable". What arrives is read from `socket`.
    unicast: Option<UdpSocket>,
    refusals: u8,
}

/// Why a card cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error("switch the card on")]
    Up(#[source] NetlinkError),
    #[error("open a socket for DHCP")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
}

/// Switches a card on and begins to look after it.
pub(crate) fn adopt(
    settings: &Settings,
    link: &Link,
    rtnl: &mut Rtnl,
    now: Duration,
) -> Result<Card, AdoptError> {
    let by_itself = settings.network.addresses.is_empty();
    // Before the link is up: the first router solicitation goes out with it. 2: also when this host forwards.
    set_ipv6(&link.name, "accept_ra", if by_itself { "2" } else { "0" });
    set_ipv6(&link.name, "autoconf", if by_itself { "1" } else { "0" });
    if !link.up {
        rtnl.set_up(link.index, true).map_err(AdoptError::Up)?;
    }
    let dhcp = match link.mac {
        Some(mac) if by_itself => {
            let seed = seed().map_err(UplinkError::Random)?;
            let config = Config {
                mac,
                host_name: settings.host_name.clone(),
                seed,
            };
            let resumed = settings
                .resume
                .as_ref()
                .filter(|lease| lease.interface == link.name);
            let mut client = match resumed.and_then(resume) {
                Some(lease) => Client::resume(config, lease, Duration::ZERO, now),
                None => Client::new(config, now),
            };
            if !link.carrier {
                client.carrier(now, false);
            }
            Some(Dhcp {
                client,
                socket: DhcpSocket::open(link.index).map_err(AdoptError::Socket)?,
                unicast: None,
                refusals: 0,
            })
        }
        _ => None,
    };
    Ok(Card {
        link: link.clone(),
        addresses: Vec::new(),
        dhcp,
        dirty: !by_itself,
    })
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Absent without IPv6 in the kernel; then there is nothing to set.
fn set_ipv6(interface: &str, name: &str, value: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"), value);
}

impl Card {
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.dhcp.as_ref().map(|dhcp| dhcp.socket.as_fd())
    }

    pub(crate) fn set_taken(&mut self, taken: &[Ipv4Addr]) {
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.client.set_taken(taken.to_vec());
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Duration> {
        if self.dirty {
            return Some(Duration::ZERO);
        }
        self.dhcp.as_ref().and_then(|dhcp| dhcp.client.next_wake())
    }

    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.dhcp
            .as_ref()
            .and_then(|dhcp| dhcp.client.lease())
            .map(|(lease, _)| lease)
    }

    /// An address beyond the link, confirmed, with something plugged in.
    pub(crate) fn is_online(&self) -> bool {
        let usable = |found: &Address| !found.tentative && !plan::is_link_local(found.address);
        self.link.carrier && self.addresses.iter().any(usable)
    }

    pub(crate) fn gateways(&self, config: &NetworkConfig) -> Vec<IpAddr> {
        let wanted = plan::desired(config, self.lease(), self.link.index);
        let defaults = wanted
            .routes
            .iter()
            .filter(|route| route.prefix_length == 0);
        defaults.filter_map(|route| route.gateway).collect()
    }

    pub(crate) fn link_changed(&mut self, now: Duration, link: Link, events: &mut Vec<Event>) {
        if link.carrier != self.link.carrier {
            events.push(Event::new(&link.name, What::Carrier(link.carrier)));
            if let Some(dhcp) = &mut self.dhcp {
                dhcp.client.carrier(now, link.carrier);
            }
        }
        // Somebody else's hands: put it back.
        self.dirty |= link.mtu != self.link.mtu || !link.up;
        self.link = link;
    }

    pub(crate) fn address(&mut self, address: Address, events: &mut Vec<Event>) {
        let known = self
            .addresses
            .iter()
            .position(|found| found.address == address.address);
        let was_usable = known.is_some_and(|at| !self.addresses[at].tentative);
        if let Some(at) = known {
            self.addresses.remove(at);
        }
        // DHCP's own address was told of with its lease.
        if address.address.is_ipv6() && !address.tentative && !was_usable {
            events.push(Event::new(
                &self.link.name,
                What::Address {
                    address: address.address,
                    prefix_length: address.prefix_length,
                },
            ));
        }
        self.addresses.push(address);
    }

    pub(crate) fn address_gone(&mut self, address: &Address) {
        self.addresses
            .retain(|found| found.address != address.address);
        let wanted = self.lease().map(|lease| IpAddr::V4(lease.address));
        self.dirty |= wanted == Some(address.address) || self.dhcp.is_none();
    }

    /// Reads packets, runs the client, and puts the kernel's configuration right.
    pub(crate) fn work(
        &mut self,
        now: Duration,
        config: &NetworkConfig,
        rtnl: &mut Rtnl,
        events: &mut Vec<Event>,
    ) {
        let name = self.link.name.clone();
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.listen(now, &name, events);
        }
        // Each round: what the client wants; the address must stand before it sends from it.
        for _ in 0..BURST {
            if self.dirty {
                self.dirty = false;
                if let Err(error) = self.configure(config, rtnl) {
                    events.push(Event::trouble(&name, &error));
                }
            }
            let Some(dhcp) = &mut self.dhcp else { break };
            let Some(output) = dhcp.client.poll(now) else {
                break;
            };
            match output {
                Output::Configured(lease) => {
                    dhcp.refusals = 0;
                    events.push(Event::new(
                        &name,
                        What::Lease {
                            address: lease.address,
                            prefix_length: lease.prefix_length,
                            gateway: lease.gateway,
                            server: lease.server,
                            lifetime: lease.lifetime,
                        },
                    ));
                    self.dirty = true;
                }
                Output::Lost(lost) => {
                    dhcp.unicast = None;
                    events.push(Event::new(&name, What::LeaseLost(lost)));
                    self.dirty = true;
                }
                message => {
                    if let Err(error) = dhcp.send(message) {
                        events.push(Event::trouble(&name, &error));
                    }
                }
            }
        }
    }

    fn configure(&mut self, config: &NetworkConfig, rtnl: &mut Rtnl) -> Result<(), NetlinkError> {
        let index = self.link.index;
        let wanted = plan::desired(config, self.lease(), index);
        if !self.link.up {
            rtnl.set_up(index, true)?;
        }
        let mut addresses = rtnl.addresses()?;
        addresses.retain(|address| address.interface == index);
        let mut routes = rtnl.routes()?;
        routes.retain(|route| route.interface == index);
        for change in plan::changes(&wanted, &addresses, &routes, self.link.mtu) {
            match change {
                // A card that cannot do the size named keeps its own.
                Change::Mtu(mtu) => drop(rtnl.set_mtu(index, mtu)),
                Change::AddAddress(address, length) => rtnl.add_address(index, address, length)?,
                Change::SetRoute(route) => rtnl.set_route(&route)?,
                Change::DeleteRoute(route) => rtnl.delete_route(&route)?,
                Change::DeleteAddress(address, length) => {
                    rtnl.delete_address(index, address, length)?;
                }
            }
        }
        let mut addresses = rtnl.addresses()?;
        addresses.retain(|address| address.interface == index);
        self.addresses = addresses;
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.bind();
        }
        Ok(())
    }

    /// What the next stage needs to go on with the lease; times count from now.
    pub(crate) fn dhcp4(&self, now: Duration) -> Option<Dhcp4Lease> {
        let (lease, since) = self.dhcp.as_ref()?.client.lease()?;
        let age = now.saturating_sub(since);
        let left = |whole: Duration| whole.saturating_sub(age).as_secs();
        Some(Dhcp4Lease {
            address: lease.address,
            prefix: lease.prefix_length,
            server: lease.server,
            gateway: lease.gateway,
            routes: lease
                .routes
                .iter()
                .map(|route| {
                    let via = route
                        .via
                        .map_or_else(String::new, |via| format!(" via {via}"));
                    format!("{}/{}{via}", route.destination, route.prefix_length)
                })
                .collect(),
            dns: lease.dns.clone(),
            ntp: lease.ntp.clone(),
            mtu: lease.mtu,
            lifetime: lease.lifetime.map(left),
            renew_after: left(lease.renew_after),
            rebind_after: left(lease.rebind_after),
        })
    }
}

/// The lease that was handed over, if there is one and it is in order.
fn resume(handed: &racklet_api::handoff::Lease) -> Option<Lease> {
    let found = handed.dhcp4.as_ref()?;
    let routes: Option<Vec<StaticRoute>> = found.routes.iter().map(|text| route(text)).collect();
    Some(Lease {
        address: found.address,
        prefix_length: found.prefix.min(32),
        server: found.server,
        gateway: found.gateway,
        routes: routes?,
        dns: found.dns.clone(),
        ntp: found.ntp.clone(),
        mtu: found.mtu,
        lifetime: found.lifetime.map(Duration::from_secs),
        renew_after: Duration::from_secs(found.renew_after),
        rebind_after: Duration::from_secs(found.rebind_after),
    })
}

/// `10.1.0.0/16 via 10.0.0.9`, or without the rest for a destination on the link.
fn route(text: &str) -> Option<StaticRoute> {
    let (network, via) = match text.split_once(" via ") {
        Some((network, via)) => (network, Some(via.parse().ok()?)),
        None => (text, None),
    };
    let (destination, prefix_length) = network.split_once('/')?;
    Some(StaticRoute {
        destination: destination.parse().ok()?,
        prefix_length: prefix_length.parse().ok().filter(|length| *length <= 32)?,
        via,
    })
}

impl Dhcp {
    fn listen(&mut self, now: Duration, interface: &str, events: &mut Vec<Event>) {
        for _ in 0..BURST {
            let packet = match self.socket.receive() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => {
                    // ENETDOWN when the card is switched off: its link news say so.
                    if error.raw_os_error() != Some(100) {
                        events.push(Event::trouble(interface, &error));
                    }
                    return;
                }
            };
            let Ok(datagram) = udp4::parse(&packet.bytes, packet.checksum_done) else {
                continue;
            };
            if datagram.source_port != SERVER_PORT || datagram.destination_port != CLIENT_PORT {
                continue;
            }
            match self.client.receive(now, datagram.payload) {
                // Other clients' conversations and late answers are everyday.
                Ok(()) | Err(Refused::Transaction | Refused::Hardware | Refused::Unasked) => {}
                Err(refused) => {
                    if self.refusals < REFUSALS {
                        self.refusals += 1;
                        let why = format!("{} (from {})", chain(&refused), datagram.source);
                        events.push(Event::new(interface, What::Refused(why)));
                    }
                }
            }
        }
    }

    fn bind(&mut self) {
        let Some((lease, _)) = self.client.lease() else {
            self.unicast = None;
            return;
        };
        let address = SocketAddrV4::new(lease.address, CLIENT_PORT);
        let bound = self.unicast.as_ref().and_then(|s| s.local_addr().ok());
        if bound != Some(address.into()) {
            self.unicast = UdpSocket::bind(address).ok();
        }
    }

    fn send(&self, output: Output) -> io::Result<()> {
        let (source, payload) = match output {
            Output::Unicast { server, payload } => {
                if let Some(socket) = &self.unicast {
                    socket.send_to(&payload, (server, dhcp4::SERVER_PORT))?;
                    return Ok(());
                }
                // Without the socket the server is still reached, as everybody else.
                (Ipv4Addr::UNSPECIFIED, payload)
            }
            Output::Broadcast { source, payload } => (source, payload),
            Output::Configured(_) | Output::Lost(_) => return Ok(()),
        };
        let packet = udp4::packet(&Datagram {
            source,
            destination: Ipv4Addr::BROADCAST,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
            payload: &payload,
        })
        .ok_or(io::ErrorKind::InvalidInput)?;
        self.socket.broadcast(&packet)
    }
}
