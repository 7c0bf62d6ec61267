// SPDX-License-Identifier: Apache-2.0
//! Links, addresses, routes and bridges over rtnetlink; each call returns when the kernel has done it.
//!
//! What should be there is decided by the callers. All operations are idempotent where that can be had: adding what is
//! there and deleting what is not succeed.

mod monitor;
mod objects;

use std::net::IpAddr;
use std::os::fd::AsRawFd;

pub use monitor::{Monitor, News};
pub use objects::{Address, Link, Route};

use crate::netlink::codec::{CREATE, EXCLUSIVE, REPLACE, Request};
use crate::netlink::{NetlinkError, Socket};
use objects::{
    AF_INET, AF_INET6, IFA_ADDRESS, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME,
    IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, RTA_DST, RTA_GATEWAY,
    RTA_OIF, RTA_PRIORITY, TABLE_MAIN, UNICAST,
};

const NETLINK_ROUTE: u32 = 0;
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const AF_BRIDGE: u8 = 7;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const EXT_MASK_SKIP_STATISTICS: u32 = 1 << 3;
const RTNH_ONLINK: u32 = 4;
const SCOPE_LINK: u8 = 253;
const IFLA_PROTINFO: u16 = 12;
const BRIDGE_FORWARD_DELAY: u16 = 1;
const BRIDGE_STP: u16 = 5;
const BRIDGE_MULTICAST_SNOOPING: u16 = 23;
const BRIDGE_MULTI_BOOLOPT: u16 = 46;
const NO_LINK_LOCAL_LEARNING: u32 = 1;
const VETH_INFO_PEER: u16 = 1;
const PORT_GUARD: u16 = 5;
const PORT_PROTECT: u16 = 6;
/// Longest interface name in bytes (IFNAMSIZ less the NUL).
pub const MAX_NAME: usize = 15;

/// A conversation with the kernel about network configuration, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Rtnl(Socket);

