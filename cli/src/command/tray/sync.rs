// SPDX-License-Identifier: Apache-2.0
//! `racklet sync`: having trays look at the repository now, and waiting until they run what is pushed.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use racklet_api::hypervisor::{Phase, Rejection, State, SyncAnswer};
use racklet_tell::error::chain;

use super::report::{Report, refusal};
use super::session::{Access, Session};
use crate::answer::{Nudged, TraySync, Waited};
use crate::output::Output;
use crate::remote::{Answered, RemoteError, Tray};

/// Between two looks at a tray that is waited for.
const LOOK: Duration = Duration::from_secs(1);

/// Have trays look at the rack repository now instead of at the next poll
#[derive(Args)]
pub(crate) struct Sync {
    /// Which trays; all of the rack when left out
    #[arg(value_name = "TRAY")]
    trays: Vec<String>,
    /// Return when all of them run the commit that is checked out here, or say who refused it and why
    #[arg(long)]
    wait: bool,
    /// Do not wait longer than this many seconds; a new operating system takes some minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "wait",
          value_parser = clap::value_parser!(u64).range(1..=36_000))]
    timeout: u64,
    #[command(flatten)]
    access: Access,
}

/// How far a tray is with a commit.
#[derive(Debug, PartialEq, Eq)]
enum Progress<'s> {
    Runs,
    Refused(&'s Rejection),
    Waits(String),
}

/// How a wait for a tray ended.
enum Ended {
    Runs,
    Refused(Rejection),
    Late(String),
}

impl Sync {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        // A pass outlasts the wait, so that nobody is asked twice.
        let session = self.access.open(Duration::from_secs(self.timeout + 120))?;
        let commit = self.wait.then(|| pushed(&session)).transpose()?;
        match commit {
            None => self.nudge(&session, output),
            Some(commit) => self.wait_for(&session, &commit, output),
        }
    }

    fn nudge(&self, session: &Session, output: Output) -> anyhow::Result<ExitCode> {
        let targets = session.targets(&self.trays)?;
        let mut report = Report::new(targets.len(), output);
        session.each(&targets, nudge, |place, name, answer| match answer {
            Ok(answer) => {
                let head = answer.head.as_ref().map(|head| head.commit.as_str());
                report.good(
                    place,
                    &format!(
                        "{name} looks now; in force: {}",
                        head.unwrap_or("nothing yet")
                    ),
                    TraySync::Nudged(Nudged {
                        tray: name.to_owned(),
                        head: answer.head.clone(),
                    }),
                );
            }
            Err(error) => report.no_answer(place, name, &error),
        })?;
        report.end()
    }

    fn wait_for(
        &self,
        session: &Session,
        commit: &str,
        output: Output,
    ) -> anyhow::Result<ExitCode> {
        let targets = session.targets(&self.trays)?;
        let end = Instant::now() + Duration::from_secs(self.timeout);
        let follows = |later: &str| {
            let args = ["merge-base", "--is-ancestor", commit, later];
            session.rack.repository.run(args).is_ok()
        };
        let wait = |tray: &Tray<'_>| {
            // A tray that is not there now is not waited for: it may never come.
            let at = nudge(tray)?.at;
            let value = wait(tray, commit, follows, end)?;
            Ok(Answered { value, at })
        };
        let waited = |tray: &str, runs, rejected, waits_for| {
            TraySync::Waited(Waited {
                tray: tray.to_owned(),
                commit: commit.to_owned(),
                runs,
                rejected,
                waits_for,
            })
        };
        let mut report = Report::new(targets.len(), output);
        session.each(&targets, wait, |place, name, ended| match ended {
            Ok(Ended::Runs) => report.good(
                place,
                &format!("{name} runs {commit}"),
                waited(name, true, None, None),
            ),
            Ok(Ended::Refused(rejection)) => report.bad(
                place,
                &format!("{name} refuses {}", refusal(&rejection)),
                waited(name, false, Some(rejection.clone()), None),
            ),
            Ok(Ended::Late(why)) => report.bad(
                place,
                &format!(
                    "{name} does not run {commit} after {} s: {why}",
                    self.timeout
                ),
                waited(name, false, None, Some(why.clone())),
            ),
            Err(error) => report.no_answer(place, name, &error),
        })?;
        report.end()
    }
}

/// The commit that is checked out; trays can only see it once it is pushed.
fn pushed(session: &Session) -> anyhow::Result<String> {
    let repository = &session.rack.repository;
    let commit = repository
        .commit("HEAD")
        .context("there is no commit here yet")?;
    if let Some(upstream) = repository.commit("@{upstream}")
        && repository
            .run(["merge-base", "--is-ancestor", &commit, &upstream])
            .is_err()
    {
        bail!("commit {commit} is not pushed yet, so no tray can see it: git push");
    }
    Ok(commit)
}

fn nudge(tray: &Tray<'_>) -> Result<Answered<SyncAnswer>, RemoteError> {
    tray.ask("POST", "/v1/sync")
}

fn wait(
    tray: &Tray<'_>,
    commit: &str,
    follows: impl Fn(&str) -> bool,
    end: Instant,
) -> Result<Ended, RemoteError> {
    loop {
        let last = match tray.ask::<State>("GET", "/v1/state") {
            Ok(answered) => match progress(&answered.value, commit, &follows) {
                Progress::Runs => return Ok(Ended::Runs),
                Progress::Refused(rejection) => return Ok(Ended::Refused(rejection.clone())),
                Progress::Waits(why) => why,
            },
            // It may be starting its new operating system.
            Err(error) if error.may_pass() => chain(&error),
            Err(error) => return Err(error),
        };
        if Instant::now() + LOOK > end {
            return Ok(Ended::Late(last));
        }
        thread::sleep(LOOK);
    }
}

