// SPDX-License-Identifier: Apache-2.0
//! Servers that are gone, lie, or are not who they say: nothing of theirs is used, and what is cached boots.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Result, ensure};
use racklet_tests::{
    front::Mode,
    qemu::Machine,
    rack::{FIRST_MESSAGE, UP},
    scene::Scene,
};

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
fn clocks_that_are_decades_off_do_not_keep_a_tray_from_booting() -> Result<()> {
    let scene = Scene::new("clocks")?;
    for clock in ["1970-01-01", "2100-01-01"] {
        let mut tray = scene.boot_on(&Machine {
            clock: Some(clock.into()),
            ..Machine::default()
        })?;
        // Both systems on it read that clock, and the second has to agree with us about the time to answer.
        scene.says(&mut tray, FIRST_MESSAGE)?;
    }
    Ok(())
}
