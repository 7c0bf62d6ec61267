// SPDX-License-Identifier: Apache-2.0
//! Brings a tray's own network cards onto their networks and keeps them there: links up, DHCPv4 or fixed addresses, IPv6
//! by router advertisements, DNS servers.
//!
//! The bootstrap and the network daemon use the same [`Uplink`]. It owns no thread and no clock: the caller waits
//! ([`Uplink::wait`]), tells the time ([`Uplink::handle`]) and prints what happened ([`Event`]). Networks of microVMs are
//! not its business.
#![forbid(unsafe_code)]

mod card;
mod event;
mod plan;
mod resolv;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use racklet_api::handoff::Lease;
use racklet_api::tray::{Cidr, NetworkConfig};
use racklet_linux::netlink::NetlinkError;
use racklet_linux::rtnl::{Address, Link, Monitor, News, Rtnl};
use racklet_net::ra::{self, DnsTable};

use card::Card;
pub use event::{Event, What};

/// What an uplink is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tray's network configuration.
    pub network: NetworkConfig,
    /// Name to give to DHCP servers.
    pub host_name: Option<String>,
    /// Where to write the DNS servers; `/etc/resolv.conf` on a tray.
    pub resolv_conf: PathBuf,
    /// A lease obtained earlier, as it is now (its times count from now).
    pub resume: Option<Lease>,
    /// Interface name prefixes that are never cards: what the network daemon makes itself.
    pub ignore: Vec<String>,
}

