// SPDX-License-Identifier: Apache-2.0
//! A checked rack: what the repository says, with every reference resolved. Only [`super::load`] makes one.

use super::kind::network::Network;
use super::kind::release::Release;
use super::kind::tray::Tray;
use super::kind::workload::Workload;
use super::problem::Problem;
use super::values::{ManifestDigest, Name, RackId, RepositoryUrl};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// A payload, artifact or bootstrap: where it is and the digest that names exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Its name; the branch is `payload/<name>`, `artifact/<name>` or `bootstrap/<name>`.
    pub name: Name,
    /// SHA-256 of its manifest.
    pub manifest: ManifestDigest,
    /// Where it is; the rack repository when `None`.
    pub repository: Option<RepositoryUrl>,
}

impl RackState {
    /// The release that covers `tray`.
    #[must_use]
    pub fn release_of(&self, tray: &Name) -> Option<&Release> {
        self.releases.get(self.trays.get(tray)?.release.as_ref()?)
    }
}
