// SPDX-License-Identifier: Apache-2.0
//! Links, addresses and routes as the kernel lists them (linux/if_link.h, if_addr.h, rtnetlink.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::codec::{Attributes, Message};

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_RUNNING: u32 = 0x40;
const IFF_LOWER_UP: u32 = 0x1_0000;
/// The wire (LOWER_UP) and the kernel's queue behind it (RUNNING); the second follows the first after a moment.
const READY: u32 = IFF_RUNNING | IFF_LOWER_UP;
const ARPHRD_ETHER: u16 = 1;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
pub(super) const TABLE_MAIN: u8 = 254;
pub(super) const UNICAST: u8 = 1;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, never used twice while the system runs.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, when it has one.
    pub mac: Option<[u8; 6]>,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether there is somebody at the other end and the kernel has taken notice: before that, packets vanish.
    pub carrier: bool,
    /// Whether it speaks Ethernet (cards, bridges, taps, veth).
    pub ethernet: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Its MTU.
    pub mtu: u32,
    /// The driver's name for virtual interfaces (`bridge`, `tun`, `veth`); nothing for cards.
    pub kind: Option<String>,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// A free text that its maker left on it.
    pub alias: Option<String>,
}

impl Link {
    /// What a message says of a link; `None` for any other.
    // untrusted: netlink_answers
    pub fn read(message: &Message) -> Option<Self> {
        let (fixed, attributes) = message.parts::<16>()?;
        let flags = u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        let hardware = u16::from_ne_bytes([fixed[2], fixed[3]]);
        Some(Self {
            index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            name: attributes.text(IFLA_IFNAME)?,
            mac: attributes.array(IFLA_ADDRESS),
            up: flags & IFF_UP != 0,
            carrier: flags & READY == READY,
            ethernet: hardware == ARPHRD_ETHER,
            loopback: flags & IFF_LOOPBACK != 0,
            mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
            kind: attributes
                .nest(IFLA_LINKINFO)
                .and_then(|info| info.text(IFLA_INFO_KIND)),
            master: attributes.u32(IFLA_MASTER),
            alias: attributes.text(IFLA_IFALIAS),
        })
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub interface: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Bits of its subnet.
    pub prefix_length: u8,
    /// Whether it was set by hand; the kernel's own from router advertisements are not.
    pub permanent: bool,
    /// Whether the kernel still checks that nobody else has it (IPv6).
    pub tentative: bool,
}

impl Address {
    /// What a message says of an address; `None` for any other.
    // untrusted: netlink_answers
    pub fn read(message: &Message) -> Option<Self> {
        let (fixed, attributes) = message.parts::<8>()?;
        let flags = attributes.u32(IFA_FLAGS).unwrap_or(u32::from(fixed[2]));
        let address =
            address(attributes, IFA_LOCAL).or_else(|| address(attributes, IFA_ADDRESS))?;
        Some(Self {
            interface: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            address,
            prefix_length: fixed[1],
            permanent: flags & IFA_F_PERMANENT != 0,
            tentative: flags & IFA_F_TENTATIVE != 0,
        })
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; `0.0.0.0` or `::` with no prefix bits for the default route.
    pub destination: IpAddr,
    /// Bits of the destination that count.
    pub prefix_length: u8,
    /// The next hop; nothing when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the interface it leaves by.
    pub interface: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// Who set it: 2 the kernel, 9 router advertisements, [`Route::OURS`] this project.
    pub protocol: u8,
}

impl Route {
    /// The mark of routes that Racklet sets: a number that `/etc/iproute2/rt_protos` leaves free.
    pub const OURS: u8 = 114;

    /// What a message says of a route of the main table; `None` for any other.
    // untrusted: netlink_answers
    pub fn read(message: &Message) -> Option<Self> {
        let (fixed, attributes) = message.parts::<12>()?;
        let table = attributes.u32(RTA_TABLE).unwrap_or(u32::from(fixed[4]));
        if table != u32::from(TABLE_MAIN) || fixed[7] != UNICAST {
            return None;
        }
        let any = match fixed[0] {
            AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        Some(Self {
            destination: address(attributes, RTA_DST).unwrap_or(any),
            prefix_length: fixed[1],
            gateway: address(attributes, RTA_GATEWAY),
            interface: attributes.u32(RTA_OIF)?,
            metric: attributes.u32(RTA_PRIORITY).unwrap_or(0),
            protocol: fixed[5],
        })
    }
}

/// An attribute that holds an address of either family, told apart by its length.
fn address(attributes: Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let v4 = attributes.array::<4>(kind).map(IpAddr::from);
    v4.or_else(|| attributes.array::<16>(kind).map(IpAddr::from))
}
