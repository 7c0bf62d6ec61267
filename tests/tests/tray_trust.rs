// SPDX-License-Identifier: Apache-2.0
//! What nobody with the right key signed never takes effect, whoever serves it.
#![forbid(unsafe_code)]

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    process::output,
    qemu::Tray,
    rack::{BOARD, FIRST_MESSAGE, TRAY, sha256},
    scene::Scene,
};

/// The commit that was just pushed is refused, with this in the reason, and the head stays.
fn is_refused(scene: &Scene, tray: &mut Tray, head: &str, reason: &str) -> Result<()> {
    let commit = scene.rack.git(&["rev-parse", "refs/remotes/origin/main"])?;
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
    is_refused(&scene, &mut tray, &head, "does not descend")?;

    // An old head again, which was good once.
    rack.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    rack.git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
    is_refused(&scene, &mut tray, &head, "does not descend")?;

    // Another rack of the same owner, whose tray has the same name.
    rack.racklet(&["rack", "init", "other", "--name", "other", "--tray", TRAY])
        .args(["--board", BOARD, "--payload", "stable-1"])
        .args(["--repository", &scene.server.url_for_trays("rack")])
        .arg("--key")
        .arg(rack.key())
        .run()?;
    rack.git(&["fetch", "--quiet", "../other", "HEAD"])?;
    rack.git(&["push", "--quiet", "--force", "origin", "FETCH_HEAD:main"])?;
    is_refused(&scene, &mut tray, &head, "does not descend")?;

    // A key that may, until it may not.
    let change = |change: &str, key: &str| -> Result<String> {
        rack.racklet(&["trust", "rotate", change, &format!("config={key}")])
            .within()
            .run()?;
        rack.git(&["push", "--quiet", "origin", "HEAD:main"])?;
        Ok(rack.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    };
    let public = stranger.with_extension("pub").display().to_string();
    change("--add", &public)?;
    commit(&[&format!("--gpg-sign={}", stranger.display())])?;
    let head = change("--remove", &public)?;
    scene.state(&mut tray, "the key was used and removed", |state| {
        state["head"]["commit"] == head.as_str()
    })?;
    commit(&[&format!("--gpg-sign={}", stranger.display())])?;
    is_refused(&scene, &mut tray, &head, "is not a config key")?;

    rack.edit("third edition")?;
    scene.says(&mut tray, "third edition")
}

/// The release is made to name `package`, of which the tray says `reason`, and all that runs goes on.
fn payload_is_refused(scene: &Scene, tray: &mut Tray, package: &str, reason: &str) -> Result<()> {
    let before = scene.state(tray, "it runs", |state| {
        state["workloads"][0]["pid"].is_u64()
    })?;
    let head = scene.rack.pin_payload(package)?;
    let state = scene.state(tray, &format!("{package} is refused: {reason}"), |state| {
        let message = state["release"]["message"].as_str().unwrap_or_default();
        state["head"]["commit"] == head.as_str() && message.contains(reason)
    })?;
    for (now, then) in [
        (&state["release"]["running"], &before["release"]["running"]),
        (
            &state["workloads"][0]["pid"],
            &before["workloads"][0]["pid"],
        ),
        (&state["workloads"][0]["phase"], &"running".into()),
    ] {
        ensure!(now == then, "{package} changed something: {state}");
    }
    Ok(())
}

#[test]
fn payloads_that_were_tampered_with_or_are_not_for_this_tray_are_refused_and_what_runs_goes_on()
-> Result<()> {
    let scene = Scene::new("payloads")?;
    let rack = &scene.rack;
    // Bytes behind the archive, so that there are chunks that the tray does not have.
    let mut initramfs = fs::read(scene.artifacts.host_initramfs())?;
    initramfs.extend([0; 64]);
    let other = rack.package("other.cpio.zst");
    fs::write(&other, initramfs)?;
    rack.payload_of("stable", 2, &other, &scene.artifacts)?;
    let serve = |package: &str, shown: &str| -> Result<()> {
        let digest = sha256(&rack.package(package).join("manifest.json"))?;
        scene
            .server
            .serve("rack", "payload/stable", &digest, &rack.package(shown))
    };
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;

    rack.sign("payload", "stable-2")?;
    let tampered = rack.variant("stable-2", "tampered-chunk", &[])?;
    for folder in fs::read_dir(tampered.join("chunks"))? {
        for chunk in fs::read_dir(folder?.path())? {
            let path = chunk?.path();
            let mut bytes = fs::read(&path)?;
            *bytes.last_mut().context("an empty chunk")? ^= 1;
            fs::write(&path, bytes)?;
        }
    }
    serve("stable-2", "tampered-chunk")?;
    payload_is_refused(&scene, &mut tray, "stable-2", "came with other bytes")?;

    rack.variant(
        "stable-2",
        "stable-3",
        &[(r#""version":2"#, r#""version":3"#)],
    )?;
    rack.sign("payload", "stable-3")?;
    rack.variant(
        "stable-3",
        "tampered-manifest",
        &[(r#""arguments":"""#, r#""arguments":"x""#)],
    )?;
    serve("stable-3", "tampered-manifest")?;
    payload_is_refused(&scene, &mut tray, "stable-3", "the rack pins manifest")?;

    let board = format!(r#""boards":["{BOARD}"]"#);
    let changes = [(board.as_str(), r#""boards":["other"]"#)];
    rack.variant("stable-2", "other-board", &changes)?;
    rack.sign("payload", "other-board")?;
    serve("other-board", "other-board")?;
    payload_is_refused(&scene, &mut tray, "other-board", "this board is")?;

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(rack.package("stable-2").join("manifest.json"))?)?;
    let created = format!(r#""created":{}"#, manifest["created"]);
    let changes = [
        (created.as_str(), r#""created":1790000000"#),
        (r#""expires":null"#, r#""expires":1790000001"#),
    ];
    rack.variant("stable-2", "expired", &changes)?;
    rack.sign("payload", "expired")?;
    serve("expired", "expired")?;
    payload_is_refused(&scene, &mut tray, "expired", "expired at")?;

    let stripped = rack.variant(
        "stable-2",
        "stripped",
        &[(r#""version":2"#, r#""version":4"#)],
    )?;
    fs::remove_dir_all(stripped.join("signatures"))?;
    serve("stripped", "stripped")?;
    payload_is_refused(&scene, &mut tray, "stripped", "has no signatures")?;

    // The bootstrap is of the same opinion, and starts what it has.
    tray.cut_power();
    let mut tray = scene.boot_again()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let state = scene.state(&mut tray, "it is up", |_| true)?;
    ensure!(state["release"]["running"] == "stable 1", "{state}");
    Ok(())
}
