// SPDX-License-Identifier: Apache-2.0
//! What nobody with the right key signed never takes effect, whoever serves it.
#![forbid(unsafe_code)]

use std::process::Command;

use anyhow::{Result, ensure};
use racklet_tests::{process::output, qemu::Tray, rack::FIRST_MESSAGE, scene::Scene};

/// The commit that was just pushed is refused, with this in the reason, and the head stays.
fn is_refused(scene: &Scene, tray: &mut Tray, head: &str, reason: &str) -> Result<()> {
    let commit = scene.rack.git(&["rev-parse", "HEAD"])?;
    let commit = commit.trim();
    let state = scene.state(tray, &format!("{commit} is refused"), |state| {
        state["rejected"]["commit"] == commit
    })?;
    let text = state["rejected"]["reason"].to_string();
    ensure!(text.contains(reason), "the reason is {text}");
    ensure!(state["head"]["commit"] == head, "the head moved: {state}");
    // Back to what is in force, as the owner would.
    scene.rack.git(&["reset", "--quiet", "--hard", head])?;
    scene
        .rack
        .git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
    scene.state(tray, "the good head is in force", |state| {
        state["rejected"].is_null()
    })?;
    Ok(())
}

#[test]
fn commits_that_nobody_may_make_never_take_effect() -> Result<()> {
    let scene = Scene::new("commits")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let rack = &scene.rack;
    let head = rack.edit("second edition")?;
    scene.says(&mut tray, "second edition")?;

    let commit = |arguments: &[&str]| -> Result<()> {
        let mut all = vec!["commit", "--quiet", "--allow-empty", "--message", "x"];
        all.extend(arguments);
        rack.git(&all)?;
        rack.git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
        Ok(())
    };
    commit(&["--no-gpg-sign"])?;
    is_refused(&scene, &mut tray, &head, "sign")?;

    let stranger = rack.home().join("stranger");
    output(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&stranger),
    )?;
    commit(&[&format!("--gpg-sign={}", stranger.display())])?;
    is_refused(&scene, &mut tray, &head, "key")?;

    // Signed by the right key, but not a descendant of what is in force: history rewritten.
    rack.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    commit(&[])?;
    is_refused(&scene, &mut tray, &head, "")?;

    // An old head again, which was good once.
    rack.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    rack.git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
    is_refused(&scene, &mut tray, &head, "")?;

    rack.edit("third edition")?;
    scene.says(&mut tray, "third edition")
}
