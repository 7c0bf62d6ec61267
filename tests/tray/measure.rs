// SPDX-License-Identifier: Apache-2.0
//! How the figures of a boot are measured: on the machines, servers and racks of the end-to-end tests. What they are held to
//! is not known here.
//!
//! Work is counted in instructions: with `-icount shift=0` an instruction is a nanosecond of the guest's clocks, and what a
//! process uses of the processor is what it and the kernel on its behalf execute. The bootstrap tells that by phase. Its kernel
//! has to poll when idle: QEMU skips over a processor that sleeps straight to the next timer, and time-outs would come before
//! the server had a chance to answer.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{
    artifacts::{Artifacts, target},
    nested,
    qemu::{Machine, Tray},
    rack::{FIRST_MESSAGE, UP, WORKLOAD},
    scene::Scene,
};
use serde_json::{Map, Value, json};

use crate::bench::Found;

const MIB: f64 = 1_048_576.0;

/// The bootstrap's last words.
const KEXEC: &str = "Starting new kernel";
/// The line in which it says what it used.
const PHASES: &str = "racklet: phases ";

/// Under `-icount` everything runs on one thread of the host.
const COUNTED: Duration = Duration::from_secs(900);

/// A tray that polls every two seconds looks at the repository again after at most this many: a tenth more, so that trays do not
/// ask all at once.
const LONGEST_WAIT: f64 = 2.2;

/// Sizes of machines in which the bootstrap is tried, until one is too small.
const MEMORIES: [u32; 5] = [192, 128, 112, 96, 80];

/// How long a boot in little memory may take.
const SMALL: Duration = Duration::from_secs(60);

#[allow(clippy::cast_precision_loss, reason = "a few gigabytes")]
fn size(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path)
        .with_context(|| format!("size of {}", path.display()))?
        .len() as f64
        / MIB)
}

pub(crate) fn sizes(artifacts: &Artifacts, found: &mut Found) -> Result<()> {
    let first = size(&artifacts.bootstrap_kernel())?;
    let kernel = size(&artifacts.kernel())?;
    let initramfs = size(&artifacts.bootstrap_initramfs())?;
    let os = size(&artifacts.host_initramfs())?;
    let parts = |kernel, initramfs| json!({"kernel": kernel, "initramfs": initramfs});
    found.is("bootstrap", first + initramfs, parts(first, initramfs));
    found.is("bootstrap-initramfs", initramfs, Value::Null);
    found.is("payload", kernel + os, parts(kernel, os));
    Ok(())
}

/// A boot with nothing cached, then one with everything cached.
pub(crate) fn instructions(found: &mut Found) -> Result<()> {
    let scene = Scene::with_arguments("bench-instructions", "idle=poll")?;
    let machine = Machine {
        processors: 1,
        count_instructions: true,
        ..Machine::default()
    };
    for (key, fresh) in [("kexec-uncached", true), ("kexec-cached", false)] {
        let mut tray = if fresh {
            scene.boot_on(&machine)?
        } else {
            Tray::switch_on("tray-1", &scene.tray(), &machine)?
        };
        let line = tray.wait_for(PHASES, COUNTED)?;
        tray.wait_for(KEXEC, COUNTED)?;
        let (total, parts) = phases(&line)
            .with_context(|| format!("the bootstrap's phases are not understood: {line}"))?;
        found.is(key, total, parts);
        tray.cut_power();
    }
    Ok(())
}

/// From the bootstrap's own account: instructions (G) in all, and by phase with the time that went by.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds of some seconds")]
fn phases(line: &str) -> Option<(f64, Value)> {
    let (_, text) = line.split_once(PHASES)?;
    let phases: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
    let giga = |phase: &Value, what: &str| Some(phase.get(what)?.as_u64()? as f64 / 1e9);
    let mut parts = Map::new();
    for (name, phase) in &phases {
        let part = json!({"used": giga(phase, "cpu")?, "passed": giga(phase, "ns")?});
        parts.insert(name.clone(), part);
    }
    Some((giga(phases.get("total")?, "cpu")?, Value::Object(parts)))
}

/// The least memory in which the bootstrap gets as far as kexec.
pub(crate) fn memory(found: &mut Found) -> Result<()> {
    let scene = Scene::new("bench-memory")?;
    let mut tried = Map::new();
    for mib in MEMORIES {
        let machine = Machine {
            memory: mib,
            ..Machine::default()
        };
        let mut tray = scene.boot_on(&machine)?;
        let works = tray.wait_for(KEXEC, SMALL).is_ok();
        tray.cut_power();
        tried.insert(mib.to_string(), works.into());
        if !works {
            break;
        }
        found.is("bootstrap-memory", mib.into(), json!(tried));
    }
    if let Some((_, parts)) = found.0.get_mut("bootstrap-memory") {
        *parts = json!(tried);
    }
    Ok(())
}

