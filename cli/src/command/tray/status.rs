// SPDX-License-Identifier: Apache-2.0
//! `racklet status`: how trays are.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use racklet_api::hypervisor::{MemoryState, Phase, State, WorkloadState};
use racklet_api::init::StateStatus;

use super::report::{Report, refusal};
use super::session::Access;
use crate::answer::TrayStatus;
use crate::output::Output;

/// A command that asks once is done long before.
const LIFETIME: Duration = Duration::from_secs(600);

/// Ask trays how they are: commit in force, operating system, workloads
///
/// Exit status 1 means that a tray does not answer or refuses the newest commit.
#[derive(Args)]
pub(crate) struct Status {
    /// Which trays; all of the rack when left out
    #[arg(value_name = "TRAY")]
    trays: Vec<String>,
    #[command(flatten)]
    access: Access,
}

impl Status {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        let session = self.access.open(LIFETIME)?;
        let targets = session.targets(&self.trays)?;
        let mut report = Report::new(targets.len(), output);
        session.each(
            &targets,
            |tray| tray.ask::<State>("GET", "/v1/state"),
            |place, name, answer| match answer {
                Ok(state) => {
                    let text = describe(&state);
                    let refused = state.rejected.is_some();
                    let value = TrayStatus::State(Box::new(state));
                    match refused {
                        true => report.bad(place, &text, value),
                        false => report.good(place, &text, value),
                    }
                }
                Err(error) => report.no_answer(place, name, &error),
            },
        )?;
        report.end()
    }
}

fn describe(state: &State) -> String {
    let mut text = format!(
        "{}  {}\n",
        state.tray,
        match state {
            State {
                rejected: Some(_), ..
            } => "refuses the newest commit",
            State {
                converged: true, ..
            } => "converged",
            _ => "working on it",
        }
    );
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<10}  {value}\n"));
        }
    };
    line(
        "commit",
        state
            .head
            .as_ref()
            .map_or("none yet".to_owned(), |head| head.commit.clone()),
    );
    if let Some(rejected) = &state.rejected {
        line(
            "refused",
            format!(
                "{} ago, {}",
                ago(state.time, rejected.since),
                refusal(rejected)
            ),
        );
    }
    let repository = &state.repository;
    let reached = repository
        .reached
        .map_or("never reached".to_owned(), |time| {
            format!("reached {} ago", ago(state.time, time))
        });
    line(
        "repository",
        format!("{} ({}), {reached}", repository.url, repository.branch),
    );
    line("problem", repository.error.clone().unwrap_or_default());
    line("release", state.release.running.clone());
    line("", state.release.message.clone().unwrap_or_default());
    if let Some(bootstrap) = &state.bootstrap {
        line(
            "bootstrap",
            format!(
                "version {} in slot {}; slot {}",
                bootstrap.version, bootstrap.slot, bootstrap.other
            ),
        );
        line("", bootstrap.message.clone().unwrap_or_default());
    }
    line("up", duration(state.uptime));
    line("memory", state.memory.map(memory).unwrap_or_default());
    line("card", state.state.as_ref().map(card).unwrap_or_default());
    for workload in &state.workloads {
        line("workload", describe_workload(workload));
    }
    text
}

fn memory(memory: MemoryState) -> String {
    let used = memory.total.saturating_sub(memory.available);
    format!("{} of {} MiB used", used >> 20, memory.total >> 20)
}

/// Where the tray keeps what it must remember: what is free, and whatever is wrong with it.
fn card(state: &StateStatus) -> String {
    let mut parts = vec![format!(
        "{} of {} MiB free",
        state.free >> 20,
        state.total >> 20
    )];
    if state.read_only {
        parts.push("takes no writes: changes are in memory and end with a reboot".to_owned());
    } else if !state.persistent {
        parts.push("NOT on the card: nothing is remembered over a reboot".to_owned());
    }
    if state.errors > 0 {
        parts.push(format!("{} errors", state.errors));
    }
    if let Some(used) = state.life_used.filter(|used| *used >= 80) {
        parts.push(format!("{used} % of its life used"));
    }
    parts.extend(state.reason.clone());
    parts.join("; ")
}

fn ago(now: u64, then: u64) -> String {
    duration(now.saturating_sub(then))
}

/// `3 h 20 min`: the two largest units are enough for people.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn describe_workload(workload: &WorkloadState) -> String {
    let phase = match workload.phase {
        Phase::Pending => "pending",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
        Phase::BackOff => "waiting to restart",
        Phase::Ended => "ended",
    };
    let mut parts = vec![phase.to_owned()];
    parts.extend(workload.age.map(|age| format!("for {}", duration(age))));
    if !workload.addresses.is_empty() {
        parts.push(format!("at {}", workload.addresses.join(", ")));
    }
    match workload.restarts {
        0 => {}
        1 => parts.push("restarted once".to_owned()),
        times => parts.push(format!("restarted {times} times")),
    }
    if !workload.current {
        parts.push("not yet what the commit asks for".to_owned());
    }
    parts.extend(workload.message.clone());
    format!("{}: {}", workload.name, parts.join("; "))
}
