// SPDX-License-Identifier: Apache-2.0
//! The life of one tray through the real boot path: the firmware, the bootloader, the bootstrap, the hypervisor OS, a microVM. Commits good, bad and
//! forged, payloads that are not for it, restarts, and its power button.
//!
//! All of it happens to the same tray, since half of a test would be its first boot. Each finds it running what its rack says, on a card with
//! a past, and leaves it so, or off. Whatever fails takes the tray with it: the next begins with a new card.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    board::board,
    process::{output, path_with_sbin},
    qemu::Tray,
    rack::{FIRST_MESSAGE, TRAY, sha256},
    scene::Scene,
};
use serde_json::json;

/// How long the whole way down may take, emulated on a busy machine: workloads have 20 s of it.
const DOWN: Duration = Duration::from_secs(180);

/// The tray, its rack and its server.
struct Life {
    scene: Scene,
    /// None while it is off.
    tray: Option<Tray>,
    /// What its workload says, as the rack has it.
    message: String,
}

/// A test's part of it.
type Part = fn(&mut Life) -> Result<()>;

/// Has the tray live through this. One thread of its own does so for all tests: QEMU ends with the thread that started it
/// (`PR_SET_PDEATHSIG`), and each test has another.
fn live(part: Part) -> Result<()> {
    type Wish = (Part, Sender<Result<()>>);
    static WISHES: Mutex<Option<Sender<Wish>>> = Mutex::new(None);
    let mut wishes = WISHES.lock().unwrap_or_else(PoisonError::into_inner);
    let to = wishes.get_or_insert_with(|| {
        let (to, wishes) = channel::<Wish>();
        thread::spawn(move || {
            let mut life = None;
            for (part, answer) in wishes {
                // Nobody listens only when the tests are over.
                let _ = answer.send(go_on(&mut life, part));
            }
        });
        to
    });
    let (answer, done) = channel();
    to.send((part, answer)).context("the tray's thread ended")?;
    let done = done.recv();
    if done.is_err() {
        *wishes = None; // it panicked; whoever comes next begins anew
    }
    done.context("the tray's thread ended")?
}

fn go_on(place: &mut Option<Life>, part: Part) -> Result<()> {
    let mut life = match place.take() {
        Some(life) => life,
        None => Life::begin()?,
    };
    life.tray()?;
    part(&mut life)?;
    *place = Some(life);
    Ok(())
}

impl Life {
    fn begin() -> Result<Self> {
        // Its folder is its own: the same test may run on another board beside it.
        let scene = Scene::new(&format!("life-{}", board().name))?;
        let tray = Some(scene.boot()?);
        let message = FIRST_MESSAGE.to_owned();
        Ok(Self {
            scene,
            tray,
            message,
        })
    }

    /// It is on, and runs what its rack says.
    fn tray(&mut self) -> Result<&mut Tray> {
        let tray = match self.tray.take() {
            Some(tray) => tray,
            None => self.scene.boot_again()?,
        };
        let tray = self.tray.insert(tray);
        self.scene.says(tray, &self.message)?;
        Ok(tray)
    }

    /// Has the workload say something else, and waits until it does; gives the commit.
    fn edit(&mut self, message: &str) -> Result<String> {
        let head = self.scene.rack.edit(message)?;
        message.clone_into(&mut self.message);
        self.tray()?;
        Ok(head)
    }
}

#[test]
fn a_signed_repository_becomes_a_running_workload_and_an_edit_converges() -> Result<()> {
    live(|life| {
        ensure!(
            life.tray()?
                .console()
                .said("kernel modules are loaded; no more can be until the next boot"),
            "PID 1 did not switch the loading of modules off"
        );
        let head = life.edit("an edition")?;
        let Life { scene, tray, .. } = life;
        let tray = tray.as_mut().context("it is on")?;
        scene.state(tray, "it is at the new head", |state| {
            state["head"]["commit"] == head.as_str() && state["converged"] == true
        })?;
        Ok(())
    })
}