/// One tray: at rest, with a workload that is edited, and with one whose image is large and changes a little.
pub(crate) fn tray(found: &mut Found) -> Result<()> {
    let scene = Scene::new("bench-tray")?;
    let workload = scene.rack.repository().join("workloads/web.yaml");
    let text = fs::read_to_string(&workload)?;
    fs::remove_file(&workload)?;
    scene.rack.push("web: not yet")?;

    let mut tray = scene.boot()?;
    scene.state(&mut tray, "it is up", |state| state["converged"] == true)?;
    idle(&scene, &mut tray, found)?;

    scene.rack.write("workloads/web.yaml", &text)?;
    scene.rack.push("web: first workload")?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    let edits = edits(&scene, &mut tray, false)?;
    let slowest = edits
        .iter()
        .map(|edit| edit.pushed_to_converged)
        .fold(0.0, f64::max);
    let parts = edits.iter().map(|edit| {
        json!({
            "pushed_to_converged": edit.pushed_to_converged,
            "accepted_to_converged": edit.accepted_to_converged,
        })
    });
    found.is("edit-timed", slowest, parts.collect());
    one_byte(&scene, &mut tray, found)
}

fn idle(scene: &Scene, tray: &mut Tray, found: &mut Found) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..5 {
        thread::sleep(Duration::from_secs(2));
        let state = scene.rack.status(tray.api())?;
        let number = |name: &str| state["memory"][name].as_f64().map(|bytes| bytes / MIB);
        let (Some(total), Some(available)) = (number("total"), number("available")) else {
            anyhow::bail!("the tray does not say how much memory it uses: {state}");
        };
        samples.push((total - available, total));
    }
    let used = samples.iter().map(|(used, _)| *used).fold(0.0, f64::max);
    let parts = json!({
        "used": samples.iter().map(|(used, _)| *used).collect::<Vec<_>>(),
        "total": samples.first().map(|(_, total)| *total),
        "machine": Machine::default().memory,
    });
    found.is("idle-memory", used, parts);
    Ok(())
}

/// Three edits of the workload; what each took. The tray is asked whether they took effect where it answers in time: one whose
/// clock counts instructions takes longer for a handshake than `racklet` waits, and its console says the same.
fn edits(scene: &Scene, tray: &mut Tray, counted: bool) -> Result<Vec<Edit>> {
    let mut seen = Vec::new();
    for message in ["second edition", "third edition", "fourth edition"] {
        if !counted {
            settle(scene, tray)?;
        }
        tray.console().skip();
        scene.rack.edit(message)?;
        let pushed = Instant::now();
        let accepted = tray.wait_for("accepted commit", COUNTED)?;
        let converged = tray.wait_for("converged at generation", COUNTED)?;
        let pushed_to_converged = pushed.elapsed().as_secs_f64();
        if !counted {
            scene.says(tray, message)?;
        }
        let (accepted, converged) = (stamp(&accepted), stamp(&converged));
        let accepted_to_converged = converged
            .zip(accepted)
            .map(|(end, start)| end - start)
            .context("the console's lines have no times")?;
        seen.push(Edit {
            pushed_to_converged,
            accepted_to_converged,
        });
    }
    Ok(seen)
}

/// What an edit took.
struct Edit {
    /// By the clock on the wall, from the end of `git push`.
    pushed_to_converged: f64,
    /// By the tray's own clock.
    accepted_to_converged: f64,
}

/// An edit on a machine whose clock counts instructions. The tray's clock goes on while the pushing machine works, so the time
/// until the tray looks at the repository is not seen there: it is taken at its longest.
pub(crate) fn edit(found: &mut Found) -> Result<()> {
    let scene = Scene::with_arguments("bench-edit", "idle=poll")?;
    let machine = Machine {
        processors: 1,
        count_instructions: true,
        ..Machine::default()
    };
    let mut tray = scene.boot_on(&machine)?;
    tray.wait_for("converged at generation", COUNTED)?;
    let work: Vec<f64> = edits(&scene, &mut tray, true)?
        .iter()
        .map(|edit| edit.accepted_to_converged)
        .collect();
    let slowest = work.iter().copied().fold(0.0, f64::max);
    let parts = json!({"longest_wait_for_poll": LONGEST_WAIT, "accepted_to_converged": work});
    found.is("edit", LONGEST_WAIT + slowest, parts);
    Ok(())
}

/// Waits until nothing is left to do.
fn settle(scene: &Scene, tray: &mut Tray) -> Result<()> {
    scene
        .state(tray, "it has settled", |state| state["converged"] == true)
        .map(drop)
}

