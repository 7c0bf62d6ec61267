// SPDX-License-Identifier: Apache-2.0
//! The networks and taps that should be there, and which requests make sense.

use std::collections::BTreeMap;
use std::net::IpAddr;

use racklet_api::netd::{Bridge, Port};
use racklet_api::tray::Cidr;
use racklet_api::vmm::Mac;
use racklet_rack::Name;
use racklet_rack::subnet;

use crate::names;

/// A network: a bridge with the gateways' addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Whether its workloads reach the outside, by the tray's own addresses.
    pub nat: bool,
    /// The bridge's addresses: one per family at most, one at least.
    pub gateways: Vec<Cidr>,
}

/// A workload's tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// The network that it is a port of.
    pub network: Name,
    /// The only user, beside root, that may attach to it.
    pub uid: u32,
    /// What the guest sends from: the filter lets nothing else through.
    pub mac: Mac,
    /// The guest's addresses: one per family at most, one at least.
    pub addresses: Vec<IpAddr>,
}

/// All that should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) networks: BTreeMap<Name, Network>,
    pub(crate) taps: BTreeMap<Name, Tap>,
}

/// Why a request is refused. Each says what to change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("{0}")]
    Name(String),
    #[error("network {0} needs a gateway address, at most one for IPv4 and one for IPv6")]
    Gateways(Name),
    #[error("{1} cannot be network {0}: {2}")]
    Network(Name, Cidr, subnet::Unusable),
    #[error("{1} cannot be the gateway of network {0}: give it a host address")]
    Gateway(Name, Cidr),
    #[error("network {0} ({1}) overlaps network {2} ({3}); give them different prefixes")]
    Overlap(Name, Cidr, Name, Cidr),
    #[error(
        "network {0} ({1}) overlaps the network that the tray itself is on ({2}); give it another prefix"
    )]
    OverlapsUplink(Name, Cidr, Cidr),
    #[error("workload {0} needs an address in network {1}, at most one for IPv4 and one for IPv6")]
    Addresses(Name, Name),
    #[error("workload {0} cannot have {1}: it is no host address of network {2}, or its gateway's")]
    Address(Name, IpAddr, Name),
    #[error("workload {0} cannot have {1}: workload {2} has it; give one of them another address")]
    AddressTaken(Name, IpAddr, Name),
    #[error("workload {0} cannot have {1}: no card may have that address")]
    Mac(Name, Mac),
    #[error("workload {0} cannot have {1}: workload {2} or the network's gateway has it")]
    MacTaken(Name, Mac, Name),
    #[error("{0} and {1} would have the same interface name; rename one of them")]
    InterfaceName(Name, Name),
}

fn name(text: &str) -> Result<Name, Refused> {
    text.parse()
        .map_err(|error| Refused::Name(format!("{error}")))
}

impl Desired {
    /// Takes in a network and a workload's place in it. `uplink` is what the tray's own cards have.
    pub(crate) fn attach(
        &mut self,
        bridge: &Bridge,
        port: &Port,
        uplink: &[Cidr],
    ) -> Result<Name, Refused> {
        let (network_name, workload) = (name(&bridge.name)?, name(&port.workload)?);
        self.check_network(&network_name, bridge, uplink)?;
        self.check_port(&network_name, bridge, &workload, port)?;
        self.networks.insert(
            network_name.clone(),
            Network {
                nat: bridge.nat,
                gateways: bridge.gateways.clone(),
            },
        );
        self.taps.insert(
            workload.clone(),
            Tap {
                network: network_name,
                uid: port.uid,
                mac: port.mac,
                addresses: port.addresses.clone(),
            },
        );
        Ok(workload)
    }

    /// Removes a workload's tap.
    pub(crate) fn detach(&mut self, workload: &str) -> Result<(), Refused> {
        self.taps.remove(&name(workload)?);
        Ok(())
    }

    /// Removes all other networks, with their taps.
    pub(crate) fn retain(&mut self, networks: &[String]) -> Result<(), Refused> {
        let keep = networks
            .iter()
            .map(|text| name(text))
            .collect::<Result<Vec<Name>, Refused>>()?;
        self.networks.retain(|name, _| keep.contains(name));
        self.taps.retain(|_, tap| keep.contains(&tap.network));
        Ok(())
    }

