// SPDX-License-Identifier: Apache-2.0
//! The main job, through the real boot path: OVMF, the bootloader, the bootstrap, the hypervisor OS, a microVM.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use racklet_tests::{rack::FIRST_MESSAGE, scene::Scene};

#[test]
fn a_signed_repository_becomes_a_running_workload_and_an_edit_converges() -> Result<()> {
    let scene = Scene::new("happy")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    ensure!(
        tray.console()
            .said("kernel modules are loaded; no more can be until the next boot"),
        "PID 1 did not switch the loading of modules off"
    );
    let head = scene.rack.edit("second edition")?;
    scene.says(&mut tray, "second edition")?;
    scene.state(&mut tray, "it is at the new head", |state| {
        state["head"]["commit"] == head.as_str() && state["converged"] == true
    })?;
    Ok(())
}

#[test]
fn a_bad_edit_is_refused_with_file_and_line_and_the_old_workload_keeps_running() -> Result<()> {
    let scene = Scene::new("bad-edit")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let before = scene.state(&mut tray, "it runs", |state| state["converged"] == true)?;
    let text = std::fs::read_to_string(scene.rack.repository().join("workloads/web.yaml"))?;
    scene
        .rack
        .write("workloads/web.yaml", &text.replace("  cpus: 1", "  cpu: 1"))?;
    scene.rack.push("web: a mistake")?;
    let state = scene.state(&mut tray, "the commit is refused", |state| {
        !state["rejected"].is_null()
    })?;
    let reason = state["rejected"]["reason"].to_string();
    ensure!(
        reason.contains("workloads/web.yaml:") && reason.contains("cpu"),
        "{reason}"
    );
    ensure!(state["head"] == before["head"], "the head moved: {state}");
    ensure!(state["workloads"][0]["phase"] == "running", "{state}");
    ensure!(
        state["workloads"][0]["pid"] == before["workloads"][0]["pid"],
        "it was started again: {state}"
    );
    Ok(())
}
