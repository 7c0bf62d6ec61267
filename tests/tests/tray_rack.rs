// SPDX-License-Identifier: Apache-2.0
//! What the owner's tools make, without a tray.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use racklet_tests::{process::output, scene::Scene};

#[test]
fn a_rack_made_with_the_tools_passes_its_own_check_and_its_image_is_the_same_twice() -> Result<()> {
    let scene = Scene::new("rack")?;
    scene.rack.racklet(&["check"]).within().run()?;
    let first = std::fs::read(scene.image())?;
    let again = scene.rack.image(&scene.artifacts)?;
    ensure!(
        first == std::fs::read(again)?,
        "two builds of the same image differ"
    );
    let clone = scene.tray();
    let authority = format!("http.sslCAInfo={}", scene.server.authority().display());
    output(
        racklet_tests::process::git(scene.tray().parent().unwrap_or(&clone))
            .args([
                "-c",
                &authority,
                "clone",
                "--quiet",
                &scene.server.url("rack"),
            ])
            .arg(&clone),
    )?;
    ensure!(clone.join("workloads/web.yaml").is_file());
    Ok(())
}