fn one_byte(scene: &Scene, tray: &mut Tray, found: &mut Found) -> Result<()> {
    let mut data = noise(100 << 20);
    let mut received = Vec::new();
    for version in [2, 3] {
        settle(scene, tray)?;
        scene
            .rack
            .artifact_with(WORKLOAD, version, &scene.artifacts, &data)?;
        let before = total_received(scene, tray)?;
        tray.console().skip();
        scene.rack.upgrade(&format!("{WORKLOAD}-{version}"))?;
        let image = tray.wait_for("image web", COUNTED)?;
        tray.wait_for("converged at generation", UP)?;
        let state = scene.state(tray, "the new image runs", |state| {
            state["converged"] == true && state["workloads"][0]["phase"] == "running"
        })?;
        let bytes = state["received"].as_f64().unwrap_or_default() - before;
        let line = image.split_once("image").map_or("", |(_, text)| text);
        received.push((bytes, format!("image{line}")));
        let middle = data.len() / 2;
        data[middle] ^= 1;
    }
    let (whole, changed) = (&received[0], &received[1]);
    ensure!(
        changed.0 > 0.0,
        "nothing came: the images are the same, or the tray does not count"
    );
    let parts = json!({
        "first_image_bytes": whole.0, "changed_bytes": changed.0,
        "said": [&whole.1, &changed.1],
    });
    found.is("one-byte", changed.0 / MIB, parts);
    Ok(())
}

fn total_received(scene: &Scene, tray: &Tray) -> Result<f64> {
    scene.rack.status(tray.api())?["received"]
        .as_f64()
        .context("the tray does not say how much it received")
}

/// Bytes that do not compress and are the same every time (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The time before a line of the console, in seconds.
fn stamp(line: &str) -> Option<f64> {
    let (time, _) = line.split_once('[')?.1.split_once(']')?;
    time.trim().parse().ok()
}

