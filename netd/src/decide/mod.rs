// SPDX-License-Identifier: Apache-2.0
//! What has to change in the kernel: a pure function of what should be there and what is. Interfaces that are as they
//! should be are not touched, so that a restart of netd disturbs no running microVM.

use std::net::IpAddr;

use crate::alias;
use crate::model::Desired;
use crate::names;
use crate::observe::Observed;

/// One change, by interface name. They are made in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Delete(String),
    CreateBridge {
        name: String,
        mac: [u8; 6],
    },
    CreateTap {
        name: String,
        uid: u32,
    },
    SetAlias(String, String),
    AddAddress(String, IpAddr, u8),
    DeleteAddress(String, IpAddr, u8),
    /// Make it a port, and deaf to spanning tree.
    Enslave {
        tap: String,
        bridge: String,
    },
    SetUp(String),
    /// What is for this guest goes to this bridge and nowhere else.
    AddHost(String, IpAddr),
    DeleteHost(String, IpAddr),
}

/// What has to change.
pub(crate) fn actions(desired: &Desired, observed: &[Observed]) -> Vec<Action> {
    let mut actions = Vec::new();
    // First what must go: it may hold addresses or names that others get.
    let stale = observed.iter().filter(|link| !is_wanted(desired, link));
    actions.extend(stale.map(|link| Action::Delete(link.name.clone())));
    let find = |name: &str| {
        observed
            .iter()
            .find(|link| link.name == name && is_wanted(desired, link))
    };
    for (name, network) in &desired.networks {
        let bridge = names::bridge(name);
        let found = find(&bridge);
        if found.is_none() {
            let mac = names::bridge_mac(name);
            actions.push(Action::CreateBridge {
                name: bridge.clone(),
                mac,
            });
        }
        note(&mut actions, &bridge, found, alias::network(name, network));
        let wanted: Vec<(IpAddr, u8)> = network
            .gateways
            .iter()
            .map(|cidr| (cidr.address, cidr.prefix))
            .collect();
        let has = found.map_or(&[][..], |link| &link.addresses);
        for (address, length) in has.iter().filter(|found| !wanted.contains(found)) {
            actions.push(Action::DeleteAddress(bridge.clone(), *address, *length));
        }
        for (address, length) in wanted.iter().filter(|wanted| !has.contains(wanted)) {
            actions.push(Action::AddAddress(bridge.clone(), *address, *length));
        }
        up(&mut actions, &bridge, found);
        // The longest prefix there is: no route or subnet that DHCP or a router names can lead what is for a guest away from
        // it, whichever came first. After switching on, before which the kernel takes no route.
        let guests = desired.taps.values().filter(|tap| tap.network == *name);
        let wanted: Vec<IpAddr> = guests
            .flat_map(|tap| tap.addresses.iter().copied())
            .collect();
        let has = found.map_or(&[][..], |link| &link.hosts);
        let stale = has.iter().filter(|host| !wanted.contains(host));
        actions.extend(stale.map(|host| Action::DeleteHost(bridge.clone(), *host)));
        let missing = wanted.iter().filter(|host| !has.contains(host));
        actions.extend(missing.map(|host| Action::AddHost(bridge.clone(), *host)));
    }
    for (workload, tap) in &desired.taps {
        let name = names::tap(workload);
        let bridge = names::bridge(&tap.network);
        let found = find(&name);
        if found.is_none() {
            actions.push(Action::CreateTap {
                name: name.clone(),
                uid: tap.uid,
            });
        }
        note(&mut actions, &name, found, alias::tap(workload, tap));
        if found.and_then(|link| link.master.as_ref()) != Some(&bridge) {
            actions.push(Action::Enslave {
                tap: name.clone(),
                bridge,
            });
        }
        up(&mut actions, &name, found);
    }
    actions
}

/// Whether an interface can stay, changed or not. A tap's owner is fixed when it is made.
fn is_wanted(desired: &Desired, link: &Observed) -> bool {
    if link.kind.as_deref() == Some("bridge") {
        let mut networks = desired.networks.keys();
        return networks.any(|network| names::bridge(network) == link.name);
    }
    let mut taps = desired.taps.iter();
    let Some((_, wanted)) = taps.find(|(workload, _)| names::tap(workload) == link.name) else {
        return false;
    };
    let owner = link
        .alias
        .as_deref()
        .and_then(alias::read_tap)
        .map(|(_, tap)| tap.uid);
    link.kind.as_deref() == Some("tun") && owner == Some(wanted.uid)
}

fn note(actions: &mut Vec<Action>, name: &str, found: Option<&Observed>, wanted: String) {
    if found.and_then(|link| link.alias.as_ref()) != Some(&wanted) {
        actions.push(Action::SetAlias(name.to_owned(), wanted));
    }
}

fn up(actions: &mut Vec<Action>, name: &str, found: Option<&Observed>) {
    if !found.is_some_and(|link| link.up) {
        actions.push(Action::SetUp(name.to_owned()));
    }
}

#[cfg(test)]
mod tests;
