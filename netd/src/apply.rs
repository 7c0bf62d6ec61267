// SPDX-License-Identifier: Apache-2.0
//! Carries decisions out: replaces the packet filter, makes the changes.
//!
//! Order matters. A rule is in force before the interface it is for is up; forwarding is switched on after the filter is
//! there and off before it goes.

use std::fs;
use std::io;

use racklet_linux::netlink::NetlinkError;
use racklet_linux::nft::{self, Table};
use racklet_linux::rtnl::Rtnl;
use racklet_linux::tap::{self, TapError};

use crate::decide::{Action, actions};
use crate::model::Desired;
use crate::observe::{self, host_route};
use crate::rules;

const USUAL_MTU: u16 = 1500;

/// Why the kernel does not have what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("list interfaces")]
    Observe(#[source] NetlinkError),
    #[error("replace the packet filter")]
    Rules(#[source] NetlinkError),
    #[error("{doing} {name}")]
    Change {
        doing: &'static str,
        name: String,
        source: NetlinkError,
    },
    #[error("make tap {0}")]
    Tap(String, #[source] TapError),
    #[error("interface {0} vanished while it was set up")]
    Vanished(String),
    #[error("set {0}")]
    Forwarding(&'static str, #[source] io::Error),
}

/// The kernel's side of networks and taps.
#[derive(Debug)]
pub(crate) struct Kernel {
    rtnl: Rtnl,
    rules: Option<[Table; 2]>,
}

impl Kernel {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        // Frames between ports of one bridge are the bridge filter's business. Absent in our own kernel.
        for family in ["iptables", "ip6tables", "arptables"] {
            let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
        }
        Ok(Self {
            rtnl: Rtnl::open()?,
            rules: None,
        })
    }

    /// What an earlier netd was told, as it stands in the kernel.
    pub(crate) fn remembered(&mut self) -> Result<Desired, ApplyError> {
        let found = observe::observe(&mut self.rtnl).map_err(ApplyError::Observe)?;
        Ok(observe::remembered(&found))
    }

    /// Makes the kernel have what is desired; gives what was changed. New taps get this MTU.
    pub(crate) fn apply(&mut self, desired: &Desired, mtu: u16) -> Result<Vec<Action>, ApplyError> {
        let forwards = |v4: bool| {
            let mut networks = desired.networks.values().filter(|network| network.nat);
            networks.any(|network| network.gateways.iter().any(|g| g.address.is_ipv4() == v4))
        };
        let (v4, v6) = (forwards(true), forwards(false));
        forwarding(V4_FORWARDING, v4, false)?;
        forwarding(V6_FORWARDING, v6, false)?;
        let tables = rules::tables(desired);
        if self.rules.as_ref() != Some(&tables) {
            nft::replace(&tables).map_err(ApplyError::Rules)?;
            self.rules = Some(tables);
        }
        let found = observe::observe(&mut self.rtnl).map_err(ApplyError::Observe)?;
        let changes = actions(desired, &found);
        for action in &changes {
            self.change(action, mtu)?;
        }
        forwarding(V4_FORWARDING, v4, true)?;
        forwarding(V6_FORWARDING, v6, true)?;
        Ok(changes)
    }

    fn index(&mut self, name: &str) -> Result<u32, ApplyError> {
        let link = self.rtnl.link(name).map_err(ApplyError::Observe)?;
        link.map(|link| link.index)
            .ok_or_else(|| ApplyError::Vanished(name.to_owned()))
    }

    fn change(&mut self, action: &Action, mtu: u16) -> Result<(), ApplyError> {
        let (doing, name, result) = match action {
            Action::Delete(name) => {
                let index = self.index(name)?;
                ("delete", name, self.rtnl.delete_link(index))
            }
            Action::CreateBridge { name, mac } => {
                let result = self.rtnl.create_bridge(name, *mac);
                if result.is_ok() {
                    // A workload is no router for the tray, and no packet with a foreign source comes from here.
                    for (file, value) in [
                        (format!("ipv6/conf/{name}/accept_ra"), "0"),
                        (format!("ipv6/conf/{name}/autoconf"), "0"),
                        (format!("ipv4/conf/{name}/rp_filter"), "1"),
                    ] {
                        let _ = fs::write(format!("/proc/sys/net/{file}"), value);
                    }
                }
                ("make bridge", name, result)
            }
            Action::CreateTap { name, uid } => {
                tap::create(name, *uid).map_err(|error| ApplyError::Tap(name.clone(), error))?;
                let index = self.index(name)?;
                // A tap is a port and no place to speak IP or ARP: the bridge passes frames to reserved group addresses
                // to it without a look at the filter.
                for (file, value) in [
                    (format!("ipv6/conf/{name}/disable_ipv6"), "1"),
                    (format!("ipv4/conf/{name}/arp_ignore"), "8"),
                ] {
                    let _ = fs::write(format!("/proc/sys/net/{file}"), value);
                }
                let result = if mtu == USUAL_MTU {
                    Ok(())
                } else {
                    self.rtnl.set_mtu(index, u32::from(mtu))
                };
                ("set the MTU of", name, result)
            }
            Action::SetAlias(name, alias) => {
                let index = self.index(name)?;
                ("leave a note on", name, self.rtnl.set_alias(index, alias))
            }
            Action::AddAddress(name, address, length) => {
                let index = self.index(name)?;
                let result = self.rtnl.add_address(index, *address, *length);
                ("add an address to", name, result)
            }
            Action::DeleteAddress(name, address, length) => {
                let index = self.index(name)?;
                let result = self.rtnl.delete_address(index, *address, *length);
                ("take an address from", name, result)
            }
            Action::Enslave { tap, bridge } => {
                let (port, bridge) = (self.index(tap)?, self.index(bridge)?);
                let result = self
                    .rtnl
                    .set_master(port, Some(bridge))
                    .and_then(|()| self.rtnl.guard_port(port));
                ("attach to its bridge", tap, result)
            }
            Action::SetUp(name) => {
                let index = self.index(name)?;
                ("switch on", name, self.rtnl.set_up(index, true))
            }
            Action::AddHost(name, host) => {
                let route = host_route(self.index(name)?, *host);
                ("route a guest to", name, self.rtnl.set_route(&route))
            }
            Action::DeleteHost(name, host) => {
                let route = host_route(self.index(name)?, *host);
                ("take a route from", name, self.rtnl.delete_route(&route))
            }
        };
        result.map_err(|source| ApplyError::Change {
            doing,
            name: name.clone(),
            source,
        })
    }
}

const V4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const V6_FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Switches forwarding to what is wanted, if that is the `turn`'s direction. Writing has side effects, so it is done on a
/// change only.
fn forwarding(file: &'static str, wanted: bool, turn: bool) -> Result<(), ApplyError> {
    if wanted != turn {
        return Ok(());
    }
    let value = if wanted { "1" } else { "0" };
    match fs::read_to_string(file) {
        Ok(present) if present.trim() == value => Ok(()),
        // No IPv6 in this kernel: nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !wanted => Ok(()),
        _ => fs::write(file, value).map_err(|error| ApplyError::Forwarding(file, error)),
    }
}
