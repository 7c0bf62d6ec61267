// SPDX-License-Identifier: Apache-2.0
//! The same facts as `/v1/state`, as OpenMetrics text.

use crate::sensors::Sensors;
use racklet_api::hypervisor::{Phase, State};
use racklet_api::init::StateStatus;
use racklet_api::vmm::metrics::{self, VmMetrics};
pub(super) use racklet_tell::metrics::KIND;
use racklet_tell::metrics::Page;
use std::collections::BTreeMap;

/// Counters that a state does not hold.
pub(super) struct Counters {
    pub(super) looks: BTreeMap<&'static str, u64>,
    pub(super) received: u64,
    /// Resident memory of this process in bytes.
    pub(super) memory: Option<u64>,
    /// What the board says of itself.
    pub(super) sensors: Sensors,
    /// What each monitor that answered in time has counted, by its workload's name.
    pub(super) monitors: Vec<(String, VmMetrics)>,
}

pub(super) fn render(state: &State, counters: &Counters) -> String {
    let mut out = Page::default();
    out.family("racklet_tray", "info", "Which tray this is.");
    out.sample(
        "racklet_tray_info",
        &[("tray", &state.tray), ("rack", &state.rack)],
        1,
    );
    out.family(
        "racklet_uptime_seconds",
        "gauge",
        "Seconds since the kernel started.",
    );
    out.sample("racklet_uptime_seconds", &[], state.uptime);
    out.family(
        "racklet_converged",
        "gauge",
        "1 when the newest commit is in force and everything it asks for is the case.",
    );
    out.sample("racklet_converged", &[], u64::from(state.converged));
    if let Some(head) = &state.head {
        out.family("racklet_head", "info", "The commit in force.");
        out.sample("racklet_head_info", &[("commit", &head.commit)], 1);
        out.family(
            "racklet_head_generation",
            "gauge",
            "Accepted commits up to the one in force.",
        );
        out.sample("racklet_head_generation", &[], head.generation);
    }
    out.family(
        "racklet_rejected",
        "gauge",
        "1 while the newest commit is refused; the label says why.",
    );
    match &state.rejected {
        None => out.sample("racklet_rejected", &[("commit", ""), ("reason", "")], 0),
        Some(rejected) => {
            let commit = rejected.commit.as_deref().unwrap_or_default();
            out.sample(
                "racklet_rejected",
                &[("commit", commit), ("reason", &rejected.reason)],
                1,
            );
        }
    }
    out.family(
        "racklet_looks",
        "counter",
        "Looks at the rack repository, by how they ended.",
    );
    for (result, count) in &counters.looks {
        out.sample("racklet_looks_total", &[("result", result)], *count);
    }
    out.family(
        "racklet_received_bytes",
        "counter",
        "Bytes received from Git servers.",
    );
    out.sample("racklet_received_bytes_total", &[], counters.received);
    if let Some(reached) = state.repository.reached {
        out.family(
            "racklet_repository_reached_timestamp_seconds",
            "gauge",
            "When the rack repository last answered.",
        );
        out.sample("racklet_repository_reached_timestamp_seconds", &[], reached);
    }
    out.family(
        "racklet_release_current",
        "gauge",
        "1 when the operating system is the one the rack repository pins.",
    );
    let manifest = [("manifest", state.release.manifest.as_str())];
    out.sample(
        "racklet_release_current",
        &manifest,
        u64::from(state.release.wanted.is_none()),
    );
    if let Some(bootstrap) = &state.bootstrap {
        out.family(
            "racklet_bootstrap_current",
            "gauge",
            "1 when the bootstrap is the one the rack repository pins, or none is pinned.",
        );
        let slot = [("slot", bootstrap.slot.as_str())];
        let current = u64::from(bootstrap.wanted.is_none());
        out.sample("racklet_bootstrap_current", &slot, current);
    }
    out.family(
        "racklet_workload_phase",
        "stateset",
        "What each workload is doing.",
    );
    for workload in &state.workloads {
        for (phase, name) in PHASES {
            let labels = [
                ("workload", workload.name.as_str()),
                ("racklet_workload_phase", name),
            ];
            out.sample(
                "racklet_workload_phase",
                &labels,
                u64::from(workload.phase == phase),
            );
        }
    }
    out.family(
        "racklet_workload_restarts",
        "counter",
        "How often a workload was started again after it ended by itself.",
    );
    for workload in &state.workloads {
        out.sample(
            "racklet_workload_restarts_total",
            &[("workload", &workload.name)],
            workload.restarts,
        );
    }
    if let Some(memory) = state.memory {
        out.family(
            "racklet_memory_total_bytes",
            "gauge",
            "Memory of the tray that its kernel manages.",
        );
        out.sample("racklet_memory_total_bytes", &[], memory.total);
        out.family(
            "racklet_memory_used_bytes",
            "gauge",
            "Memory of the tray that is not available to programs.",
        );
        let used = memory.total.saturating_sub(memory.available);
        out.sample("racklet_memory_used_bytes", &[], used);
    }
    sensor_families(&mut out, &counters.sensors);
    if let Some(card) = &state.state {
        state_families(&mut out, card);
    }
    if let Some(memory) = counters.memory {
        out.family(
            "process_resident_memory_bytes",
            "gauge",
            "Memory of the hypervisor daemon.",
        );
        out.sample("process_resident_memory_bytes", &[], memory);
    }
    let monitors = counters.monitors.iter();
    let monitors: Vec<_> = monitors.map(|(name, of)| (name.as_str(), of)).collect();
    metrics::write(&mut out, "workload", &monitors);
    out.finish()
}

