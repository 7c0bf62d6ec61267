// SPDX-License-Identifier: Apache-2.0
//! `racklet status`, `logs` and `sync`: asking trays.

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::http::{LogPage, MAX_FOLLOW, MemoryState, Phase, State, SyncAnswer};
use racklet_api::rack::{Problem, RackState};
use racklet_trust::{PublicKey, Role};
use serde_json::{Value, json};

use crate::output::Output;
use crate::rack::{Rack, RackArgument};
use crate::remote::{RemoteError, Tray};
use crate::ssh::{self, Key};
use racklet_api::error::chain;

/// How a tray is reached.
#[derive(Args)]
pub(crate) struct Access {
    /// The tray's address and perhaps port; `git config racklet.<tray>.address` or the tray's name when left out
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Option<String>,
    /// Your key; it must be a config key of the rack
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    rack: RackArgument,
}

/// Ask trays how they are: commit in force, operating system, workloads
#[derive(Args)]
pub(crate) struct Status {
    /// Which trays; all of the rack when left out
    #[arg(value_name = "TRAY")]
    trays: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// Show the log of a workload
#[derive(Args)]
pub(crate) struct Logs {
    /// The workload
    workload: String,
    /// Show the guest's console instead of the command's output
    #[arg(long)]
    console: bool,
    /// Go on with new lines until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    access: Access,
}

/// Have trays look at the rack repository now instead of at the next poll
#[derive(Args)]
pub(crate) struct Sync {
    /// Which trays; all of the rack when left out
    #[arg(value_name = "TRAY")]
    trays: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// Everything that is the same for all trays.
struct Session {
    rack: Rack,
    state: RackState,
    /// Of files that `state` is without.
    problems: Vec<Problem>,
    id: String,
    key: Key,
    address: Option<String>,
}

impl Access {
    fn open(&self) -> anyhow::Result<Session> {
        let rack = self.rack.open()?;
        let (root, _) = rack.trust()?;
        let key = rack.key(self.key.as_deref(), &root, Role::Config)?;
        let (state, problems) = rack.valid_part()?;
        Ok(Session {
            rack,
            state,
            problems,
            id: root.rack().to_string(),
            key,
            address: self.address.clone(),
        })
    }
}

impl Session {
    fn ask<T>(
        &self,
        name: &str,
        ask: impl FnOnce(&Tray<'_>) -> Result<T, RemoteError>,
    ) -> anyhow::Result<T> {
        let Some((_, tray)) = self
            .state
            .trays
            .iter()
            .find(|(tray, _)| tray.as_str() == name)
        else {
            let known: Vec<&str> = self.state.trays.keys().map(|name| name.as_str()).collect();
            bail!(
                "the rack has no tray {name}; it has: {}{}",
                known.join(", "),
                self.left_out()
            );
        };
        let identity = tray.identity.as_deref().with_context(|| {
            format!("trays/{name}.yaml names no identity, so there is no API to ask")
        })?;
        let (identity, _): (PublicKey, String) = ssh::parse_line(identity)
            .with_context(|| format!("trays/{name}.yaml: spec.identity"))?;
        let configured = self
            .rack
            .repository
            .config(&format!("racklet.{name}.address"));
        let address = self
            .address
            .clone()
            .or(configured)
            .unwrap_or_else(|| name.to_owned());
        let tray = Tray {
            rack: &self.id,
            name,
            address: &address,
            identity: &identity,
            key: &self.key,
        };
        Ok(ask(&tray)?)
    }

    /// For the end of an error about something that is not there: perhaps it is only not valid.
    fn left_out(&self) -> String {
        self.problems.iter().fold(String::new(), |text, problem| {
            text + "\nleft out because of " + &problem.to_string()
        })
    }

    fn names(&self, named: &[String]) -> anyhow::Result<Vec<String>> {
        let names: Vec<String> = match named {
            [] => self.state.trays.keys().map(ToString::to_string).collect(),
            _ => named.to_vec(),
        };
        if self.address.is_some() && names.len() != 1 {
            bail!("--address is for one tray; name it");
        }
        Ok(names)
    }

    /// Asks every tray; one that does not answer does not keep the others from being shown.
    fn each<T>(
        &self,
        named: &[String],
        output: Output,
        ask: impl Fn(&Tray<'_>) -> Result<T, RemoteError>,
        show: impl Fn(&T) -> (String, Value),
    ) -> anyhow::Result<()> {
        let names = self.names(named)?;
        let (mut text, mut values, mut failures) = (String::new(), Vec::new(), Vec::new());
        for name in &names {
            match self.ask(name, &ask) {
                Ok(answer) => {
                    let (lines, value) = show(&answer);
                    text.push_str(&lines);
                    values.push(value);
                }
                Err(error) if names.len() == 1 => return Err(error),
                Err(error) => {
                    let reason = chain(error.as_ref());
                    text.push_str(&format!("{name}\n  no answer: {reason}\n"));
                    values.push(json!({ "tray": name, "error": reason }));
                    failures.push(name.clone());
                }
            }
        }
        output.answer(&text, &values);
        if failures.is_empty() {
            Ok(())
        } else {
            bail!("no answer from {}", failures.join(", "))
        }
    }
}

impl Status {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let session = self.access.open()?;
        session.each(
            &self.trays,
            output,
            |tray| tray.ask::<State>("GET", "/v1/state"),
            |state| {
                (
                    describe(state),
                    serde_json::to_value(state).unwrap_or_default(),
                )
            },
        )
    }
}

impl Sync {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let session = self.access.open()?;
        session.each(
            &self.trays,
            output,
            |tray| {
                tray.ask::<SyncAnswer>("POST", "/v1/sync")
                    .map(|answer| (tray.name.to_owned(), answer))
            },
            |(name, answer)| {
                let head = answer
                    .head
                    .as_ref()
                    .map_or("nothing yet", |head| head.commit.as_str());
                (
                    format!("{name} looks now; in force: {head}\n"),
                    json!({ "tray": name, "head": answer.head }),
                )
            },
        )
    }
}

impl Logs {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        let session = self.access.open()?;
        let Some((_, workload)) = session
            .state
            .workloads
            .iter()
            .find(|(name, _)| name.as_str() == self.workload)
        else {
            let known: Vec<&str> = session
                .state
                .workloads
                .keys()
                .map(|name| name.as_str())
                .collect();
            bail!(
                "the rack has no workload {}; it has: {}{}",
                self.workload,
                known.join(", "),
                session.left_out()
            );
        };
        let tray = workload.tray.to_string();
        let log = if self.console { "console" } else { "workload" };
        let mut target = format!("/v1/workloads/{}/logs?log={log}", self.workload);
        let mut first = true;
        loop {
            let page: LogPage = session.ask(&tray, |tray| tray.ask("GET", &target))?;
            if page.lost && !first {
                output.note("(some lines are gone: the log is bounded)");
            }
            for line in &page.lines {
                output.answer(&line.line, line);
            }
            let caught_up = page.lines.is_empty();
            if caught_up && !self.follow {
                return Ok(());
            }
            first = false;
            let follow = if self.follow {
                format!("&follow={MAX_FOLLOW}")
            } else {
                String::new()
            };
            target = format!(
                "/v1/workloads/{}/logs?log={log}&from={}{follow}",
                self.workload, page.next
            );
        }
    }
}

fn describe(state: &State) -> String {
    let mut text = format!(
        "{}  {}\n",
        state.tray,
        if state.converged {
            "converged"
        } else {
            "working on it"
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
                "{} since {}: {}",
                rejected.commit.as_deref().unwrap_or("newest"),
                ago(state.time, rejected.since),
                rejected.reason
            ),
        );
        for problem in &rejected.problems {
            line("", problem.to_string());
        }
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
    line("up", duration(state.uptime));
    line("memory", state.memory.map(memory).unwrap_or_default());
    for workload in &state.workloads {
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
        if workload.restarts > 0 {
            parts.push(format!("restarted {} times", workload.restarts));
        }
        if !workload.current {
            parts.push("not yet what the commit asks for".to_owned());
        }
        parts.extend(workload.message.clone());
        line(
            "workload",
            format!("{}: {}", workload.name, parts.join("; ")),
        );
    }
    text
}

fn memory(memory: MemoryState) -> String {
    let used = memory.total.saturating_sub(memory.available);
    format!("{} of {} MiB used", used >> 20, memory.total >> 20)
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
