// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench boot`: the figures that the project is held to, measured; a table, and `target/bench/boot.json`.
//!
//! Work is counted in instructions: with `-icount shift=0` one instruction is one nanosecond of the guest's clock, so that
//! the console's own time stamps count them, and repeated runs agree however busy the machine is. Waiting (for the server, for
//! DHCP) is skipped over to the next timer and does count, as it did in what it is compared with.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use racklet_tests::{
    artifacts::Artifacts,
    qemu::{Machine, Tray},
    rack::FIRST_MESSAGE,
    scene::Scene,
};
use serde_json::{Value, json};

use crate::{
    build, paths,
    progress::{self, say},
};

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Sizes, memory, instructions of a boot, bytes of an update, time to converge
    Boot,
}

const MIB: f64 = 1_048_576.0;

/// The bootstrap's last words.
const KEXEC: &str = "Starting new kernel";
/// The kernel's last words before PID 1.
const PID_1: &str = "Run /init as init process";

/// Under `-icount` everything runs on one thread of the machine.
const SLOW: Duration = Duration::from_secs(900);

struct Figure {
    name: &'static str,
    value: Option<f64>,
    unit: &'static str,
    limit: f64,
    stretch: Option<f64>,
    /// What it is made of, for the JSON.
    parts: Value,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let Bench::Boot = bench;
    let artifacts = build::everything()?;
    let mut figures = sizes(&artifacts)?;
    figures.extend(instructions()?);
    figures.push(memory()?);
    figures.extend(updates()?);
    print(&figures);
    let path = paths::made(paths::target().join("bench"))?.join("boot.json");
    let rows: Vec<Value> = figures
        .iter()
        .map(|figure| {
            json!({
                "figure": figure.name, "value": figure.value, "unit": figure.unit, "limit": figure.limit,
                "stretch": figure.stretch, "within": figure.value.map(|value| value <= figure.limit), "parts": figure.parts,
            })
        })
        .collect();
    fs::write(&path, format!("{:#}\n", json!({ "figures": rows })))
        .with_context(|| format!("write {}", path.display()))?;
    say(&format!("\nalso in {}", paths::short(&path)));
    Ok(())
}

fn print(figures: &[Figure]) {
    println!("\n{:58} {:>9} {:>9}", "figure", "measured", "limit");
    for figure in figures {
        let value = figure
            .value
            .map_or_else(|| "failed".to_owned(), |value| format!("{value:.2}"));
        let verdict = match figure.value {
            Some(value) if figure.stretch.is_some_and(|stretch| value <= stretch) => {
                "within the stretch goal"
            }
            Some(value) if value <= figure.limit => "ok",
            _ => "MISSED",
        };
        println!(
            "{:58} {value:>9} {:>9.2} {:4} {verdict}",
            figure.name, figure.limit, figure.unit
        );
    }
}

#[allow(clippy::cast_precision_loss, reason = "a few megabytes")]
fn size(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path)
        .with_context(|| format!("size of {}", path.display()))?
        .len() as f64
        / MIB)
}

fn sizes(artifacts: &Artifacts) -> Result<Vec<Figure>> {
    let (kernel, initramfs) = (
        size(&artifacts.bootstrap_kernel())?,
        size(&artifacts.bootstrap_initramfs())?,
    );
    let (host, os) = (
        size(&artifacts.host_kernel())?,
        size(&artifacts.host_initramfs())?,
    );
    let figure = |name, value, limit, stretch, parts| Figure {
        name,
        value: Some(value),
        unit: "MiB",
        limit,
        stretch,
        parts,
    };
    Ok(vec![
        figure(
            "bootstrap kernel + initramfs, compressed",
            kernel + initramfs,
            8.0,
            Some(6.0),
            json!({"kernel": kernel, "initramfs": initramfs}),
        ),
        figure(
            "bootstrap initramfs alone, zstd",
            initramfs,
            3.0,
            None,
            Value::Null,
        ),
        figure(
            "payload (host kernel + initramfs)",
            host + os,
            24.0,
            None,
            json!({"kernel": host, "initramfs": os}),
        ),
    ])
}

