// SPDX-License-Identifier: Apache-2.0
//! What has to change in the kernel: a pure function of what should be there and what is. Interfaces that are as they
//! should be are not touched, so that a restart of netd disturbs no running microVM.

use std::net::IpAddr;

use crate::model::{Desired, network_alias, read_tap, tap_alias};
use crate::names;

/// A bridge or tap of ours as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) name: String,
    /// `bridge` or `tun`.
    pub(crate) kind: Option<String>,
    pub(crate) alias: Option<String>,
    /// Name of the bridge it is a port of.
    pub(crate) master: Option<String>,
    pub(crate) up: bool,
    /// Without link-local ones.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Single addresses that this project routes to it.
    pub(crate) hosts: Vec<IpAddr>,
}

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
        alias(&mut actions, &bridge, found, network_alias(name, network));
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
        alias(&mut actions, &name, found, tap_alias(workload, tap));
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
        .and_then(read_tap)
        .map(|(_, tap)| tap.uid);
    link.kind.as_deref() == Some("tun") && owner == Some(wanted.uid)
}

fn alias(actions: &mut Vec<Action>, name: &str, found: Option<&Observed>, wanted: String) {
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
mod tests {
    use super::*;
    use crate::model::tests::{bridge, port};
    use proptest::prelude::*;

    /// The kernel, as far as the actions go.
    fn apply(observed: &mut Vec<Observed>, action: Action) {
        fn find<'a>(observed: &'a mut [Observed], name: &str) -> &'a mut Observed {
            let found = observed.iter_mut().find(|link| link.name == name);
            found.expect("actions name only what is there")
        }
        let new = |name: String, kind: &str| Observed {
            name,
            kind: Some(kind.into()),
            alias: None,
            master: None,
            up: false,
            addresses: vec![],
            hosts: vec![],
        };
        match action {
            Action::Delete(name) => {
                observed.retain(|link| link.name != name);
                for link in observed {
                    if link.master.as_ref() == Some(&name) {
                        link.master = None;
                    }
                }
            }
            Action::CreateBridge { name, .. } => {
                assert!(!observed.iter().any(|link| link.name == name));
                observed.push(new(name, "bridge"));
            }
            Action::CreateTap { name, .. } => {
                assert!(!observed.iter().any(|link| link.name == name));
                observed.push(new(name, "tun"));
            }
            Action::SetAlias(name, alias) => find(observed, &name).alias = Some(alias),
            Action::AddAddress(name, ip, length) => {
                find(observed, &name).addresses.push((ip, length));
            }
            Action::DeleteAddress(name, ip, length) => {
                find(observed, &name)
                    .addresses
                    .retain(|found| *found != (ip, length));
            }
            Action::Enslave { tap, bridge } => {
                find(observed, &bridge);
                find(observed, &tap).master = Some(bridge);
            }
            Action::SetUp(name) => find(observed, &name).up = true,
            Action::AddHost(name, host) => {
                let bridge = find(observed, &name);
                assert!(
                    bridge.up,
                    "the kernel refuses routes of interfaces that are off"
                );
                bridge.hosts.push(host);
            }
            Action::DeleteHost(name, host) => {
                find(observed, &name).hosts.retain(|found| *found != host);
            }
        }
    }

    fn lan() -> racklet_api::netd::Bridge {
        bridge("lan", &["10.80.0.1/24"])
    }

    fn steady() -> (Desired, Vec<Observed>) {
        let mut desired = Desired::default();
        for (workload, last) in [("web", 10), ("db", 11)] {
            let address = format!("10.80.0.{last}");
            let port = port(workload, last, &[&address]);
            desired.attach(&lan(), &port, &[]).expect("fits");
        }
        let mut observed = Vec::new();
        for action in actions(&desired, &observed) {
            apply(&mut observed, action);
        }
        (desired, observed)
    }

    #[test]
    fn a_restart_disturbs_nothing() {
        let (desired, observed) = steady();
        assert_eq!(actions(&desired, &observed), []);
    }

    #[test]
    fn a_new_address_changes_the_note_and_the_route_and_keeps_the_tap() {
        let (mut desired, observed) = steady();
        let moved = port("web", 10, &["10.80.0.99"]);
        desired.attach(&lan(), &moved, &[]).expect("fits");
        let actions = actions(&desired, &observed);
        assert!(
            matches!(
                &actions[..],
                [Action::DeleteHost(_, old), Action::AddHost(_, new), Action::SetAlias(name, _)]
                    if name == "rkt-web" && old.to_string() == "10.80.0.10" && new.to_string() == "10.80.0.99"
            ),
            "{actions:?}"
        );
    }

    #[test]
    fn another_owner_needs_another_tap() {
        let (mut desired, observed) = steady();
        let mut other = port("web", 10, &["10.80.0.10"]);
        other.uid = 7;
        desired.attach(&lan(), &other, &[]).expect("fits");
        let actions = actions(&desired, &observed);
        assert_eq!(actions[0], Action::Delete("rkt-web".into()));
        assert_eq!(
            actions[1],
            Action::CreateTap {
                name: "rkt-web".into(),
                uid: 7
            }
        );
    }

    #[test]
    fn half_made_interfaces_are_removed() {
        let (desired, mut observed) = steady();
        let half = Observed {
            name: "rkt-gone".into(),
            kind: Some("tun".into()),
            alias: None,
            master: None,
            up: false,
            addresses: vec![],
            hosts: vec![],
        };
        observed.push(half);
        assert_eq!(
            actions(&desired, &observed),
            [Action::Delete("rkt-gone".into())]
        );
    }

    proptest! {
        /// From any cut-off state (killed after any number of actions), the next run leads to the goal, and never touches
        /// the taps that were complete.
        #[test]
        fn killed_anywhere_the_next_run_completes(
            cut in 0_usize..40, edit in 0_u8..6, last in 2_u8..200, isolated: bool,
        ) {
            let (mut desired, mut observed) = steady();
            match edit {
                0 => desired.detach("web").expect("detach"),
                1 => desired.retain(&[]).expect("retain"),
                2 => {
                    let ip = format!("10.81.0.{last}");
                    let mut dmz = bridge("dmz", &["10.81.0.1/24", "fd00::1/64"]);
                    dmz.nat = !isolated;
                    desired.attach(&dmz, &port("web", last, &[&ip]), &[]).expect("fits");
                }
                3 => {
                    let ip = format!("10.80.0.{}", last.max(12));
                    desired.attach(&lan(), &port("new", 201, &[&ip]), &[]).expect("fits");
                }
                4 => {
                    let lan = bridge("lan", &["10.80.0.2/24"]);
                    desired.attach(&lan, &port("web", 10, &["10.80.0.10"]), &[]).expect("fits");
                }
                _ => {}
            }
            let db = observed.iter().find(|link| link.name == "rkt-db").cloned();
            for action in actions(&desired, &observed).into_iter().take(cut) {
                apply(&mut observed, action);
            }
            let rest = actions(&desired, &observed);
            for action in rest {
                apply(&mut observed, action);
            }
            prop_assert_eq!(actions(&desired, &observed), vec![]);
            if edit != 1 {
                prop_assert_eq!(observed.iter().find(|link| link.name == "rkt-db").cloned(), db);
            }
        }
    }
}
