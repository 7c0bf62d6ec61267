// SPDX-License-Identifier: Apache-2.0
//! New bootstraps: brought here, written by `init` (a stand-in; the real one writes a real card in `tests/tests/tray_slots.rs`), restarted
//! into, and not tried again when they come back.

use crate::support::Tray;
use anyhow::Result;
use racklet_api::handoff::Slot;
use racklet_api::init::{SlotState, SlotStatus, SlotsStatus};
use racklet_trust::manifest::Kind;
use racklet_trust::slot::TRIES;
use serde_json::{Value, json};

const FILES: &[(&str, &[u8])] = &[("kernel", b"k"), ("initramfs", b"i")];

/// A tray that runs what its rack pins, from slot a, which was found good; `bootstrap` versions are published, and none is pinned.
struct Scene {
    tray: Tray,
    payload: String,
}

impl Scene {
    fn new() -> Result<Self> {
        let tray = Tray::new()?;
        let payload = tray.publish(Kind::Payload, "stable", 1, FILES)?;
        tray.hand_over_value("handoff.json", "/payload/manifest", json!(payload))?;
        let boot = json!({"slot": "a", "tries": 1, "version": 1});
        tray.hand_over_value("handoff.json", "/boot", boot)?;
        let slot = |slot, state| SlotStatus {
            slot,
            state,
            tries_left: TRIES,
            manifest: Some("11".repeat(32)),
        };
        *tray.slots.lock().expect("lock") = Some(SlotsStatus {
            running: slot(Slot::A, SlotState::Good),
            other: slot(Slot::B, SlotState::Trial),
            floor: 1,
            armed: false,
            good: true,
            install: None,
            error: None,
        });
        Ok(Self { tray, payload })
    }

    fn bootstrap(&self, version: u64) -> Result<String> {
        self.tray.publish(Kind::Bootstrap, "boot", version, FILES)
    }

    fn pin(&self, payload: &str, bootstrap: Option<&str>) -> Result<()> {
        let bootstrap = bootstrap.map_or_else(String::new, |digest| {
            format!("  bootstrap: {{name: boot, manifest: \"sha256:{digest}\"}}\n")
        });
        self.tray.write(
            "releases/stable.yaml",
            &format!(
                "apiVersion: racklet.dev/v1alpha1\nkind: Release\nmetadata: {{name: stable}}\nspec:\n  payload: {{name: stable, manifest: \"sha256:{payload}\"}}\n{bootstrap}"
            ),
        )?;
        self.tray.push("another release").map(drop)
    }

    fn slots(&self, change: impl FnOnce(&mut SlotsStatus)) {
        let mut slots = self.tray.slots.lock().expect("lock");
        change(slots.as_mut().expect("there are slots"));
    }

    /// What `init` was asked of this kind.
    fn asked(&self, op: &str) -> Vec<Value> {
        let told = self.tray.told.lock().expect("lock");
        told.iter().filter(|it| it["op"] == op).cloned().collect()
    }

    fn until_asked(&self, op: &str) -> Result<Value> {
        let what = format!("asked init to {op}");
        self.tray.until(&what, |_| self.asked(op).first().cloned())
    }

    /// As `init` says it once it wrote that.
    fn written(&self, manifest: &str) {
        self.slots(|slots| {
            slots.other.manifest = Some(manifest.to_owned());
            slots.armed = true;
        });
    }

    fn message(&self, part: &str) -> Result<Value> {
        self.tray.until(part, |state| {
            let message = state["bootstrap"]["message"].as_str()?;
            message.contains(part).then(|| state.clone())
        })
    }
}