/// What the board has sensors for.
fn sensor_families(out: &mut Page, sensors: &Sensors) {
    if !sensors.temperatures.is_empty() {
        let name = "racklet_temperature_celsius";
        out.family(name, "gauge", "Temperatures of the board, by zone.");
        for zone in &sensors.temperatures {
            let labels = [("zone", &*zone.place), ("name", &*zone.name)];
            // No precision is lost: a float has 53 bits.
            out.sample(name, &labels, zone.value as f64 / 1000.0);
        }
    }
    if !sensors.supplies.is_empty() {
        let name = "racklet_supply_low";
        let help = "1 while a supply is, or was a moment ago, below what the board needs.";
        out.family(name, "gauge", help);
        for supply in &sensors.supplies {
            let labels = [("supply", &*supply.place), ("name", &*supply.name)];
            out.sample(name, &labels, u64::from(supply.value != 0));
        }
    }
}

/// Where the tray keeps what it must remember.
fn state_families(out: &mut Page, state: &StateStatus) {
    out.family(
        "racklet_state_persistent",
        "gauge",
        "1 when what is written is there after a reboot; the label says why not.",
    );
    let reason = [("reason", state.reason.as_deref().unwrap_or_default())];
    out.sample(
        "racklet_state_persistent",
        &reason,
        u64::from(state.persistent),
    );
    for (name, help, value) in [
        (
            "racklet_state_read_only",
            "1 when the card takes no writes and changes are in memory.",
            u64::from(state.read_only),
        ),
        (
            "racklet_state_free_bytes",
            "Bytes that can still be written.",
            state.free,
        ),
        (
            "racklet_state_total_bytes",
            "Bytes of the whole file system.",
            state.total,
        ),
        (
            "racklet_state_errors",
            "Failed writes since the start, and errors the file system has counted since it was made.",
            state.errors,
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &[], value);
    }
    if let Some(used) = state.life_used {
        let name = "racklet_state_life_used_percent";
        out.family(
            name,
            "gauge",
            "How much of its life the card says it has used.",
        );
        out.sample(name, &[], u64::from(used));
    }
}

const PHASES: [(Phase, &str); 6] = [
    (Phase::Pending, "pending"),
    (Phase::Starting, "starting"),
    (Phase::Running, "running"),
    (Phase::Stopping, "stopping"),
    (Phase::BackOff, "back-off"),
    (Phase::Ended, "ended"),
];

/// Resident memory from /proc/self/statm, in bytes.
pub(super) fn own_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::routes::tests::state;
    use super::*;
    use crate::sensors::Reading;
    use racklet_api::hypervisor::MemoryState;

    #[test]
    fn every_sample_belongs_to_a_declared_family_and_the_text_ends() {
        let reading = |place: &str, name: &str, value| Reading {
            place: place.into(),
            name: name.into(),
            value,
        };
        let counters = Counters {
            looks: [("unchanged", 3)].into(),
            received: 9,
            memory: own_memory(),
            sensors: Sensors {
                temperatures: vec![
                    reading("thermal_zone0", "cpu", 48_312),
                    reading("thermal_zone1", "cpu", -500),
                ],
                supplies: vec![reading("hwmon1", "rpi_volt", 1)],
            },
            monitors: Vec::new(),
        };
        let state = State {
            memory: Some(MemoryState {
                total: 900,
                available: 700,
            }),
            state: Some(StateStatus {
                read_only: true,
                reason: Some("the card takes no writes".into()),
                errors: 3,
                life_used: Some(90),
                ..StateStatus::default()
            }),
            ..state()
        };
        let text = render(&state, &counters);
        assert!(text.ends_with("# EOF\n"));
        assert!(
            text.contains("\nracklet_memory_total_bytes 900\n")
                && text.contains("\nracklet_memory_used_bytes 200\n"),
            "{text}"
        );
        for line in [
            "racklet_state_persistent{reason=\"the card takes no writes\"} 0",
            "racklet_state_read_only 1",
            "racklet_state_errors 3",
            "racklet_state_life_used_percent 90",
            "racklet_temperature_celsius{zone=\"thermal_zone0\",name=\"cpu\"} 48.312",
            "racklet_temperature_celsius{zone=\"thermal_zone1\",name=\"cpu\"} -0.5",
            "racklet_supply_low{supply=\"hwmon1\",name=\"rpi_volt\"} 1",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
        }
        let mut family = String::new();
        for line in text
            .lines()
            .filter(|l| !l.starts_with("# HELP") && *l != "# EOF")
        {
            match line.strip_prefix("# TYPE ") {
                Some(declared) => family = declared.split(' ').next().expect("a name").to_owned(),
                None => assert!(line.starts_with(&family), "{line} is outside {family}"),
            }
        }
        assert!(
            text.contains(r#"reason="workloads/web.yaml:9:3: say \"128Mi\"""#),
            "{text}"
        );
        assert!(
            text.contains(
                r#"racklet_workload_phase{workload="web",racklet_workload_phase="running"} 1"#
            ),
            "{text}"
        );
    }
}