/// Why the network cannot be looked after at all. Trouble with one card is an [`Event`] instead.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No conversation with the kernel.
    #[error("talk to the kernel about network cards")]
    Netlink(#[from] NetlinkError),
    /// No random numbers.
    #[error("get random numbers")]
    Random(#[source] std::io::Error),
    /// Waiting failed.
    #[error("wait for network events")]
    Wait(#[source] std::io::Error),
}

/// The tray's cards and what is known about their networks.
#[derive(Debug)]
pub struct Uplink {
    settings: Settings,
    rtnl: Rtnl,
    monitor: Monitor,
    cards: BTreeMap<u32, Card>,
    dns: DnsTable,
    taken: Vec<Ipv4Addr>,
    written: Option<String>,
    started: bool,
}

impl Uplink {
    /// Begins to listen; nothing is changed until [`Self::handle`].
    pub fn open(settings: Settings) -> Result<Self, UplinkError> {
        Ok(Self {
            settings,
            // Before the first listing, so that nothing falls between.
            monitor: Monitor::open()?,
            rtnl: Rtnl::open()?,
            cards: BTreeMap::new(),
            dns: DnsTable::default(),
            taken: Vec::new(),
            written: None,
            started: false,
        })
    }

    /// File descriptors whose readability means that [`Self::handle`] has work.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = self.cards.values().filter_map(Card::descriptor);
        std::iter::once(self.monitor.as_fd())
            .chain(sockets)
            .collect()
    }

    /// When [`Self::handle`] has work at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if !self.started {
            return Some(Duration::ZERO);
        }
        let cards = self.cards.values().filter_map(Card::next_wake);
        cards.chain(self.dns.next_wake()).min()
    }

    /// Waits until there is work, or for `at_most`.
    pub fn wait(&self, now: Duration, at_most: Duration) -> Result<(), UplinkError> {
        let until = self
            .next_wake()
            .map_or(at_most, |wake| at_most.min(wake.saturating_sub(now)));
        event::wait(&self.descriptors(), until).map_err(UplinkError::Wait)?;
        Ok(())
    }

    /// Does all that can be done now. `now` is a monotonic time.
    pub fn handle(&mut self, now: Duration) -> Result<Vec<Event>, UplinkError> {
        let mut events = Vec::new();
        if !self.started {
            self.started = true;
            self.look_again(now, &mut events)?;
        }
        // Bounded, so that a flood of news cannot keep the caller from its other work.
        for _ in 0..64 {
            if !event::is_ready(self.monitor.as_fd()).map_err(UplinkError::Wait)? {
                break;
            }
            for news in self.monitor.receive()? {
                self.take(now, news, &mut events)?;
            }
        }
        for card in self.cards.values_mut() {
            card.work(now, &self.settings.network, &mut self.rtnl, &mut events);
        }
        self.dns.expire(now);
        self.write_resolv_conf(&mut events);
        Ok(events)
    }

    /// Addresses that no card may get from DHCP from now on, since they are in use on this tray's own networks: the kernel
    /// would keep what is for them to itself.
    pub fn set_taken(&mut self, taken: Vec<Ipv4Addr>) {
        for card in self.cards.values_mut() {
            card.set_taken(&taken);
        }
        self.taken = taken;
    }

    /// Whether some card has a carrier and an address that is of use beyond the link.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.cards.values().any(Card::is_online)
    }

    /// The cards, each with whether it is online.
    #[must_use]
    pub fn cards(&self) -> Vec<(&Link, bool)> {
        let all = self.cards.values();
        all.map(|card| (&card.link, card.is_online())).collect()
    }

    /// The addresses of all cards that are of use beyond the link.
    #[must_use]
    pub fn addresses(&self) -> Vec<Cidr> {
        let indexes = self.cards.keys();
        indexes
            .flat_map(|index| self.addresses_of(*index))
            .collect()
    }

    /// One card's addresses that are of use beyond the link.
    #[must_use]
    pub fn addresses_of(&self, index: u32) -> Vec<Cidr> {
        let card = self.cards.get(&index).into_iter();
        card.flat_map(|card| &card.addresses)
            .filter(|address| !plan::is_link_local(address.address))
            .map(|address| Cidr {
                address: address.address,
                prefix: address.prefix_length,
            })
            .collect()
    }

    /// The network in use, for the next stage or for people: the first card that is online.
    #[must_use]
    pub fn lease(&self, now: Duration) -> Option<Lease> {
        let card = self.cards.values().find(|card| card.is_online())?;
        Some(Lease {
            interface: card.link.name.clone(),
            addresses: self.addresses_of(card.link.index),
            gateways: card.gateways(&self.settings.network),
            dns: self.dns_servers().into_iter().map(|(dns, _)| dns).collect(),
            dhcp4: card.dhcp4(now),
        })
    }

    /// NTP servers that DHCP named.
    #[must_use]
    pub fn ntp_servers(&self) -> Vec<IpAddr> {
        let leases = self.cards.values().filter_map(Card::lease);
        leases
            .flat_map(|lease| lease.ntp.iter().copied().map(IpAddr::V4))
            .collect()
    }

    /// DNS servers, best first: configured, from DHCP, from routers; each with the interface that a link-local one needs.
    #[must_use]
    pub fn dns_servers(&self) -> Vec<(IpAddr, Option<String>)> {
        let configured = self.settings.network.dns.iter().map(|dns| (*dns, None));
        let dhcp = self.cards.values().filter_map(Card::lease);
        let dhcp = dhcp.flat_map(|lease| lease.dns.iter().map(|dns| (IpAddr::V4(*dns), None)));
        let routers = self.dns.servers().map(|(interface, dns)| {
            let card = self.cards.get(&interface);
            let scope = card.filter(|_| dns.is_unicast_link_local());
            (IpAddr::V6(dns), scope.map(|card| card.link.name.clone()))
        });
        let mut servers: Vec<(IpAddr, Option<String>)> = Vec::new();
        for server in configured.chain(dhcp).chain(routers) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    fn is_candidate(&self, link: &Link) -> bool {
        let ours = |prefix: &String| link.name.starts_with(prefix.as_str());
        match &self.settings.network.interface {
            Some(name) => link.name == *name,
            None => {
                link.ethernet
                    && link.kind.is_none()
                    && link.master.is_none()
                    && !self.settings.ignore.iter().any(ours)
            }
        }
    }

    fn take(
        &mut self,
        now: Duration,
        news: News,
        events: &mut Vec<Event>,
    ) -> Result<(), UplinkError> {
        match news {
            News::Link(link) => self.link(now, link, events),
            News::LinkGone { index } => self.link_gone(index, events),
            News::Address(address) => {
                if let Some(card) = self.cards.get_mut(&address.interface) {
                    card.address(address, events);
                }
            }
            News::AddressGone(address) => {
                if let Some(card) = self.cards.get_mut(&address.interface) {
                    card.address_gone(&address);
                }
            }
            News::RouterOptions { interface, options } => {
                if self.cards.contains_key(&interface) && self.settings.network.addresses.is_empty()
                {
                    for claim in ra::dns_servers(&options) {
                        self.dns.learn(now, interface, &claim);
                    }
                }
            }
            News::Lost => self.look_again(now, events)?,
        }
        Ok(())
    }

    /// Lists everything: at the start, and when news were lost.
    fn look_again(&mut self, now: Duration, events: &mut Vec<Event>) -> Result<(), UplinkError> {
        let links = self.rtnl.links()?;
        let gone: Vec<u32> = self
            .cards
            .keys()
            .filter(|index| !links.iter().any(|link| link.index == **index))
            .copied()
            .collect();
        for index in gone {
            self.link_gone(index, events);
        }
        for link in links {
            if link.loopback && !link.up {
                self.rtnl.set_up(link.index, true)?;
            }
            self.link(now, link, events);
        }
        let addresses: Vec<Address> = self.rtnl.addresses()?;
        for card in self.cards.values_mut() {
            card.addresses.clear();
            for address in &addresses {
                if address.interface == card.link.index {
                    card.address(*address, events);
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, now: Duration, link: Link, events: &mut Vec<Event>) {
        if let Some(card) = self.cards.get_mut(&link.index) {
            let had_carrier = card.link.carrier;
            card.link_changed(now, link, events);
            if had_carrier && !card.link.carrier {
                self.dns.forget(card.link.index);
            }
            return;
        }
        if !self.is_candidate(&link) {
            return;
        }
        match card::adopt(&self.settings, &link, &mut self.rtnl, now) {
            Ok(mut card) => {
                card.set_taken(&self.taken);
                events.push(Event::new(
                    &link.name,
                    What::Found {
                        carrier: link.carrier,
                    },
                ));
                self.cards.insert(link.index, card);
            }
            Err(error) => events.push(Event::trouble(&link.name, &error)),
        }
    }

    fn link_gone(&mut self, index: u32, events: &mut Vec<Event>) {
        self.dns.forget(index);
        if let Some(card) = self.cards.remove(&index) {
            events.push(Event::new(&card.link.name, What::Gone));
        }
    }

    fn write_resolv_conf(&mut self, events: &mut Vec<Event>) {
        let servers = self.dns_servers();
        let text = resolv::conf(&servers);
        if self.written.as_ref() == Some(&text) {
            return;
        }
        match resolv::replace(&self.settings.resolv_conf, &text) {
            Ok(()) => {
                let servers = servers.into_iter().map(|(server, _)| server).collect();
                // Nothing to say before there is anything.
                if self.written.is_some() || text.contains("nameserver") {
                    events.push(Event::new("dns", What::DnsServers { servers }));
                }
                self.written = Some(text);
            }
            Err(error) => events.push(Event::trouble("dns", &error)),
        }
    }
}
