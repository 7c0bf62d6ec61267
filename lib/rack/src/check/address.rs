// SPDX-License-Identifier: Apache-2.0
//! Which workload has which address in its network.

use super::workload::mix;
use crate::kind::Parsed;
use crate::kind::Spec;
use crate::kind::network::{Network, NetworkSpec};
use crate::kind::workload::{Attachment, AttachmentSpec, MicroVmSpec};
use crate::report::Report;
use crate::values::{Name, Prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The workload that has an address, by network and address.
pub(super) struct Addresses<'n> {
    networks: &'n BTreeMap<Name, Network>,
    taken: BTreeMap<(Name, IpAddr), Name>,
}

impl<'n> Addresses<'n> {
    /// The addresses that workloads ask for; these are taken before any is chosen.
    pub(super) fn fixed(
        found: &[Parsed<MicroVmSpec>],
        networks: &'n BTreeMap<Name, Network>,
        report: &mut Report<'_>,
    ) -> Self {
        let mut addresses = Self {
            networks,
            taken: BTreeMap::new(),
        };
        for parsed in found {
            let Some(wanted) = &parsed.object.spec.network else {
                continue;
            };
            let v4 = wanted.address.as_ref().map(|a| (a.at, a.value.into()));
            let v6 = wanted.address6.as_ref().map(|a| (a.at, a.value.into()));
            for (at, address) in v4.into_iter().chain(v6) {
                let claimed = addresses.claim(&wanted.name.value, address, &parsed.name().value);
                if let Err(message) = claimed {
                    report.fault(&parsed.file, at, format!("spec.network: {message}"));
                }
            }
        }
        addresses
    }

    fn claim(&mut self, network: &Name, address: IpAddr, workload: &Name) -> Result<(), String> {
        // A missing network is reported where the workload is read.
        let Some(found) = self.networks.get(network) else {
            return Ok(());
        };
        let prefix = if address.is_ipv4() {
            found.ipv4
        } else {
            found.ipv6
        };
        let Some(prefix) = prefix else {
            return Err(format!("network {network} has no addresses of this family"));
        };
        if !prefix.is_host(address) {
            return Err(format!(
                "{address} is not a usable address of network {network} ({prefix})"
            ));
        }
        if prefix.nth(1) == Some(address) {
            return Err(format!(
                "{address} is the gateway of network {network}: choose another"
            ));
        }
        match self
            .taken
            .insert((network.clone(), address), workload.clone())
        {
            Some(other) => Err(format!(
                "workload {other} has the address {address} as well"
            )),
            None => Ok(()),
        }
    }

    /// The workload's place in its network, with an address of every family that the network has.
    pub(super) fn attach(
        &mut self,
        parsed: &Parsed<MicroVmSpec>,
        wanted: &AttachmentSpec,
        report: &mut Report<'_>,
    ) -> Option<Attachment> {
        let name = &wanted.name.value;
        let Some(network) = self.networks.get(name) else {
            report.unknown(
                &parsed.file,
                &wanted.name,
                &NetworkSpec::KIND,
                self.networks.keys(),
            );
            return None;
        };
        let mut choose = |prefix: Prefix| {
            let chosen = self.choose(name, &prefix, &parsed.name().value);
            if chosen.is_none() {
                let message = format!("spec.network: network {name} has no free address");
                report.fault(&parsed.file, wanted.name.at, message);
            }
            chosen
        };
        let v4 = wanted.address.as_ref().map(|fixed| fixed.value);
        let v4 = v4.or_else(|| match choose(network.ipv4?)? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let v6 = wanted.address6.as_ref().map(|fixed| fixed.value);
        let v6 = v6.or_else(|| match choose(network.ipv6?)? {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        Some(Attachment {
            name: name.clone(),
            address: v4,
            address6: v6,
        })
    }

    /// A free address: the same for the same names, and moved by another workload only when both want the same one.
    fn choose(&mut self, network: &Name, prefix: &Prefix, workload: &Name) -> Option<IpAddr> {
        // The first host is the gateway's.
        let free = u64::from(prefix.hosts().checked_sub(1)?);
        let start = mix(&[network.as_str(), workload.as_str()]) % free.max(1);
        (0..free.min(1 << 16))
            .filter_map(|step| prefix.nth(2 + (start + step) % free))
            .find(|address| !self.taken.contains_key(&(network.clone(), *address)))
            .inspect(|address| {
                self.taken
                    .insert((network.clone(), *address), workload.clone());
            })
    }
}