/// MicroVMs by themselves, in a machine that counts, and the same guest in QEMU.
pub(crate) fn microvm(artifacts: &Artifacts, found: &mut Found) -> Result<()> {
    let folder = target().join("e2e/bench-microvm");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let binary = size(&artifacts.tray_program("vmm"))?;
    found.is("microvm-binary", binary, Value::Null);
    let cases = [
        "bench_start",
        "bench_entry",
        "bench_restore",
        "bench_second",
        "bench_devices",
        nested::PEER,
        nested::EXITS,
    ];
    let results = nested::run(&folder, &cases, nested::Time::Counted)?;
    let all = |case: &str, what: &str| -> Result<Vec<f64>> {
        let runs = results[case].as_array().context("it gave no runs")?;
        let mut values = runs
            .iter()
            .map(|run| run[what].as_f64())
            .collect::<Option<Vec<f64>>>()
            .with_context(|| format!("a run of {case} has no {what}: {runs:?}"))?;
        values.sort_by(f64::total_cmp);
        ensure!(!values.is_empty(), "no runs");
        Ok(values)
    };
    // A microsecond is a thousand instructions.
    let median = |case: &str, what: &str| -> Result<f64> {
        let values = all(case, what)?;
        Ok(values[values.len() / 2] / 1000.0)
    };
    let start = median("bench_start", "first_line_us")?;
    found.is("microvm-start", start, results["bench_start"].clone());
    let entry = median("bench_entry", "entry_us")?;
    found.is("microvm-entry", entry, results["bench_entry"].clone());
    let restored = |mib: &str| -> Result<f64> {
        let runs = results["bench_restore"][mib]["runs"].as_array();
        let runs = runs.with_context(|| format!("no restore of {mib} MiB"))?;
        let mut values: Vec<f64> = runs
            .iter()
            .filter_map(|run| run["restore_us"].as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let middle = values.get(values.len() / 2);
        Ok(middle.context("no runs")? / 1000.0)
    };
    let (small, large) = (restored("128")?, restored("1024")?);
    let parts = results["bench_restore"].clone();
    found.is("microvm-restore", small, parts.clone());
    found.is("microvm-restore-flat", 100.0 * (large / small - 1.0), parts);
    let own = all("bench_start", "own_kib")?;
    found.is("microvm-memory", own[own.len() - 1], json!(own));
    let second = &results["bench_second"];
    let (text, private) = (second["text_kib"].as_f64(), second["own_kib"].as_f64());
    let (text, private) = text
        .zip(private)
        .context("nothing was said of the second")?;
    ensure!(text > 0.0, "the kernel is not mapped");
    found.is("microvm-second", 100.0 * private / text, second.clone());
    let peer = median(nested::PEER, "first_line_us")?;
    found.is("microvm-peer", start / peer, results[nested::PEER].clone());
    let devices = &results["bench_devices"];
    ensure!(
        devices["devices"] == 15,
        "it has not all devices: {devices}"
    );
    let own = devices["own_kib"]
        .as_f64()
        .context("nothing was measured")?;
    found.is("microvm-memory-all", own, devices.clone());
    exits(&results[nested::EXITS], found)?;
    // Where instructions are counted one of 24 guests after the other runs, and all of this takes hours.
    let results = nested::run(&folder, &[nested::CROWD], nested::Time::Real)?;
    crowd(&results[nested::CROWD], found)
}

/// What led out of KVM, less what a guest that is quiet costs.
fn exits(case: &Value, found: &mut Found) -> Result<()> {
    let of = |whose: &str, stage: &str, what: &str| {
        let number = |stage: &str| case[whose][stage][what].as_f64();
        let both = number(stage).zip(number("quiet"));
        let (all, quiet) =
            both.with_context(|| format!("no {what} of {whose} in {stage}: {case}"))?;
        Ok::<_, anyhow::Error>(all - quiet)
    };
    let (mut exits, mut interrupts) = (0.0, 0.0);
    for stage in ["reads", "sends", "takes"] {
        exits += of("ours", stage, "exits")?;
        interrupts += of("ours", stage, "interrupts")?;
    }
    ensure!(interrupts > 0.0, "its devices were never heard: {case}");
    found.is("microvm-exits-interrupt", exits / interrupts, case.clone());
    for (whose, read, packets) in [
        ("ours", "microvm-exits-read", "microvm-exits-packets"),
        (
            "peer",
            "microvm-exits-read-peer",
            "microvm-exits-packets-peer",
        ),
    ] {
        let both = of(whose, "sends", "exits")? + of(whose, "takes", "exits")?;
        let mib = of(whose, "reads", "done")?;
        let passed = of(whose, "sends", "done")? + of(whose, "takes", "done")?;
        // Of those that it is sent a guest may lose some.
        ensure!(passed >= 1500.0, "packets were lost: {case}");
        let parts = || case[whose].clone();
        found.is(read, of(whose, "reads", "exits")? / mib, parts());
        found.is(packets, 1000.0 * both / passed, parts());
    }
    Ok(())
}

/// All guests of the crowd were there and answered.
fn crowd(case: &Value, found: &mut Found) -> Result<()> {
    for what in ["up", "ready", "answered", "ended"] {
        ensure!(case[what] == 24, "{what}: {case}");
    }
    let all = case["pss_kib"].as_array().context("nothing was measured")?;
    let sum: f64 = all.iter().filter_map(Value::as_f64).sum();
    found.is("microvm-crowd", sum / 1024.0, case.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_those_beyond_a_quiet_guests_for_what_was_done() {
        let stage = |done, exits, interrupts| json!({"done": done, "exits": exits, "interrupts": interrupts});
        let guest = |reads: u64| {
            json!({
                "quiet": stage(0, 40, 2), "reads": stage(16, reads, 130),
                "sends": stage(1000, 60, 20), "takes": stage(600, 52, 14),
            })
        };
        let mut found = Found::default();
        exits(&json!({"ours": guest(168), "peer": guest(296)}), &mut found).unwrap();
        let value = |key| found.0[key].0;
        assert!((value("microvm-exits-interrupt") - 160.0 / 158.0).abs() < 1e-9);
        assert!((value("microvm-exits-read") - 8.0).abs() < 1e-9);
        assert!((value("microvm-exits-read-peer") - 16.0).abs() < 1e-9);
        assert!((value("microvm-exits-packets") - 20.0).abs() < 1e-9);
        let mut few = guest(168);
        few["takes"] = stage(3, 52, 14);
        assert!(exits(&json!({"ours": few, "peer": guest(296)}), &mut found).is_err());
    }

    #[test]
    fn phases_are_told_in_instructions() {
        let line = "[    3.1] racklet: phases {\"network\":{\"ns\":500000000,\"cpu\":40000000},\"total\":{\"ns\":900000000,\"cpu\":240000000}}\r";
        let (total, parts) = phases(line).unwrap();
        assert!((total - 0.24).abs() < 1e-9, "{total}");
        assert_eq!(
            parts["network"],
            json!({"used": 0.04, "passed": 0.5}),
            "{parts}"
        );
        assert!(phases("racklet: phases {\"network\":{}}").is_none());
        assert!(phases("something else").is_none());
    }

    #[test]
    fn a_lines_time_is_read() {
        assert_eq!(
            stamp("[    5.905] hypervisor  accepted commit"),
            Some(5.905)
        );
        assert_eq!(stamp("hypervisor  accepted"), None);
    }

    #[test]
    fn noise_repeats_and_has_its_length() {
        assert_eq!(noise(1001).len(), 1001);
        assert_eq!(noise(64), noise(64));
    }
}
