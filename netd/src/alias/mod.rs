// SPDX-License-Identifier: Apache-2.0
//! What was accepted, as the alias text of the bridge or tap itself: there it cannot get lost or disagree with the kernel.
//! A netd that starts reads it from there.
//!
//! ```text
//! racklet network lan nat 10.80.0.1/24 fd00:80::1/64
//! racklet tap web lan 1000 02:52:4b:00:00:01 10.80.0.10 fd00:80::10
//! ```

use std::net::IpAddr;

use racklet_api::tray::Cidr;
use racklet_rack::Name;

use crate::model::one_per_family;
pub use crate::model::{Network, Tap};

/// The alias text of a network's bridge.
pub fn network(name: &Name, network: &Network) -> String {
    let kind = if network.nat { "nat" } else { "isolated" };
    let mut text = format!("racklet network {name} {kind}");
    for gateway in &network.gateways {
        text.push_str(&format!(" {gateway}"));
    }
    text
}

/// The alias text of a workload's tap.
pub fn tap(workload: &Name, tap: &Tap) -> String {
    let mut text = format!(
        "racklet tap {workload} {} {} {}",
        tap.network, tap.uid, tap.mac
    );
    for address in &tap.addresses {
        text.push_str(&format!(" {address}"));
    }
    text
}

/// Reads a bridge's alias text.
// untrusted: bridge_alias
pub fn read_network(alias: &str) -> Option<(Name, Network)> {
    let mut words = alias.strip_prefix("racklet network ")?.split(' ');
    let name = words.next()?.parse().ok()?;
    let nat = match words.next()? {
        "nat" => true,
        "isolated" => false,
        _ => return None,
    };
    let gateways: Result<Vec<Cidr>, _> = words.map(str::parse).collect();
    let gateways = gateways.ok()?;
    let addresses = gateways.iter().map(|gateway| gateway.address);
    one_or_two(addresses).then_some((name, Network { nat, gateways }))
}

/// Reads a tap's alias text.
// untrusted: bridge_alias
pub fn read_tap(alias: &str) -> Option<(Name, Tap)> {
    let mut words = alias.strip_prefix("racklet tap ")?.split(' ');
    let workload = words.next()?.parse().ok()?;
    let network = words.next()?.parse().ok()?;
    let uid = words.next()?.parse().ok()?;
    let mac = words.next()?.parse().ok()?;
    let addresses: Result<Vec<IpAddr>, _> = words.map(str::parse).collect();
    let addresses = addresses.ok()?;
    one_or_two(addresses.iter().copied()).then_some((
        workload,
        Tap {
            network,
            uid,
            mac,
            addresses,
        },
    ))
}

/// As requests may have them: one address at least, one per family at most.
fn one_or_two(addresses: impl ExactSizeIterator<Item = IpAddr>) -> bool {
    addresses.len() > 0 && one_per_family(addresses)
}

#[cfg(test)]
mod tests;
