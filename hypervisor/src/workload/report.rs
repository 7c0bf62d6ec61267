// SPDX-License-Identifier: Apache-2.0
//! What the API says about workloads.

use super::decide::{Step, decide};
use super::record::{Plan, Record, State};
use super::runner::Runner;
use racklet_api::hypervisor::{Phase, WorkloadState};
use racklet_api::vmm::{VmState, VmStatus};
use racklet_rack::Name;
use std::collections::BTreeSet;

/// All workloads, and whether each is as it should be.
pub(crate) struct Report {
    pub(crate) workloads: Vec<WorkloadState>,
    pub(crate) converged: bool,
}

impl Runner {
    pub(crate) fn report(&self, now: u64) -> Report {
        let mut names: BTreeSet<&Name> = self.known.keys().collect();
        names.extend(self.desired.iter().flat_map(|d| d.keys()));
        let workloads: Vec<WorkloadState> = names
            .into_iter()
            .map(|name| self.describe(name, now))
            .collect();
        let settled =
            |w: &WorkloadState| w.current && matches!(w.phase, Phase::Running | Phase::Ended);
        let converged = self.desired.is_some() && workloads.iter().all(settled);
        Report {
            workloads,
            converged,
        }
    }

    fn describe(&self, name: &Name, now: u64) -> WorkloadState {
        let wanted = self.desired.as_ref().and_then(|d| d.get(name));
        let record = self.known.get(name);
        let missing = wanted.and_then(|plan| self.missing(name, plan));
        let current = match (wanted, record) {
            (Some(plan), Some(record)) => plan.spec() == record.plan.spec(),
            _ => false,
        };
        let (phase, own) = match record {
            None => (Phase::Pending, None),
            Some(record) => self.phase(name, wanted, record, now),
        };
        // What a change waits for is more interesting than what the old one does.
        let message = if current {
            own.or(missing)
        } else {
            missing.or(own)
        };
        let plan = record.map(|record| &record.plan).or(wanted);
        let attachment = plan.and_then(|plan| plan.workload.network.as_ref());
        let v4 = attachment.and_then(|a| a.address).map(|a| a.to_string());
        let v6 = attachment.and_then(|a| a.address6).map(|a| a.to_string());
        WorkloadState {
            name: name.to_string(),
            phase,
            current,
            message,
            age: record.map(|record| now.saturating_sub(record.started) / 1000),
            restarts: record.map_or(0, |record| record.restarts),
            exit_code: record.and_then(|record| match record.state {
                State::Ended { exit_code, .. } => exit_code,
                _ => None,
            }),
            pid: record.and_then(Record::process).map(|process| process.pid),
            addresses: v4.into_iter().chain(v6).collect(),
            rootfs: plan
                .map(|plan| plan.workload.rootfs.manifest.hex())
                .unwrap_or_default(),
        }
    }

    fn phase(
        &self,
        name: &Name,
        wanted: Option<&Plan>,
        record: &Record,
        now: u64,
    ) -> (Phase, Option<String>) {
        match &record.state {
            State::Launching => (Phase::Starting, None),
            State::Running { .. } => match self.status(name) {
                Some(status) if status.state == VmState::Up => (Phase::Running, lacks(&status)),
                _ => (Phase::Starting, None),
            },
            State::Stopping { .. } | State::Killing { .. } => (Phase::Stopping, None),
            State::Ended { message, .. } => {
                let wanted = wanted.map(|plan| super::decide::Wanted {
                    spec: plan.spec(),
                    rules: plan.rules(),
                    ready: self.missing(name, plan).is_none(),
                });
                match decide(wanted.as_ref(), Some(&record.seen()), now) {
                    Step::Wait(until) => {
                        let left = until.saturating_sub(now).div_ceil(1000);
                        (
                            Phase::BackOff,
                            Some(format!("{message}; starts again in {left} s")),
                        )
                    }
                    Step::Rest if wanted.as_ref().is_some_and(|w| w.ready) => {
                        (Phase::Ended, Some(message.clone()))
                    }
                    _ => (Phase::Pending, Some(message.clone())),
                }
            }
        }
    }
}

/// What a monitor lacks of its confinement, if anything.
fn lacks(status: &VmStatus) -> Option<String> {
    (!status.lacks.is_empty()).then(|| format!("less confined: {}", status.lacks.join("; ")))
}
