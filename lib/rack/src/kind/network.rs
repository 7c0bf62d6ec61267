// SPDX-License-Identifier: Apache-2.0
//! `Network`: the same bridge on every tray that runs a workload in it.

use super::{Kind, Parsed, Place, Spec};
use crate::located::Located;
use crate::report::Report;
use crate::subnet;
use crate::values::Prefix;
use serde::{Deserialize, Serialize};

impl Spec for NetworkSpec {
    const KIND: Kind = Kind {
        name: "Network",
        noun: "network",
        place: Place::Folder("networks"),
        about: "what workloads are connected to",
    };
}

/// One network, a bridge on every tray that runs a workload in it: `networks/<name>.yaml`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NetworkSpec {
    /// IPv4 prefix, for example `10.80.0.0/24`.
    #[serde(default)]
    pub(crate) ipv4: Option<Located<Prefix>>,
    /// IPv6 prefix, for example `fd00:80::/64`.
    #[serde(default)]
    pub(crate) ipv6: Option<Located<Prefix>>,
    /// Whether workloads reach the outside through the tray's address; true when left out.
    #[serde(default)]
    pub(crate) nat: Option<bool>,
}

impl NetworkSpec {
    /// What it has, with the name of the field and whether that is IPv4's.
    fn given(&self) -> impl Iterator<Item = (&'static str, &Located<Prefix>, bool)> {
        let (v4, v6) = (self.ipv4.as_ref(), self.ipv6.as_ref());
        let v4 = v4.map(|prefix| ("ipv4", prefix, true));
        v4.into_iter()
            .chain(v6.map(|prefix| ("ipv6", prefix, false)))
    }

    /// What may be compared with other networks, with the name of the field.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (&'static str, &Located<Prefix>)> {
        self.given()
            .filter(|(_, prefix, v4)| prefix.value.address().is_ipv4() == *v4)
            .map(|(field, prefix, _)| (field, prefix))
    }
}

/// One network: the same bridge on every tray that needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// IPv4 prefix; its first host is the gateway.
    pub ipv4: Option<Prefix>,
    /// IPv6 prefix; its first host is the gateway.
    pub ipv6: Option<Prefix>,
    /// Whether workloads reach the outside through the tray's address.
    pub nat: bool,
}

pub(crate) fn check(parsed: &Parsed<NetworkSpec>, report: &mut Report<'_>) -> Network {
    let file = &parsed.file;
    let spec = &parsed.object.spec;
    if spec.given().next().is_none() {
        report.fault(file, parsed.name().at, "spec: give `ipv4`, `ipv6` or both");
    }
    for (field, Located { at, value }, v4) in spec.given() {
        if value.address().is_ipv4() != v4 {
            let message = format!("spec.{field}: {value} is of the other address family");
            report.fault(file, *at, message);
        } else if let Err(why) = subnet::check(value.address(), value.length()) {
            report.fault(file, *at, format!("spec.{field}: {value}: {why}"));
        }
    }
    Network {
        ipv4: spec.ipv4.as_ref().map(|prefix| prefix.value),
        ipv6: spec.ipv6.as_ref().map(|prefix| prefix.value),
        nat: spec.nat.unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{edited, refused};

    #[test]
    fn what_a_network_cannot_say_is_refused_with_place_and_remedy() {
        refused(
            "networks/lan.yaml",
            &[
                (
                    "10.80.0.0/24",
                    "10.80.0.1/24",
                    "networks/lan.yaml:5:9: spec.ipv4: `10.80.0.1/24` has bits set behind its prefix: did you mean 10.80.0.0/24?",
                ),
                (
                    "ipv4: 10.80.0.0/24",
                    "ipv6: 10.80.0.0/24",
                    "networks/lan.yaml:5:9: spec.ipv6: 10.80.0.0/24 is of the other address family",
                ),
            ],
        );
    }

    #[test]
    fn networks_that_a_tray_would_refuse_are_refused_here() {
        for bad in [
            "127.0.0.0/8",
            "224.0.0.0/8",
            "169.254.0.0/16",
            "0.0.0.0/8",
            "10.80.0.0/+24",
        ] {
            let said = edited("networks/lan.yaml", "10.80.0.0/24", bad);
            assert!(said.contains("networks/lan.yaml:5:"), "{bad}: {said}");
        }
        let said = edited("networks/lan.yaml", "ipv4: 10.80.0.0/24", "ipv6: fe80::/64");
        assert!(said.contains("fe80::/10"), "{said}");
    }
}
