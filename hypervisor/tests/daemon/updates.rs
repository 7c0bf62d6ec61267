// SPDX-License-Identifier: Apache-2.0
//! New images and new operating systems.

use crate::support::{BOUND, Tray, alive, workload};
use anyhow::{Context, Result};
use racklet_tests::until::until;
use racklet_trust::manifest::Kind;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Whether an entry of the cache counts.
fn is_cached(tray: &Tray, kind: &str, digest: &str) -> bool {
    let entry = tray.path("state/cache").join(kind).join(digest);
    entry.join("complete").exists()
}

/// Waits for something that the daemon's state does not say.
fn wait(tray: &Tray, what: &str, probe: impl Fn() -> bool) -> Result<()> {
    until(what, BOUND, || Ok(probe().then_some(())))
        .with_context(|| format!("the console said\n{}", tray.console()))
}

/// Publishes version `version` of the operating system `stable` and pins it, without a commit.
fn release(tray: &Tray, version: u64) -> Result<String> {
    let files: &[(&str, &[u8])] = &[("kernel", b"k"), ("initramfs", b"i")];
    let payload = tray.publish(Kind::Payload, "stable", version, files)?;
    tray.write(
        "releases/stable.yaml",
        &format!(
            "apiVersion: racklet.dev/v1alpha1\nkind: Release\nmetadata: {{name: stable}}\nspec:\n  payload: {{name: stable, manifest: \"sha256:{payload}\"}}\n"
        ),
    )?;
    Ok(payload)
}

/// A pinned operating system is brought, and nothing restarts into it while a test lasts.
fn without_restarts(tray: &Tray) -> Result<()> {
    let rack = std::fs::read_to_string(tray.path("rack/rack.yaml"))?;
    let patient = rack.replace("rebootWaitSeconds: 0", "rebootWaitSeconds: 86400");
    tray.write("rack.yaml", &patient)
}

#[test]
fn an_image_that_is_pinned_again_after_it_was_removed_is_fetched_again() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let first = tray.push("one")?;
    tray.start()?;
    tray.converged(&first)?;
    let old = tray.artifact.clone();
    tray.artifact = tray.publish(Kind::Artifact, "server", 2, &[("rootfs", b"another one")])?;
    tray.workload("web", "[run]", "")?;
    let second = tray.push("two")?;
    tray.converged(&second)?;
    wait(&tray, "the old image is removed", || {
        !is_cached(&tray, "artifacts", &old)
    })?;

    tray.artifact = old.clone();
    tray.workload("web", "[run]", "")?;
    let third = tray.push("one again")?;
    let state = tray.converged(&third)?;
    assert_eq!(workload(&state, "web")["rootfs"], *old);
    assert!(is_cached(&tray, "artifacts", &old), "{}", tray.console());
    Ok(())
}

#[test]
fn the_operating_system_before_stays_until_the_boot_was_found_good() -> Result<()> {
    let mut tray = Tray::new()?;
    without_restarts(&tray)?;
    tray.workload("web", "[run]", "")?;
    let before = release(&tray, 2)?;
    tray.push("one")?;
    tray.start()?;
    wait(&tray, "the first release", || {
        is_cached(&tray, "payloads", &before)
    })?;
    let old = tray.artifact.clone();
    tray.artifact = tray.publish(Kind::Artifact, "server", 2, &[("rootfs", b"another one")])?;
    tray.workload("web", "[run]", "")?;
    let next = release(&tray, 3)?;
    tray.push("two")?;
    // Operating systems come before images where what nobody needs is removed.
    wait(&tray, "the old image is removed", || {
        !is_cached(&tray, "artifacts", &old)
    })?;
    assert!(is_cached(&tray, "payloads", &before), "{}", tray.console());
    tray.good.store(true, Ordering::SeqCst);
    wait(&tray, "the release before is removed", || {
        !is_cached(&tray, "payloads", &before)
    })?;
    assert!(is_cached(&tray, "payloads", &next));
    Ok(())
}

#[test]
fn an_operating_system_that_is_here_needs_no_server() -> Result<()> {
    let mut tray = Tray::new()?;
    without_restarts(&tray)?;
    let payload = release(&tray, 2)?;
    tray.push("a release")?;
    tray.start()?;
    wait(&tray, "the release", || {
        is_cached(&tray, "payloads", &payload)
    })?;
    tray.kill()?;
    // Nobody listens there.
    let nowhere = json!("https://127.0.0.1:1/rack");
    tray.hand_over_value("tray.json", "/repository/url", nowhere)?;
    tray.start()?;
    wait(&tray, "it is ready", || {
        let console = tray.console();
        console.contains("operating system stable 2 is here: 0 B received")
    })
}

#[test]
fn a_new_image_replaces_the_old_one_only_once_it_is_here() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let first = tray.push("one")?;
    tray.start()?;
    let before = tray.converged(&first)?;
    let pid = workload(&before, "web")["pid"].clone();
    let old = tray.artifact.clone();

    // Pinned before it is published: the old one keeps running, and the state says what it waits for.
    tray.artifact = "ab".repeat(32);
    tray.workload("web", "[run]", "")?;
    let missing = tray.push("a pin of nothing")?;
    let state = tray.until("says what is missing", |s| {
        let web = workload(s, "web");
        (s["head"]["commit"] == *missing && web["message"].as_str()?.contains("pins manifest"))
            .then(|| s.clone())
    })?;
    assert_eq!(workload(&state, "web")["pid"], pid);
    assert_eq!(state["converged"], false);
    assert!(alive(&pid));

    tray.artifact = tray.publish(
        Kind::Artifact,
        "server",
        2,
        &[("rootfs", b"another root file system")],
    )?;
    tray.workload("web", "[run]", "")?;
    let good = tray.push("the real one")?;
    let after = tray.converged(&good)?;
    assert_ne!(workload(&after, "web")["pid"], pid);
    assert_eq!(workload(&after, "web")["rootfs"], *tray.artifact);
    let cached = |digest: &str| is_cached(&tray, "artifacts", digest);
    tray.until("the old image is removed", |_| {
        (!cached(&old)).then_some(())
    })?;
    assert!(cached(&tray.artifact));
    Ok(())
}

