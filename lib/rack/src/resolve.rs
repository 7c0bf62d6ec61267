// SPDX-License-Identifier: Apache-2.0
//! What one tray has to do, out of what the whole rack asks for.

use super::kind::network::Network;
use super::kind::workload::Workload;
use super::state::{Pin, RackState};
use super::values::{Memory, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The desired state of one tray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrayDesired {
    /// The tray.
    pub tray: Name,
    /// How much memory it is said to have.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// How many percent of its memory for workloads may be promised to them; 100 where it does not say.
    #[serde(default)]
    pub overcommit: Option<u32>,
    /// The operating system it boots; `None`: whatever it has.
    pub release: Option<Pin>,
    /// What the boot partition starts first; `None`: whatever it has.
    #[serde(default)]
    pub bootstrap: Option<Pin>,
    /// Networks its workloads are in.
    pub networks: BTreeMap<Name, Network>,
    /// Workloads placed on it.
    pub workloads: BTreeMap<Name, Workload>,
    /// How often it looks for new commits.
    pub poll: Duration,
    /// The longest wait before it reboots into a new release.
    pub reboot_wait: Duration,
}

/// The repository has no such tray.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rack has no tray {0}: add trays/{0}.yaml to the rack repository")]
pub struct UnknownTray(pub Name);

/// Picks out what concerns `tray`.
pub fn resolve(state: &RackState, tray: &Name) -> Result<TrayDesired, UnknownTray> {
    let Some(found) = state.trays.get(tray) else {
        return Err(UnknownTray(tray.clone()));
    };
    let workloads: BTreeMap<Name, Workload> = state
        .workloads
        .iter()
        .filter(|(_, workload)| workload.tray == *tray)
        .map(|(name, workload)| (name.clone(), workload.clone()))
        .collect();
    let networks = workloads
        .values()
        .filter_map(|workload| workload.network.as_ref())
        .filter_map(|attachment| {
            let network = state.networks.get(&attachment.name)?;
            Some((attachment.name.clone(), network.clone()))
        })
        .collect();
    Ok(TrayDesired {
        tray: tray.clone(),
        memory: found.memory,
        overcommit: found.overcommit,
        release: state
            .release_of(tray)
            .map(|release| release.payload.clone()),
        bootstrap: state
            .release_of(tray)
            .and_then(|release| release.bootstrap.clone()),
        networks,
        workloads,
        poll: state.poll,
        reboot_wait: state.reboot_wait,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_tray_gets_only_what_concerns_it() {
        let mut files = good();
        files.insert("trays/tray-2.yaml".into(), TRAY.replace("tray-1", "tray-2"));
        let state = state(&files);
        let one = resolve(&state, &name("tray-1")).expect("exists");
        let two = resolve(&state, &name("tray-2")).expect("exists");
        assert_eq!((one.workloads.len(), one.networks.len()), (1, 1));
        assert_eq!((two.workloads.len(), two.networks.len()), (0, 0));
        assert!(two.release.is_some());
        assert!(resolve(&state, &name("tray-3")).is_err());
    }
}