#[test]
fn a_bad_edit_is_refused_with_file_and_line_and_the_old_workload_keeps_running() -> Result<()> {
    live(|life| {
        let Life { scene, tray, .. } = life;
        let tray = tray.as_mut().context("it is on")?;
        let before = scene.state(tray, "it runs", |state| state["converged"] == true)?;
        let text = fs::read_to_string(scene.rack.repository().join(WEB))?;
        scene
            .rack
            .write(WEB, &text.replace("  cpus: 1", "  cpu: 1"))?;
        scene.rack.push("web: a mistake")?;
        let state = scene.state(tray, "the commit is refused", |state| {
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
        scene.rack.write(WEB, &text)?;
        let mended = scene.rack.push("web: without the mistake")?;
        scene.state(tray, "it is mended", |state| {
            state["head"]["commit"] == mended.as_str() && state["converged"] == true
        })?;
        Ok(())
    })
}

#[test]
fn a_signed_typo_as_the_newest_commit_at_a_restart_leaves_the_old_workload_running() -> Result<()> {
    live(|life| {
        let Life { scene, tray, .. } = life;
        let on = tray.as_mut().context("it is on")?;
        let before = scene.state(on, "it runs", |state| state["converged"] == true)?;
        tray.take().context("it is on")?.cut_power();

        let text = fs::read_to_string(scene.rack.repository().join(WEB))?;
        scene
            .rack
            .write(WEB, &text.replace("  cpus: 1", "  cpu: 1"))?;
        let bad = scene.rack.push("web: a mistake")?;
        // From a clone with the mistake nobody could ask for the logs of what it spoils.
        checkout(scene, "HEAD~1")?;
        life.tray()?;
        let Life { scene, tray, .. } = life;
        let on = tray.as_mut().context("it is on")?;
        let state = scene.state(on, "the commit is refused", |state| {
            state["rejected"]["commit"] == bad.as_str()
        })?;
        let reason = state["rejected"]["reason"].to_string();
        ensure!(
            reason.contains("workloads/web.yaml:") && reason.contains("cpu"),
            "{reason}"
        );
        ensure!(state["head"] == before["head"], "the head moved: {state}");

        checkout(scene, &bad)?;
        scene.rack.write(WEB, &text)?;
        life.edit("without the mistake").map(drop)
    })
}

/// The workload's file.
const WEB: &str = "workloads/web.yaml";

fn checkout(scene: &Scene, commit: &str) -> Result<()> {
    let reset = ["reset", "--quiet", "--hard", commit];
    scene.rack.git(&reset).map(drop)
}

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
    live(forge_commits)
}

fn forge_commits(life: &mut Life) -> Result<()> {
    let head = life.edit("before the forgeries")?;
    let Life { scene, tray, .. } = life;
    let tray = tray.as_mut().context("it is on")?;
    let rack = &scene.rack;

    let commit = |arguments: &[&str]| -> Result<()> {
        let mut all = vec!["commit", "--quiet", "--allow-empty", "--message", "x"];
        all.extend(arguments);
        rack.git(&all)?;
        rack.git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
        Ok(())
    };
    commit(&["--no-gpg-sign"])?;
    is_refused(scene, tray, &head, "sign")?;

    let stranger = rack.home().join("stranger");
    output(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&stranger),
    )?;
    commit(&[&format!("--gpg-sign={}", stranger.display())])?;
    is_refused(scene, tray, &head, "key")?;

    // Signed by the right key, but not a descendant of what is in force: history rewritten.
    rack.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    commit(&[])?;
    is_refused(scene, tray, &head, "does not descend")?;

    // An old head again, which was good once.
    rack.git(&["reset", "--quiet", "--hard", "HEAD~1"])?;
    rack.git(&["push", "--quiet", "--force", "origin", "HEAD:main"])?;
    is_refused(scene, tray, &head, "does not descend")?;

    // Another rack of the same owner, whose tray has the same name.
    rack.racklet(&["rack", "init", "other", "--name", "other", "--tray", TRAY])
        .args(["--board", rack.board(), "--payload", "stable-1"])
        .args(["--repository", &scene.server.url_for_trays("rack")])
        .arg("--key")
        .arg(rack.key())
        .run()?;
    rack.git(&["fetch", "--quiet", "../other", "HEAD"])?;
    rack.git(&["push", "--quiet", "--force", "origin", "FETCH_HEAD:main"])?;
    is_refused(scene, tray, &head, "does not descend")?;

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
    scene.state(tray, "the key was used and removed", |state| {
        state["head"]["commit"] == head.as_str()
    })?;
    commit(&[&format!("--gpg-sign={}", stranger.display())])?;
    is_refused(scene, tray, &head, "is not a config key")?;

    life.edit("after the forgeries").map(drop)
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
    live(forge_payloads)
}