#[test]
fn a_pinned_bootstrap_is_fetched_written_by_init_and_restarted_into() -> Result<()> {
    let mut scene = Scene::new()?;
    let bootstrap = scene.bootstrap(2)?;
    scene.pin(&scene.payload, Some(&bootstrap))?;
    scene.tray.start()?;
    let asked = scene.until_asked("install")?;
    assert_eq!(asked["manifest"], *bootstrap);
    let entry = scene.tray.path("state/cache/bootstraps").join(&bootstrap);
    assert!(entry.join("complete").exists(), "init takes it from there");
    assert!(scene.asked("reboot").is_empty());
    let state = scene.message("it is being written")?;
    assert_eq!(state["bootstrap"]["wanted"], *bootstrap);
    assert_eq!(state["converged"], false);
    scene.written(&bootstrap);
    scene.until_asked("reboot")?;
    Ok(())
}

#[test]
fn a_payload_and_a_bootstrap_that_change_together_cost_one_restart() -> Result<()> {
    let mut scene = Scene::new()?;
    let bootstrap = scene.bootstrap(2)?;
    let payload = scene.tray.publish(Kind::Payload, "stable", 2, FILES)?;
    scene.pin(&payload, Some(&bootstrap))?;
    scene.tray.start()?;
    scene.until_asked("install")?;
    let here = "operating system stable 2 is here";
    let console = || scene.tray.console();
    scene.tray.until("the payload is here", |_| {
        console().contains(here).then_some(())
    })?;
    assert!(scene.asked("reboot").is_empty(), "{}", console());
    scene.written(&bootstrap);
    scene.until_asked("reboot")?;
    let console = console();
    assert!(console.contains("bootstrap ") && console.contains("restarting into it"));
    for file in ["restarts.json", "bootstrap.json"] {
        let tries = scene.tray.path("state/hypervisor").join(file);
        assert!(tries.exists(), "{file}: both were counted: {console}");
    }
    Ok(())
}

#[test]
fn a_bootstrap_that_came_back_is_not_tried_again_until_another_is_pinned() -> Result<()> {
    let mut scene = Scene::new()?;
    let bad = scene.bootstrap(2)?;
    scene.pin(&scene.payload, Some(&bad))?;
    scene.written(&bad);
    scene.slots(|slots| (slots.other.tries_left, slots.armed) = (0, false));
    scene.tray.start()?;
    let state = scene.message("it was started three times and never ran well")?;
    assert_eq!(state["bootstrap"]["wanted"], *bad);
    assert_eq!(state["bootstrap"]["slot"], "a");
    assert!(scene.asked("install").is_empty() && scene.asked("reboot").is_empty());
    let good = scene.bootstrap(3)?;
    scene.pin(&scene.payload, Some(&good))?;
    assert_eq!(scene.until_asked("install")?["manifest"], *good);
    Ok(())
}

#[test]
fn a_bootstrap_older_than_the_floor_is_refused_with_both_versions() -> Result<()> {
    let mut scene = Scene::new()?;
    let old = scene.bootstrap(2)?;
    scene.pin(&scene.payload, Some(&old))?;
    scene.slots(|slots| slots.floor = 5);
    scene.tray.start()?;
    scene.message("version 2 is older than version 5")?;
    assert!(scene.asked("install").is_empty());
    Ok(())
}

#[test]
fn what_init_refuses_is_said_and_a_pin_that_is_taken_back_is_withdrawn() -> Result<()> {
    let mut scene = Scene::new()?;
    let bootstrap = scene.bootstrap(2)?;
    scene.pin(&scene.payload, Some(&bootstrap))?;
    scene.tray.start()?;
    scene.until_asked("install")?;
    scene.slots(|slots| {
        slots.install = Some(racklet_api::init::InstallStatus {
            manifest: bootstrap.clone(),
            done: true,
            error: Some("the card is full".into()),
        });
    });
    scene.message("the card is full")?;
    scene.pin(&scene.payload, None)?;
    scene.tray.until("forgets it", |state| {
        state["bootstrap"]["wanted"].is_null().then_some(())
    })?;
    assert!(scene.asked("withdraw").is_empty(), "nothing was written");
    scene.written(&bootstrap);
    scene.until_asked("withdraw")?;
    assert!(scene.asked("reboot").is_empty());
    Ok(())
}
