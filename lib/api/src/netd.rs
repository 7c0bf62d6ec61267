// SPDX-License-Identifier: Apache-2.0
//! What `netd` answers on `/run/racklet/netd.sock`: networks of workloads, taps, and how the tray itself is connected.
//!
//! One request and one answer per line (`racklet-line`). Every request may be repeated: it says what should be, and an
//! answer means that it is. So the hypervisor asks again after either side was restarted, and nothing is undone by that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::V1;
use crate::tray::Cidr;
use crate::vmm::Mac;

/// Where `netd` listens.
pub const SOCKET: &str = "/run/racklet/netd.sock";

/// A request with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Always 1.
    pub v: V1,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

impl Request {
    /// A request of this version.
    pub fn new(op: Op) -> Self {
        Self { v: V1, op }
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Op {
    /// How things are.
    Status,
    /// There is to be this network (a bridge) and in it this workload's tap; whatever differs is changed.
    Attach {
        /// The network.
        network: Bridge,
        /// The workload's way into it.
        port: Port,
    },
    /// The workload is to have no tap.
    Detach {
        /// The workload's name.
        workload: String,
    },
    /// Networks other than these are removed, with the taps in them.
    Retain {
        /// Names of networks.
        networks: Vec<String>,
    },
}

/// A network as a tray has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Its name in the rack repository.
    pub name: String,
    /// The tray's own addresses in it, at most one per family: the workloads' gateways.
    pub gateways: Vec<Cidr>,
    /// Whether workloads reach the outside through the tray's own address.
    pub nat: bool,
}

/// A workload's tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The workload's name.
    pub workload: String,
    /// The guest's hardware address.
    pub mac: Mac,
    /// The guest's addresses: it may use no others.
    pub addresses: Vec<IpAddr>,
    /// Who may open the tap.
    pub uid: u32,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Always 1.
    pub v: V1,
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer to [`Op::Attach`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
    /// The answer to [`Op::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
}

impl Response {
    /// Done.
    pub fn done() -> Self {
        Self {
            v: V1,
            ok: true,
            error: None,
            attached: None,
            status: None,
        }
    }

    /// Refused, with the reason.
    pub fn refused(reason: impl ToString) -> Self {
        Self {
            ok: false,
            error: Some(reason.to_string()),
            ..Self::done()
        }
    }
}

/// What a monitor and its guest need to know of a tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The device's name.
    pub tap: String,
    /// Bytes of IP packet per frame.
    pub mtu: u16,
    /// Name servers that the guest can reach.
    pub dns: Vec<IpAddr>,
}

/// How the tray is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The tray's own cards and the bridges, by device name.
    pub links: BTreeMap<String, Link>,
    /// Default gateways in use.
    pub gateways: Vec<IpAddr>,
    /// Name servers in use.
    pub dns: Vec<IpAddr>,
    /// Workloads and their taps.
    pub taps: BTreeMap<String, String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Whether it can carry frames.
    pub up: bool,
    /// The network it is the bridge of, if it is one.
    pub network: Option<String>,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_documented() {
        let attach = Op::Attach {
            network: Bridge {
                name: "lan".into(),
                gateways: vec!["10.80.0.1/24".parse().expect("an address")],
                nat: true,
            },
            port: Port {
                workload: "web".into(),
                mac: "02:52:4b:00:00:01".parse().expect("a hardware address"),
                addresses: vec!["10.80.0.10".parse().expect("an address")],
                uid: 7,
            },
        };
        for (op, json) in [
            (Op::Status, r#"{"v":1,"op":"status"}"#),
            (
                attach,
                r#"{"v":1,"op":"attach","network":{"name":"lan","gateways":["10.80.0.1/24"],"nat":true},"port":{"workload":"web","mac":"02:52:4b:00:00:01","addresses":["10.80.0.10"],"uid":7}}"#,
            ),
            (
                Op::Detach {
                    workload: "web".into(),
                },
                r#"{"v":1,"op":"detach","workload":"web"}"#,
            ),
            (
                Op::Retain {
                    networks: vec!["lan".into()],
                },
                r#"{"v":1,"op":"retain","networks":["lan"]}"#,
            ),
        ] {
            let request = Request::new(op);
            assert_eq!(serde_json::to_string(&request).expect("serialises"), json);
            assert_eq!(
                serde_json::from_str::<Request>(json).expect("parses"),
                request
            );
        }
    }
}