impl Rtnl {
    /// Opens the conversation.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(NETLINK_ROUTE, 0).map(Self)
    }

    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut request = Request::new(GET_LINK, 0, &[0; 16]);
        request.u32(IFLA_EXT_MASK, EXT_MASK_SKIP_STATISTICS);
        let found = self.0.dump(&request)?;
        Ok(found.iter().filter_map(Link::read).collect())
    }

    /// The interface of that name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// All addresses.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let found = self.0.dump(&Request::new(GET_ADDRESS, 0, &[0; 8]))?;
        Ok(found.iter().filter_map(Address::read).collect())
    }

    /// All unicast routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut fixed = [0; 12];
            fixed[0] = family;
            let found = self.0.dump(&Request::new(GET_ROUTE, 0, &fixed))?;
            routes.extend(found.iter().filter_map(Route::read));
        }
        Ok(routes)
    }

    /// Switches an interface on or off.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let fixed = link_header(0, index, if up { IFF_UP } else { 0 }, IFF_UP);
        self.0.execute(Request::new(SET_LINK, 0, &fixed))
    }

    /// Sets the MTU.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set(index, |request| request.u32(IFLA_MTU, mtu))
    }

    /// Sets the Ethernet address; most cards must be off.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.set(index, |request| request.bytes(IFLA_ADDRESS, &mac))
    }

    /// Leaves a text on the interface, at most 255 bytes.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        self.set(index, |request| {
            request.bytes(IFLA_IFALIAS, alias.as_bytes());
        })
    }

    /// Makes an interface a port of a bridge, or of none.
    pub fn set_master(&mut self, index: u32, bridge: Option<u32>) -> Result<(), NetlinkError> {
        self.set(index, |request| {
            request.u32(IFLA_MASTER, bridge.unwrap_or(0));
        })
    }

    /// Moves an interface into another network namespace, where it arrives switched off and without addresses.
    pub fn move_to(&mut self, index: u32, namespace: &impl AsRawFd) -> Result<(), NetlinkError> {
        let fd = namespace.as_raw_fd().cast_unsigned();
        self.set(index, |request| request.u32(IFLA_NET_NS_FD, fd))
    }

    /// Tells the bridge not to believe spanning tree messages from this port: it leads to an end station.
    pub fn guard_port(&mut self, index: u32) -> Result<(), NetlinkError> {
        let fixed = link_header(AF_BRIDGE, index, 0, 0);
        let mut request = Request::new(SET_LINK, 0, &fixed);
        request.nest(IFLA_PROTINFO, |port| {
            port.u8(PORT_GUARD, 1);
            port.u8(PORT_PROTECT, 1);
        });
        self.0.execute(request)
    }

    fn set(
        &mut self,
        index: u32,
        attributes: impl FnOnce(&mut Request),
    ) -> Result<(), NetlinkError> {
        let mut request = Request::new(SET_LINK, 0, &link_header(0, index, 0, 0));
        attributes(&mut request);
        self.0.execute(request)
    }

    /// Makes a bridge without spanning tree (its ports are end stations, so there is no loop to find) that forwards at
    /// once, switched off. Fails when the name is taken.
    pub fn create_bridge(&mut self, name: &str, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.create(name, Some(mac), |info| {
            info.text(IFLA_INFO_KIND, "bridge");
            info.nest(IFLA_INFO_DATA, |data| {
                data.u32(BRIDGE_FORWARD_DELAY, 0);
                data.u32(BRIDGE_STP, 0);
                // Without a querier on the bridge snooping would drop IPv6 neighbour discovery after a while.
                data.u8(BRIDGE_MULTICAST_SNOOPING, 0);
                // struct br_boolopt_multi: value, mask. Frames to 01:80:c2:00:00:0x pass no filter: their sender's address
                // must not teach the bridge that a neighbour lives there.
                let option = NO_LINK_LOCAL_LEARNING.to_ne_bytes();
                data.bytes(BRIDGE_MULTI_BOOLOPT, &[option, option].concat());
            });
        })
    }

    /// Makes two interfaces that are each other's other end.
    pub fn create_veth(&mut self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        self.create(name, None, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                let mut inner = Request::new(0, 0, &link_header(0, 0, 0, 0));
                inner.text(IFLA_IFNAME, peer);
                data.bytes(VETH_INFO_PEER, inner.body());
            });
        })
    }

    fn create(
        &mut self,
        name: &str,
        mac: Option<[u8; 6]>,
        info: impl FnOnce(&mut Request),
    ) -> Result<(), NetlinkError> {
        let fixed = link_header(0, 0, 0, 0);
        let mut request = Request::new(NEW_LINK, CREATE | EXCLUSIVE, &fixed);
        request.text(IFLA_IFNAME, name);
        if let Some(mac) = mac {
            request.bytes(IFLA_ADDRESS, &mac);
        }
        request.nest(IFLA_LINKINFO, info);
        self.0.execute(request)
    }

    /// Deletes a virtual interface; one that is gone already is as good.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        missing_is_fine(
            self.0
                .execute(Request::new(DEL_LINK, 0, &link_header(0, index, 0, 0))),
        )
    }

    /// Gives an interface an address, if it does not have it already.
    pub fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix_length: u8,
    ) -> Result<(), NetlinkError> {
        let mut request =
            address_request(NEW_ADDRESS, CREATE | REPLACE, index, address, prefix_length);
        match address {
            IpAddr::V4(v4) if prefix_length < 31 => {
                let broadcast = u32::from(v4) | u32::MAX >> prefix_length;
                request.be32(IFA_BROADCAST, broadcast);
            }
            IpAddr::V4(_) => {}
            // Set by hand and unique by construction; waiting for the check would keep it unusable for a second.
            IpAddr::V6(_) => request.u32(IFA_FLAGS, IFA_F_NODAD),
        }
        self.0.execute(request)
    }

    /// Takes an address away.
    pub fn delete_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix_length: u8,
    ) -> Result<(), NetlinkError> {
        let request = address_request(DEL_ADDRESS, 0, index, address, prefix_length);
        missing_is_fine(self.0.execute(request))
    }

    /// Sets a route, in place of one to the same destination with the same metric. The gateway need not lie in a subnet
    /// of the interface.
    pub fn set_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.0
            .execute(route_request(NEW_ROUTE, CREATE | REPLACE, route))
    }

    /// Takes a route away.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        missing_is_fine(self.0.execute(route_request(DEL_ROUTE, 0, route)))
    }
}

fn missing_is_fine(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// `struct ifinfomsg`.
fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn address_request(
    kind: u16,
    flags: u16,
    index: u32,
    address: IpAddr,
    prefix_length: u8,
) -> Request {
    let mut fixed = [0; 8];
    fixed[0] = family(address);
    fixed[1] = prefix_length;
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let mut request = Request::new(kind, flags, &fixed);
    push_address(&mut request, IFA_LOCAL, address);
    push_address(&mut request, IFA_ADDRESS, address);
    request
}

fn route_request(kind: u16, flags: u16, route: &Route) -> Request {
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
    let scope = match (route.destination, route.gateway) {
        (IpAddr::V4(_), None) => SCOPE_LINK,
        _ => 0,
    };
    let mut fixed = [0; 12];
    fixed[..8].copy_from_slice(&[
        family(route.destination),
        route.prefix_length,
        0,
        0,
        TABLE_MAIN,
        route.protocol,
        scope,
        UNICAST,
    ]);
    if route.gateway.is_some() && kind == NEW_ROUTE {
        fixed[8..].copy_from_slice(&RTNH_ONLINK.to_ne_bytes());
    }
    let mut request = Request::new(kind, flags, &fixed);
    if route.prefix_length > 0 {
        push_address(&mut request, RTA_DST, route.destination);
    }
    if let Some(gateway) = route.gateway {
        push_address(&mut request, RTA_GATEWAY, gateway);
    }
    request.u32(RTA_OIF, route.interface);
    request.u32(RTA_PRIORITY, route.metric);
    request
}

const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn push_address(request: &mut Request, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => request.bytes(kind, &v4.octets()),
        IpAddr::V6(v6) => request.bytes(kind, &v6.octets()),
    }
}
