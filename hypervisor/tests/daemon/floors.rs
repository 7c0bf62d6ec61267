// SPDX-License-Identifier: Apache-2.0
//! What the daemon never goes back behind, even when all that it kept is lost.

use crate::support::Tray;
use anyhow::{Context, Result};
use racklet_api::handoff::Head;
use racklet_api::init::FloorsReport;
use racklet_tests::process::{git, output};
use serde_json::Value;
use std::fs;
use std::sync::Arc;

/// When a commit of the work tree was made, Unix time in seconds.
fn date(tray: &Tray, commit: &str) -> Result<u64> {
    let shown = output(git(&tray.path("rack")).args(["show", "-s", "--format=%ct", commit]))?;
    shown.trim().parse().context("a number")
}

/// The server shows `commit`, which is behind what it showed before.
fn show_again(tray: &Tray, commit: &str) -> Result<()> {
    let branch = format!("{commit}:refs/heads/main");
    output(git(&tray.path("rack")).args(["push", "-q", "--force", "origin", &branch])).map(drop)
}

#[test]
fn a_daemon_without_a_kept_head_goes_not_behind_what_the_bootstrap_or_init_remembers() -> Result<()>
{
    let mut tray = Tray::new()?;
    tray.workload("web", "[run, one]", "")?;
    let old = tray.push("one")?;
    tray.workload("web", "[run, two]", "")?;
    let new = tray.push("two")?;
    tray.start()?;
    let state = tray.converged(&new)?;
    let head = Head {
        commit: new.clone(),
        generation: state["head"]["generation"].as_u64().context("number")?,
    };
    // The old commit is older by its date, too: commits of one second cannot be told apart.
    let time = date(&tray, &old)? + 1;

    for by_bootstrap in [true, false] {
        tray.kill()?;
        fs::remove_dir_all(tray.path("state/git"))?;
        show_again(&tray, &old)?;
        if by_bootstrap {
            tray.hand_over_with(Some(head.clone()), time)?;
        } else {
            tray.hand_over_with(None, 1)?;
            *tray.floors.lock().expect("lock") = Some(FloorsReport {
                head: Some(head.clone()),
                trust_root: 1,
                time,
            });
        }
        tray.told.lock().expect("lock").clear();
        tray.start()?;
        let state = tray.until("refused", |s| {
            (s["rejected"]["commit"] == *old).then(|| s.clone())
        })?;
        let reason = state["rejected"]["reason"].to_string();
        assert!(reason.contains("an old state of the rack"), "{reason}");
        assert!(state["head"].is_null(), "{state}");
        let told = tray.told.lock().expect("lock").clone();
        assert!(told.iter().all(|told| told["op"] != "raise"), "{told:?}");

        show_again(&tray, &new)?;
        // Without a rack to say how often, it looks every 15 seconds.
        tray.ask("POST", "/v1/sync")?;
        let state = tray.converged(&new)?;
        assert_eq!(state["head"]["generation"], head.generation);
    }
    Ok(())
}

#[test]
fn floors_that_init_did_not_raise_are_told_again() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run, one]", "")?;
    let head = tray.push("one")?;
    tray.refusals.store(2, std::sync::atomic::Ordering::SeqCst);
    tray.start()?;
    let told = Arc::clone(&tray.told);
    tray.until("the floors are raised", |_| {
        let told = told.lock().expect("lock");
        let raised = |it: &Value| it["op"] == "raise" && it["head"]["commit"] == *head;
        told.iter().any(raised).then_some(())
    })
}