fn forge_payloads(life: &mut Life) -> Result<()> {
    let Life { scene, tray, .. } = life;
    let on = tray.as_mut().context("it is on")?;
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
    payload_is_refused(scene, on, "stable-2", "came with other bytes")?;

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
    payload_is_refused(scene, on, "stable-3", "the rack pins manifest")?;

    let board = format!(r#""boards":["{}"]"#, rack.board());
    let changes = [(board.as_str(), r#""boards":["other"]"#)];
    rack.variant("stable-2", "other-board", &changes)?;
    rack.sign("payload", "other-board")?;
    serve("other-board", "other-board")?;
    payload_is_refused(scene, on, "other-board", "this board is")?;

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
    payload_is_refused(scene, on, "expired", "expired at")?;

    let stripped = rack.variant(
        "stable-2",
        "stripped",
        &[(r#""version":2"#, r#""version":4"#)],
    )?;
    fs::remove_dir_all(stripped.join("signatures"))?;
    serve("stripped", "stripped")?;
    payload_is_refused(scene, on, "stripped", "has no signatures")?;

    // The bootstrap is of the same opinion, and starts what it has.
    tray.take().context("it is on")?.cut_power();
    life.tray()?;
    let Life { scene, tray, .. } = life;
    let on = tray.as_mut().context("it is on")?;
    let state = scene.state(on, "it is up", |_| true)?;
    ensure!(state["release"]["running"] == "stable 1", "{state}");
    let head = scene.rack.pin_payload("stable-1")?;
    scene.state(on, "it wants what it runs", |state| {
        state["head"]["commit"] == head.as_str() && state["converged"] == true
    })?;
    Ok(())
}

#[test]
fn the_power_button_stops_workloads_in_order_and_switches_off() -> Result<()> {
    live(press_the_button)
}

fn press_the_button(life: &mut Life) -> Result<()> {
    let mut tray = life.tray.take().context("it is on")?;
    tray.command("system_powerdown", json!({}))?;
    for line in [
        "the power button was pressed",
        "going down: Poweroff",
        "1 workload stopped",
        "everything stopped; switching off",
    ] {
        tray.wait_for(line, DOWN)?;
    }
    tray.wait_until_off(DOWN)?;
    let state = ext4(&tray.folder().join("card.img"), "racklet-state")?;
    ensure!(
        state.contains("Filesystem state:         clean") && !state.contains("needs_recovery"),
        "the state partition was not unmounted:\n{state}"
    );
    Ok(())
}

/// What e2fsprogs say of the ext4 file system in the partition of this name.
fn ext4(card: &Path, name: &str) -> Result<String> {
    let mut list = Command::new("partx");
    list.args(["--raw", "--noheadings", "--output", "START,NAME"]);
    let partitions = output(list.arg(card))?;
    let start: u64 = partitions
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(_, label)| *label == name))
        .with_context(|| format!("no partition {name} in:\n{partitions}"))?
        .0
        .parse()?;
    let place = format!("{}?offset={}", card.display(), start * 512);
    let mut dumpe2fs = Command::new("dumpe2fs");
    dumpe2fs.env("PATH", path_with_sbin());
    output(dumpe2fs.args(["-h", &place]))
}
