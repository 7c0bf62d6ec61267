// SPDX-License-Identifier: Apache-2.0
//! What a tray makes of its rack's history when it was off for a while.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use racklet_tests::{rack::FIRST_MESSAGE, scene::Scene};

#[test]
fn a_signed_typo_as_the_newest_commit_at_a_restart_leaves_the_old_workload_running() -> Result<()> {
    let scene = Scene::new("typo-at-restart")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let before = scene.state(&mut tray, "it runs", |state| state["converged"] == true)?;
    tray.cut_power();

    let path = scene.rack.repository().join("workloads/web.yaml");
    let text = std::fs::read_to_string(path)?;
    let typo = text.replace("  cpus: 1", "  cpu: 1");
    scene.rack.write("workloads/web.yaml", &typo)?;
    let bad = scene.rack.push("web: a mistake")?;
    // From a clone with the mistake nobody could ask for the logs of what it spoils.
    let checkout = |commit: &str| scene.rack.git(&["reset", "--quiet", "--hard", commit]);
    checkout("HEAD~1")?;
    let mut tray = scene.boot_again()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let state = scene.state(&mut tray, "the commit is refused", |state| {
        state["rejected"]["commit"] == bad.as_str()
    })?;
    let reason = state["rejected"]["reason"].to_string();
    ensure!(
        reason.contains("workloads/web.yaml:") && reason.contains("cpu"),
        "{reason}"
    );
    ensure!(state["head"] == before["head"], "the head moved: {state}");

    checkout(&bad)?;
    scene.rack.write("workloads/web.yaml", &text)?;
    scene.rack.edit("without the mistake")?;
    scene.says(&mut tray, "without the mistake")
}