#[test]
fn sync_is_heard_while_an_image_is_waited_for() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let rack = std::fs::read_to_string(tray.path("rack/rack.yaml"))?;
    tray.write(
        "rack.yaml",
        &rack.replace("pollSeconds: 1", "pollSeconds: 3600"),
    )?;
    let first = tray.push("one")?;
    tray.start()?;
    tray.converged(&first)?;

    // A server that takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let elsewhere = format!("https://{}/images", silent.local_addr()?);
    let (pin, missing) = (tray.artifact.clone(), "ab".repeat(32));
    tray.artifact = missing.clone();
    tray.workload("api", "[run]", "")?;
    let path = "workloads/api.yaml";
    let text = std::fs::read_to_string(tray.path("rack").join(path))?;
    let here = format!("manifest: \"sha256:{missing}\"");
    let there = format!("{here}, repository: \"{elsewhere}\"");
    tray.write(path, &text.replace(&here, &there))?;
    tray.push("an image from elsewhere")?;
    tray.ask("POST", "/v1/sync")?;
    let (_connection, _) = silent.accept()?;

    tray.artifact = pin;
    tray.workload("more", "[run]", "")?;
    let next = tray.push("two")?;
    tray.ask("POST", "/v1/sync")?;
    tray.until("the newer head", |state| {
        (state["head"]["commit"] == *next).then_some(())
    })?;
    // Not because the silent server was given up: nobody has lost patience with it yet.
    let console = tray.console();
    assert!(!console.contains("handshake was not done"), "{console}");
    Ok(())
}

#[test]
fn a_damaged_cached_image_is_never_given_to_a_workload() -> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    let pid = workload(&tray.converged(&head)?, "web")["pid"].clone();
    tray.kill()?;
    let image = tray
        .path("state/cache/artifacts")
        .join(&tray.artifact)
        .join("rootfs.erofs");
    let good = std::fs::read(&image)?;
    let mut bad = good.clone();
    bad[3] ^= 1;
    std::fs::write(&image, &bad)?;
    let _ = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    tray.start()?;
    let state = tray.until("running again", |s| {
        let web = workload(s, "web");
        (web["phase"] == "running" && web["pid"] != pid).then(|| s.clone())
    })?;
    assert_eq!(
        std::fs::read(&image)?,
        good,
        "fetched again: {state}\n{}",
        tray.console()
    );
    assert!(
        tray.console().contains("fetching it again"),
        "{}",
        tray.console()
    );
    Ok(())
}

/// An image that expired by the clock but not by the newest signed time, on a tray whose clock was set by `source`.
fn expired_by_the_clock(source: &str, servers: &[&str]) -> Result<(Tray, String)> {
    let mut tray = Tray::new()?;
    let files: &[(&str, &[u8])] = &[("rootfs", b"another root file system")];
    tray.artifact = tray.publish_until(Kind::Artifact, "server", 2, files, Some(1_720_000_000))?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push_at("one", 1_700_000_000)?;
    tray.hand_over_value("tray.json", "/timeServers", json!(servers))?;
    tray.hand_over_value("handoff.json", "/time/source", json!(source))?;
    tray.start()?;
    Ok((tray, head))
}

#[test]
fn an_image_expires_by_the_owners_time_servers() -> Result<()> {
    let (tray, _head) = expired_by_the_clock("sntp", &["ntp.example"])?;
    tray.until("says that it is expired", |s| {
        let message = workload(s, "web")["message"].as_str()?.to_owned();
        message.contains("expired").then_some(())
    })
}

#[test]
fn an_image_does_not_expire_by_a_clock_that_nobody_vouches_for() -> Result<()> {
    for (source, servers) in [("rtc", &["ntp.example"][..]), ("floor", &[]), ("sntp", &[])] {
        let (tray, head) = expired_by_the_clock(source, servers)?;
        tray.converged(&head)?;
    }
    Ok(())
}

#[test]
fn a_pinned_operating_system_is_fetched_and_restarted_into_with_workloads_stopped_first()
-> Result<()> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    let pid = workload(&tray.converged(&head)?, "web")["pid"].clone();
    let payload = release(&tray, 2)?;
    tray.push("a release")?;
    let rebooted = |told: &[serde_json::Value]| told.iter().any(|t| t["op"] == "reboot");
    tray.until("asked init to restart", |_| {
        rebooted(&tray.told.lock().expect("lock")).then_some(())
    })?;
    assert!(!alive(&pid), "workloads are stopped first");
    let cached = is_cached(&tray, "payloads", &payload);
    assert!(cached, "it is cached first");
    Ok(())
}

#[test]
fn a_release_for_another_board_or_an_older_one_is_not_restarted_into() -> Result<()> {
    let mut tray = Tray::new()?;
    release(&tray, 0)?;
    tray.push("an old release")?;
    tray.start()?;
    let message = tray.until("says why", |s| {
        s["release"]["message"]
            .as_str()
            .filter(|m| m.contains("not for this tray"))
            .map(str::to_owned)
    })?;
    assert!(message.contains('1'), "names the floor: {message}");
    let told = tray.told.lock().expect("lock").clone();
    assert!(told.iter().all(|t| t["op"] != "reboot"), "{told:?}");
    Ok(())
}