    /// Addresses in use on the tray's own networks: gateways' and guests'.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = IpAddr> {
        let gateways = self.networks.values().flat_map(|network| &network.gateways);
        let guests = self.taps.values().flat_map(|tap| &tap.addresses);
        gateways
            .map(|gateway| gateway.address)
            .chain(guests.copied())
    }

    fn check_network(
        &self,
        network: &Name,
        bridge: &Bridge,
        uplink: &[Cidr],
    ) -> Result<(), Refused> {
        let gateways = &bridge.gateways;
        if gateways.is_empty() || !one_per_family(gateways.iter().map(|cidr| cidr.address)) {
            return Err(Refused::Gateways(network.clone()));
        }
        for gateway in gateways {
            subnet::check(gateway.address, gateway.prefix)
                .map_err(|why| Refused::Network(network.clone(), *gateway, why))?;
            if !is_host(gateway, gateway.address) {
                return Err(Refused::Gateway(network.clone(), *gateway));
            }
            for (other, known) in self.networks.iter().filter(|(other, _)| *other != network) {
                if let Some(theirs) = known.gateways.iter().find(|cidr| overlap(cidr, gateway)) {
                    return Err(Refused::Overlap(
                        network.clone(),
                        *gateway,
                        other.clone(),
                        *theirs,
                    ));
                }
            }
            // A network that is there stays, whatever an uplink is given later.
            let is_new = self
                .networks
                .get(network)
                .is_none_or(|known| !known.gateways.contains(gateway));
            if let Some(theirs) = uplink.iter().find(|cidr| is_new && overlap(cidr, gateway)) {
                return Err(Refused::OverlapsUplink(network.clone(), *gateway, *theirs));
            }
        }
        let same =
            |other: &&Name| *other != network && names::bridge(other) == names::bridge(network);
        match self.networks.keys().find(same) {
            Some(other) => Err(Refused::InterfaceName(network.clone(), other.clone())),
            None => Ok(()),
        }
    }

    fn check_port(
        &self,
        network: &Name,
        bridge: &Bridge,
        workload: &Name,
        port: &Port,
    ) -> Result<(), Refused> {
        if port.addresses.is_empty() || !one_per_family(port.addresses.iter().copied()) {
            return Err(Refused::Addresses(workload.clone(), network.clone()));
        }
        for address in &port.addresses {
            let fits = |gateway: &Cidr| is_host(gateway, *address) && gateway.address != *address;
            if !bridge.gateways.iter().any(fits) {
                return Err(Refused::Address(
                    workload.clone(),
                    *address,
                    network.clone(),
                ));
            }
        }
        // A multicast or empty address would be everybody's.
        if port.mac.0[0] & 1 == 1 || port.mac.0 == [0; 6] {
            return Err(Refused::Mac(workload.clone(), port.mac));
        }
        if port.mac.0 == names::bridge_mac(network) {
            return Err(Refused::MacTaken(
                workload.clone(),
                port.mac,
                network.clone(),
            ));
        }
        for (other, tap) in self.taps.iter().filter(|(other, _)| *other != workload) {
            if names::tap(other) == names::tap(workload) {
                return Err(Refused::InterfaceName(workload.clone(), other.clone()));
            }
            if tap.network != *network {
                continue;
            }
            if tap.mac == port.mac {
                return Err(Refused::MacTaken(workload.clone(), port.mac, other.clone()));
            }
            if let Some(taken) = port.addresses.iter().find(|a| tap.addresses.contains(a)) {
                return Err(Refused::AddressTaken(
                    workload.clone(),
                    *taken,
                    other.clone(),
                ));
            }
        }
        Ok(())
    }
}

pub(crate) fn one_per_family(addresses: impl Iterator<Item = IpAddr>) -> bool {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    v4.len() <= 1 && v6.len() <= 1
}

/// The address as a number at the top of 128 bits, so that prefixes of both families are shifts.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length.min(128)))
        .unwrap_or(0)
}

pub(crate) fn overlap(one: &Cidr, two: &Cidr) -> bool {
    let shorter = mask(one.prefix.min(two.prefix));
    one.address.is_ipv4() == two.address.is_ipv4()
        && bits(one.address) & shorter == bits(two.address) & shorter
}

/// Whether a host of the subnet may have the address: inside it, and neither its first nor (IPv4) its last.
fn is_host(subnet: &Cidr, address: IpAddr) -> bool {
    let host = mask(subnet.prefix);
    let host = if address.is_ipv4() {
        bits(address) & !host & mask(32)
    } else {
        bits(address) & !host
    };
    let last = !mask(subnet.prefix) & mask(32);
    let broadcast = address.is_ipv4() && host == last;
    let inside = Cidr {
        address,
        prefix: subnet.prefix,
    };
    overlap(subnet, &inside) && host != 0 && !broadcast
}

#[cfg(test)]
pub(crate) mod tests;
