// SPDX-License-Identifier: Apache-2.0
//! Servers that are gone, lie, or are not who they say: nothing of theirs is used, and what is cached boots.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    card::StateOf,
    front::Mode,
    qemu::{Machine, Tray},
    rack::{FIRST_MESSAGE, UP},
    scene::Scene,
};
use serde_json::json;

/// Between two attempts of the bootstrap, with back-off and its own time-outs.
const ATTEMPT: Duration = Duration::from_secs(120);

#[test]
fn a_server_that_misbehaves_is_refused_with_the_reason_and_asked_again() -> Result<()> {
    let scene = Scene::new("misbehaving-server")?;
    scene.server.front().set_mode(Mode::Down);
    let mut tray = scene.boot()?;
    tray.wait_for("repository  failed: ", UP)?;
    for (mode, reason) in [
        (Mode::ExpiredCertificate, "expired"),
        (Mode::WrongName, "not valid for name"),
        (Mode::CaptivePortal, "captive portal"),
        (Mode::Cut(3000), "was cut"),
    ] {
        scene.server.front().set_mode(mode);
        tray.console().skip();
        tray.wait_for(reason, ATTEMPT)?;
        ensure!(
            !tray.console().said("Starting new kernel"),
            "{mode:?} was believed"
        );
    }
    scene.server.front().set_mode(Mode::Good);
    scene.says(&mut tray, FIRST_MESSAGE)
}

#[test]
fn without_a_server_the_cached_payload_and_workload_run_again() -> Result<()> {
    let scene = Scene::new("server-down")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.cut_power();
    scene.server.front().set_mode(Mode::Down);
    let mut tray = scene.boot_again()?;
    scene.says(&mut tray, FIRST_MESSAGE)
}

#[test]
fn what_rotted_in_the_cache_is_fetched_anew_and_a_server_that_crawls_delays_no_cached_boot()
-> Result<()> {
    let scene = Scene::new("rotten-and-slow")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for("this boot is good", UP)?;
    tray.cut_power();

    StateOf::find(&scene.card())?.rot(&a_chunk(&scene)?)?;
    let mut tray = scene.boot_again()?;
    tray.wait_for("next: fetch what is missing", UP)?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    ensure!(
        !tray.console().said("last resort"),
        "the payload was started as it was"
    );
    tray.cut_power();

    // One answer that lists capabilities would take five minutes.
    scene.server.front().set_mode(Mode::Crawl);
    let mut tray = scene.boot_again()?;
    tray.wait_for("Starting new kernel", ATTEMPT)?;
    scene.says(&mut tray, FIRST_MESSAGE)
}

/// Where a chunk of the payload lies on the card.
fn a_chunk(scene: &Scene) -> Result<String> {
    let chunks = scene.rack.repository().with_file_name("stable-1/chunks");
    let first = fs::read_dir(&chunks)?.next().context("no chunks")??;
    let chunk = fs::read_dir(first.path())?.next().context("no chunk")??;
    Ok(format!(
        "cache/chunks/{}/{}",
        first.file_name().display(),
        chunk.file_name().display()
    ))
}

#[test]
fn clocks_that_are_decades_off_do_not_keep_a_tray_from_booting() -> Result<()> {
    let scene = Scene::new("clocks")?;
    let machine = |clock: &str| Machine {
        clock: Some(clock.into()),
        ..Machine::default()
    };
    let mut tray = scene.boot_on(&machine("2100-01-01"))?;
    // Both systems on it read that clock, and the second has to agree with us about the time to answer.
    scene.says(&mut tray, FIRST_MESSAGE)?;
    drop(tray);
    let without_a_battery = machine("1970-01-01");
    let mut tray = scene.boot_on(&without_a_battery)?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    tray.wait_for("this boot is good", UP)?;

    // Switched off; on again when the server has a certificate that is younger than all that the tray knows. No time server is in reach.
    tray.command("system_powerdown", json!({}))?;
    tray.wait_until_off(UP)?;
    scene.server.front().set_mode(Mode::YoungCertificate);
    let mut tray = scene.boot_again_on(&without_a_battery)?;
    tray.wait_for("begin at the time that the card kept", UP)?;
    tray.wait_for("not valid yet by the clock here", ATTEMPT)?;
    scene.says(&mut tray, FIRST_MESSAGE)
}

#[test]
fn a_tray_on_a_network_with_ipv6_alone_boots_and_runs_what_is_wanted() -> Result<()> {
    let scene = Scene::new("ipv6-only")?;
    let url = scene.server.url_over_ipv6(scene.rack.name());
    let image = scene.rack.image_at(&scene.artifacts, "ipv6-only", &url)?;
    let machine = Machine {
        ipv6_only: true,
        ..Machine::default()
    };
    let mut tray = Tray::boot("tray-1", &scene.tray(), &image, &machine)?;
    // The bootstrap fetched what it starts: the card was new.
    tray.wait_for("Starting new kernel", UP)?;
    // And so did the hypervisor OS, which got its address anew. A boot is good when the repository was reached;
    // the workload may be up by then or not.
    tray.wait_for_all(&["converged at generation", "this boot is good"], UP)?;
    ensure!(
        !tray.console().said("0.0.0.0") && !tray.console().said("10.0.2."),
        "there was IPv4 after all"
    );
    Ok(())
}