/// How far a tray is with `commit`, or with a later one (as `follows` says): pure.
fn progress<'s>(state: &'s State, commit: &str, follows: impl Fn(&str) -> bool) -> Progress<'s> {
    let ours = |id: &str| id == commit || follows(id);
    let in_force = state.head.as_ref().is_some_and(|head| ours(&head.commit));
    if let Some(rejection) = &state.rejected
        && !in_force
        && rejection.commit.as_deref().is_some_and(&ours)
    {
        return Progress::Refused(rejection);
    }
    if !in_force {
        let reason = state.repository.error.clone();
        return Progress::Waits(reason.unwrap_or_else(|| "it has not accepted it yet".to_owned()));
    }
    if let Some(wanted) = &state.release.wanted {
        let message = state.release.message.clone();
        return Progress::Waits(message.unwrap_or_else(|| format!("payload {wanted} is to start")));
    }
    if let Some(bootstrap) = &state.bootstrap
        && let Some(wanted) = &bootstrap.wanted
    {
        let message = bootstrap.message.clone();
        return Progress::Waits(
            message.unwrap_or_else(|| format!("bootstrap {wanted} is to start")),
        );
    }
    let waiting = state.workloads.iter().find(|workload| {
        !workload.current || !matches!(workload.phase, Phase::Running | Phase::Ended)
    });
    match waiting {
        Some(workload) => {
            let message = workload.message.as_deref().unwrap_or("not running yet");
            Progress::Waits(format!("workload {}: {message}", workload.name))
        }
        // A newer commit that is refused keeps it from saying so itself.
        None if state.converged || state.rejected.is_some() => Progress::Runs,
        None => Progress::Waits("it is still at work".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn state(more: &str) -> State {
        let mut value: Value = json!({
            "v": 1, "tray": "tray-1", "rack": "r", "time": 9, "uptime": 1,
            "head": {"commit": "old", "generation": 1}, "converged": true, "rejected": null,
            "repository": {"url": "u", "branch": "main", "reached": 9, "error": null},
            "release": {"running": "stable 1", "manifest": "00", "wanted": null, "message": null},
            "workloads": [],
        });
        let Ok(Value::Object(changes)) = serde_json::from_str(more) else {
            panic!("{more}");
        };
        for (key, change) in changes {
            value[key] = change;
        }
        serde_json::from_value(value).expect("a state")
    }

    fn seen(more: &str) -> String {
        match progress(&state(more), "new", |id| id == "newer") {
            Progress::Runs => "runs".into(),
            Progress::Refused(rejection) => format!("refused: {}", rejection.reason),
            Progress::Waits(why) => format!("waits: {why}"),
        }
    }

    #[test]
    fn a_tray_runs_a_commit_once_it_is_in_force_and_everything_is_as_it_asks() {
        let web = r#"{"name":"web","phase":"PHASE","current":CURRENT,"message":"kept busy","age":1,"restarts":0,"exitCode":null,"pid":1,"addresses":[],"rootfs":"00"}"#;
        let with = |commit: &str, phase: &str, current: &str, converged: &str| {
            let web = web.replace("PHASE", phase).replace("CURRENT", current);
            format!(
                r#"{{"head":{{"commit":"{commit}","generation":2}},"converged":{converged},"workloads":[{web}]}}"#
            )
        };
        assert_eq!(seen("{}"), "waits: it has not accepted it yet");
        assert_eq!(seen(&with("new", "running", "true", "true")), "runs");
        assert_eq!(seen(&with("newer", "running", "true", "true")), "runs");
        assert_eq!(
            seen(&with("other", "running", "true", "true")),
            "waits: it has not accepted it yet"
        );
        for (phase, current) in [
            ("running", "false"),
            ("back-off", "true"),
            ("starting", "true"),
        ] {
            assert_eq!(
                seen(&with("new", phase, current, "false")),
                "waits: workload web: kept busy"
            );
        }
        assert_eq!(
            seen(&with("new", "running", "true", "false")),
            "waits: it is still at work"
        );
        assert_eq!(
            seen(
                r#"{"head":{"commit":"new","generation":2},"converged":false,"release":{"running":"stable 1","manifest":"00","wanted":"11","message":"reboots soon"}}"#
            ),
            "waits: reboots soon"
        );
        assert_eq!(
            seen(
                r#"{"head":{"commit":"new","generation":2},"converged":false,"bootstrap":{"slot":"a","version":1,"manifest":"00","floor":1,"wanted":"11","message":"it is being fetched","other":"b: empty"}}"#
            ),
            "waits: it is being fetched"
        );
    }

    #[test]
    fn a_refusal_of_this_commit_or_of_one_behind_it_ends_the_wait_and_an_older_one_does_not() {
        let refused = |commit: &str| {
            format!(
                r#"{{"converged":false,"rejected":{{"commit":"{commit}","since":1,"reason":"bad","problems":[]}}}}"#
            )
        };
        assert_eq!(seen(&refused("new")), "refused: bad");
        assert_eq!(seen(&refused("newer")), "refused: bad");
        assert_eq!(seen(&refused("older")), "waits: it has not accepted it yet");
        // It runs, and what was pushed on top of it is refused.
        assert_eq!(
            seen(
                r#"{"head":{"commit":"new","generation":2},"converged":false,"rejected":{"commit":"newer","since":1,"reason":"bad","problems":[]}}"#
            ),
            "runs"
        );
    }
}
