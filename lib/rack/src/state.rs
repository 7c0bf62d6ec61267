// SPDX-License-Identifier: Apache-2.0
//! A checked rack: what the repository says, with every reference resolved. Only [`super::load`] makes one.

pub use super::object::{Kernel, RestartPolicy, User};
use super::problem::Problem;
use super::values::{ManifestDigest, Memory, Name, Prefix, RackId, RepositoryUrl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Everything the rack repository asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RackState {
    /// The rack's name.
    pub name: Name,
    /// The rack's identity; the caller compares it with the trust root.
    pub id: RackId,
    /// How often a tray looks for new commits.
    pub poll: Duration,
    /// The longest wait before a tray reboots into a new release.
    pub reboot_wait: Duration,
    /// Trays by name.
    pub trays: BTreeMap<Name, Tray>,
    /// Releases by name.
    pub releases: BTreeMap<Name, Release>,
    /// Networks by name.
    pub networks: BTreeMap<Name, Network>,
    /// Workloads by name.
    pub workloads: BTreeMap<Name, Workload>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// One tray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tray {
    /// The board it is built on.
    pub board: String,
    /// How much memory it is said to have.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// How many processors it is said to have.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Its public key, `ssh-ed25519 AAAA…`.
    pub identity: Option<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The release that covers it, if any.
    pub release: Option<Name>,
}

/// One operating system release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// What is booted.
    pub payload: Pin,
    /// The trays that boot it.
    pub trays: Vec<Name>,
}

/// A payload or artifact: where it is and the digest that names exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Its name; the branch is `payload/<name>` or `artifact/<name>`.
    pub name: Name,
    /// SHA-256 of its manifest.
    pub manifest: ManifestDigest,
    /// Where it is; the rack repository when `None`.
    pub repository: Option<RepositoryUrl>,
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

/// One virtual machine with one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The tray it is placed on.
    pub tray: Name,
    /// Which kernel it boots.
    pub kernel: Kernel,
    /// Its root file system.
    pub rootfs: Pin,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Memory,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Where the program starts.
    pub working_dir: String,
    /// Whom it runs as.
    pub user: User,
    /// Bound of what is written over the root file system.
    pub overlay: Memory,
    /// Seconds between the polite and the forced end.
    pub grace_seconds: u32,
    /// Its place in a network.
    pub network: Option<Attachment>,
    /// When the command is started again.
    pub restart_policy: RestartPolicy,
    /// How long to wait between restarts.
    pub backoff: Backoff,
}

/// A workload's place in a network; it has an address of every family the network has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The network.
    pub name: Name,
    /// IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// IPv6 address.
    pub address6: Option<Ipv6Addr>,
}

/// Doubling waits between restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first wait in seconds.
    pub initial_seconds: u32,
    /// The longest wait in seconds.
    pub max_seconds: u32,
}

impl RackState {
    /// The release that covers `tray`.
    #[must_use]
    pub fn release_of(&self, tray: &Name) -> Option<&Release> {
        self.releases.get(self.trays.get(tray)?.release.as_ref()?)
    }
}