/// A boot with nothing cached, then one with everything cached.
fn instructions() -> Result<Vec<Figure>> {
    let scene = Scene::new("bench-instructions")?;
    let machine = Machine {
        processors: 1,
        count_instructions: true,
        ..Machine::default()
    };
    let mut figures = Vec::new();
    for (name, limit, stretch, fresh) in [
        (
            "PID 1 start to kexec, nothing cached",
            1.46,
            Some(0.73),
            true,
        ),
        (
            "PID 1 start to kexec, all cached and unchanged",
            0.5,
            None,
            false,
        ),
    ] {
        let (value, parts) = progress::step(name, "bench-instructions", 120, || {
            let mut tray = if fresh {
                scene.boot_on(&machine)?
            } else {
                Tray::switch_on("tray-1", &scene.tray(), &machine)?
            };
            tray.wait_for(KEXEC, SLOW)?;
            phases(tray.console().text())
                .context("the console has no time stamps of PID 1 and kexec")
        })?;
        figures.push(Figure {
            name,
            value: Some(value),
            unit: "G",
            limit,
            stretch,
            parts,
        });
    }
    Ok(figures)
}

/// From the console of a bootstrap: instructions (G, as each is a nanosecond) from PID 1 to kexec, and between the lines in which PID 1 says what it does.
fn phases(console: &str) -> Option<(f64, Value)> {
    let lines: Vec<(f64, &str)> = console.lines().filter_map(stamped).collect();
    let start = lines.iter().position(|(_, text)| text.contains(PID_1))?;
    let end = lines.iter().position(|(_, text)| text.contains(KEXEC))?;
    let mut previous = lines.get(start)?.0;
    let first = previous;
    let mut parts = Vec::new();
    for (time, text) in lines.get(start + 1..=end)? {
        parts.push(json!({"until": text, "G": (time - previous)}));
        previous = *time;
    }
    Some((previous - first, Value::Array(parts)))
}

/// `[    1.204] text` or `[    1.204567] text`.
fn stamped(line: &str) -> Option<(f64, &str)> {
    let (time, text) = line.trim_end().strip_prefix('[')?.split_once("] ")?;
    Some((time.trim().parse().ok()?, text))
}

/// The least memory in which the bootstrap gets as far as kexec.
fn memory() -> Result<Figure> {
    let scene = Scene::new("bench-memory")?;
    let mut least = None;
    for mib in [192, 160, 128, 112] {
        let machine = Machine {
            memory: mib,
            ..Machine::default()
        };
        let works = progress::step(
            &format!("bootstrap in {mib} MiB"),
            "bench-memory",
            40,
            || {
                let mut tray = scene.boot_on(&machine)?;
                Ok(tray.wait_for(KEXEC, Duration::from_secs(120)).is_ok())
            },
        )?;
        if !works {
            break;
        }
        least = Some(f64::from(mib));
    }
    Ok(Figure {
        name: "bootstrap works in",
        value: least,
        unit: "MiB",
        limit: 192.0,
        stretch: Some(128.0),
        parts: Value::Null,
    })
}

/// What an edit and a one-byte change of an image cost.
fn updates() -> Result<Vec<Figure>> {
    let scene = Scene::new("bench-updates")?;
    let mut tray = scene.boot()?;
    scene.says(&mut tray, FIRST_MESSAGE)?;
    scene.state(&mut tray, "it runs", |state| state["converged"] == true)?;

    let mut edits = Vec::new();
    for message in ["second edition", "third edition", "fourth edition"] {
        let start = clock(&scene.rack.status(tray.api())?);
        scene.rack.edit(message)?;
        scene.says(&mut tray, message)?;
        edits.push(clock(&scene.rack.status(tray.api())?) - start);
    }
    let slowest = edits.iter().copied().fold(0.0, f64::max);
    Ok(vec![Figure {
        name: "commit pushed to microVM changed, polling every 2 s",
        value: Some(slowest),
        unit: "s",
        limit: 5.0,
        stretch: None,
        parts: json!(edits),
    }])
}

fn clock(state: &Value) -> f64 {
    state["uptime"].as_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_by_the_consoles_time_stamps() {
        let console = "[    0.500000] Run /init as init process\r\n[    0.600] network     up\r\nnoise\r\n\
             [    0.900] repository  verified\r\n[    1.000001] kexec_core: Starting new kernel\r\n";
        let (total, parts) = phases(console).unwrap();
        assert!((total - 0.500_001).abs() < 1e-9, "{total}");
        assert_eq!(parts.as_array().unwrap().len(), 3);
        assert_eq!(parts[1]["until"], "repository  verified");
        assert!(phases("[    0.5] something else\n").is_none());
    }
}
