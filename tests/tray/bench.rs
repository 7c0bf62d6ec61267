// SPDX-License-Identifier: Apache-2.0
//! The figures that the project is held to, measured; a table, and by board `target/bench/boot.json` or `vmm.json`.
//!
//! A figure that is missed, or that could not be measured, is said and is no failure: judging is for people and for whoever
//! reads the JSON. How each is measured is in [`measure`].

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use anyhow::{Context as _, Result};
use racklet_tests::{
    artifacts::{Artifacts, target},
    board::{board, emulator},
    process::output,
    qemu::Accelerator,
};
use serde_json::{Value, json};

use crate::{
    measure, short,
    steps::{self, say},
};

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Of the files that were built
    Sizes,
    /// From PID 1 to kexec
    Instructions,
    /// The least that the bootstrap works in
    Memory,
    /// A tray at rest, then edits, then a changed image
    Tray,
    /// Edits, counted
    Edit,
    /// A microVM's start and memory: all of `bench vmm`
    Microvm,
}

/// Measures microVMs.
pub(crate) fn vmm() -> Result<()> {
    run("vmm", &[Part::Microvm])
}

/// Measures these parts of a tray, or all where none are named.
pub(crate) fn boot(only: &[&str]) -> Result<()> {
    let only: Result<Vec<_>> = only.iter().map(|name| Part::named(name)).collect();
    match &only?[..] {
        [] => run("boot", &Part::OF_A_TRAY.map(|(_, part)| part)),
        only => run("boot", only),
    }
}

impl Part {
    /// By the names that `--only` takes.
    const OF_A_TRAY: [(&str, Self); 5] = [
        ("sizes", Self::Sizes),
        ("instructions", Self::Instructions),
        ("memory", Self::Memory),
        ("tray", Self::Tray),
        ("edit", Self::Edit),
    ];

    fn named(name: &str) -> Result<Self> {
        let found = Self::OF_A_TRAY.into_iter().find(|(own, _)| *own == name);
        let (_, part) = found.with_context(|| {
            let names = Self::OF_A_TRAY.map(|(name, _)| name).join(", ");
            format!("nothing called {name} is measured: {names}")
        })?;
        Ok(part)
    }
}

/// A figure: what it is, and how far it should reach.
struct Figure {
    key: &'static str,
    part: Part,
    name: &'static str,
    unit: &'static str,
    /// At most; `None`: for information.
    reach: Option<f64>,
    stretch: Option<f64>,
    /// What exactly was measured.
    how: &'static str,
}

const FIGURES: &[Figure] = &[
    Figure {
        key: "bootstrap",
        part: Part::Sizes,
        name: "bootstrap kernel + initramfs, compressed",
        unit: "MiB",
        reach: Some(8.0),
        stretch: Some(6.0),
        how: "size of both files",
    },
    Figure {
        key: "bootstrap-initramfs",
        part: Part::Sizes,
        name: "bootstrap initramfs alone, zstd",
        unit: "MiB",
        reach: Some(3.0),
        stretch: None,
        how: "size of the file",
    },
    Figure {
        key: "payload",
        part: Part::Sizes,
        name: "payload (kernel + initramfs)",
        unit: "MiB",
        reach: Some(24.0),
        stretch: None,
        how: "size of both files",
    },
    Figure {
        key: "bootstrap-memory",
        part: Part::Memory,
        name: "bootstrap works in",
        unit: "MiB",
        reach: Some(192.0),
        stretch: Some(128.0),
        how: "least memory of a machine, of those tried, in which a first boot gets as far as kexec",
    },
    Figure {
        key: "kexec-uncached",
        part: Part::Instructions,
        name: "PID 1 start to kexec, nothing cached",
        unit: "G",
        reach: Some(1.46),
        stretch: Some(0.73),
        how: "instructions in PID 1 and in the kernel on its behalf (-icount, one processor, idle=poll), without waiting",
    },
    Figure {
        key: "kexec-cached",
        part: Part::Instructions,
        name: "PID 1 start to kexec, all cached and unchanged",
        unit: "G",
        reach: Some(0.5),
        stretch: None,
        how: "as before, second boot of the same card",
    },
    Figure {
        key: "one-byte",
        part: Part::Tray,
        name: "one-byte change in an image of 100 MiB: fetched",
        unit: "MiB",
        reach: Some(1.0),
        stretch: None,
        how: "all that the tray received from push to converged: TLS, commit, manifest, chunks, and the polls meanwhile",
    },
    Figure {
        key: "edit",
        part: Part::Edit,
        name: "commit pushed to microVM changed, polling every 2 s",
        unit: "s",
        reach: Some(5.0),
        stretch: None,
        how: "longest wait for a poll, and the slowest of three from the console's `accepted` to its `converged`, counted (-icount, one processor, idle=poll)",
    },
    Figure {
        key: "edit-timed",
        part: Part::Tray,
        name: "the same by the wall clock, on this machine now",
        unit: "s",
        reach: None,
        stretch: None,
        how: "slowest of three, from the end of `git push` to the console's `converged`",
    },
    Figure {
        key: "idle-memory",
        part: Part::Tray,
        name: "hypervisor OS idle, no workload: used",
        unit: "MiB",
        reach: Some(96.0),
        stretch: None,
        how: "MemTotal - MemAvailable by /v1/state, largest of the samples after `converged`",
    },
    Figure {
        key: "microvm-start",
        part: Part::Microvm,
        name: "monitor's start to the guest's first line",
        unit: "M",
        reach: Some(90.0),
        stretch: None,
        how: "instructions of the whole machine (-icount, nested SVM), median of three",
    },
    Figure {
        key: "microvm-peer",
        part: Part::Microvm,
        name: "the same, as a share of QEMU's machine microvm",
        unit: "",
        reach: None,
        stretch: None,
        how: "QEMU of this machine with the same kernel, PID 1, disk and memory, counted in the same run, median of three",
    },
    Figure {
        key: "microvm-entry",
        part: Part::Microvm,
        name: "monitor's start to the guest's first instruction",
        unit: "M",
        reach: Some(6.0),
        stretch: None,
        how: "the same kernel, but that its first instructions write to the console; looked for every millisecond, which is an M",
    },
    Figure {
        key: "microvm-restore",
        part: Part::Microvm,
        name: "monitor's start to the first instruction of a restored guest, 128 MiB",
        unit: "M",
        reach: None,
        stretch: None,
        how: "a guest that writes to the console all the time, saved and gone on; looked for every 20 us, median of three",
    },
    Figure {
        key: "microvm-restore-flat",
        part: Part::Microvm,
        name: "the same for a guest of 1 GiB: how much more",
        unit: "%",
        reach: Some(10.0),
        stretch: None,
        how: "medians of three each",
    },
    Figure {
        key: "microvm-memory",
        part: Part::Microvm,
        name: "monitor's own memory (PSS without the guest's)",
        unit: "KiB",
        reach: Some(1280.0),
        stretch: None,
        how: "sum of Pss in smaps but for the guest's memory, largest of three",
    },
    Figure {
        key: "microvm-memory-all",
        part: Part::Microvm,
        name: "the same with 8 disks and 4 cards",
        unit: "KiB",
        reach: Some(1280.0),
        stretch: None,
        how: "as before, with sockets, entropy, balloon and console, which every machine has",
    },
    Figure {
        key: "microvm-crowd",
        part: Part::Microvm,
        name: "24 guests in a machine of 2 GiB: all that their monitors take",
        unit: "MiB",
        reach: None,
        stretch: None,
        how: "sum of Pss, guests' memory included, once all commands run; guests of 64 MiB. All answer and end in order, or there is no figure",
    },
    Figure {
        key: "microvm-exits-interrupt",
        part: Part::Microvm,
        name: "exits to the monitor per interrupt of a device",
        unit: "",
        reach: Some(1.0),
        stretch: None,
        how: "calls of KVM_RUN (strace) of a guest that reads a disk, sends and takes packets, less those of one that is quiet as long",
    },
    Figure {
        key: "microvm-exits-read",
        part: Part::Microvm,
        name: "exits to the monitor per MiB read from a disk",
        unit: "",
        reach: None,
        stretch: None,
        how: "the same while 16 MiB are read in order, with the guest's page cache",
    },
    Figure {
        key: "microvm-exits-read-peer",
        part: Part::Microvm,
        name: "the same guest in QEMU's machine microvm",
        unit: "",
        reach: None,
        stretch: None,
        how: "calls of KVM_RUN of QEMU, in the same run",
    },
    Figure {
        key: "microvm-exits-packets",
        part: Part::Microvm,
        name: "exits to the monitor per 1,000 packets",
        unit: "",
        reach: None,
        stretch: None,
        how: "the same while 1,000 datagrams of 1,000 bytes are sent and as many come in, of those that passed; the mean of both ways",
    },
    Figure {
        key: "microvm-exits-packets-peer",
        part: Part::Microvm,
        name: "the same guest in QEMU's machine microvm",
        unit: "",
        reach: None,
        stretch: None,
        how: "calls of KVM_RUN of QEMU, in the same run",
    },
    Figure {
        key: "microvm-binary",
        part: Part::Microvm,
        name: "monitor's program, static, stripped",
        unit: "MiB",
        reach: Some(1.43),
        stretch: None,
        how: "size of the file",
    },
    Figure {
        key: "microvm-second",
        part: Part::Microvm,
        name: "second guest: its own pages of kernel text and rodata",
        unit: "%",
        reach: Some(15.0),
        stretch: None,
        how: "Anonymous in smaps of the kernel's first segment, of two guests of the same files",
    },
];

/// What was measured: a value and what it is made of, by the figure's key.
#[derive(Default)]
pub(crate) struct Found(pub(crate) BTreeMap<&'static str, (f64, Value)>);

impl Found {
    pub(crate) fn is(&mut self, key: &'static str, value: f64, parts: Value) {
        self.0.insert(key, (value, parts));
    }
}

fn run(bench: &str, parts: &[Part]) -> Result<()> {
    let artifacts = Artifacts::find()?;
    let mut found = Found::default();
    let mut failed = Vec::new();
    for &part in parts {
        if let Err(error) = measured(part, &artifacts, &mut found) {
            failed.push((part, format!("{error:#}")));
        }
    }
    let chosen: Vec<&Figure> = FIGURES
        .iter()
        .filter(|figure| parts.contains(&figure.part))
        .collect();
    println!("\n{}", table(&chosen, &found, &failed));
    let folder = target().join("bench");
    fs::create_dir_all(&folder).context("make target/bench")?;
    let path = folder.join(format!("{bench}.json"));
    // Of other boards stays what it says.
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut report: Value = serde_json::from_str(&before).unwrap_or_default();
    if report.get("figures").is_some() {
        report = Value::Null; // from when there was one board
    }
    report[board().name] = json!({
        "on": machine()?,
        "kernel": artifacts.linux_source()?,
        "figures": rows(&chosen, &found, &failed),
    });
    fs::write(&path, format!("{report:#}\n"))
        .with_context(|| format!("write {}", path.display()))?;
    say(&format!("also in {}", short(&path)));
    Ok(())
}

fn measured(part: Part, artifacts: &Artifacts, found: &mut Found) -> Result<()> {
    let title = match part {
        Part::Sizes => "sizes",
        Part::Instructions => "two boots, counted",
        Part::Memory => "boots in little memory",
        Part::Tray => "a tray at rest and at work",
        Part::Edit => "a tray whose workload is edited, counted",
        Part::Microvm => "microVMs, counted",
    };
    steps::step(title, None, || match part {
        Part::Sizes => measure::sizes(artifacts, found),
        Part::Instructions => measure::instructions(found),
        Part::Memory => measure::memory(found),
        Part::Tray => measure::tray(found),
        Part::Edit => measure::edit(found),
        Part::Microvm => measure::microvm(artifacts, found),
    })
}

/// What it was measured on.
fn machine() -> Result<String> {
    let board = board();
    let version = output(Command::new(&emulator(&board).program).arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    Ok(format!(
        "{version}, {} where nothing is counted",
        Accelerator::chosen().name()
    ))
}

fn verdict(figure: &Figure, value: Option<f64>) -> &'static str {
    let (Some(value), Some(reach)) = (value, figure.reach) else {
        return if value.is_none() { "not measured" } else { "" };
    };
    if figure.stretch.is_some_and(|stretch| value <= stretch) {
        "met, stretch goal too"
    } else if value <= reach {
        "met"
    } else {
        "MISSED"
    }
}

fn table(figures: &[&Figure], found: &Found, failed: &[(Part, String)]) -> String {
    let mut text = format!("{:53} {:>8} {:>9}\n", "figure", "reach", "measured");
    for figure in figures {
        let value = found.0.get(figure.key).map(|(value, _)| *value);
        let number = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        let line = format!(
            "{:53} {:>8} {:>9} {:4} {}",
            figure.name,
            number(figure.reach),
            number(value),
            figure.unit,
            verdict(figure, value),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for (part, error) in failed {
        let _ = writeln!(text, "\nnot all of {part:?} could be measured: {error}");
    }
    text
}

fn rows(figures: &[&Figure], found: &Found, failed: &[(Part, String)]) -> Vec<Value> {
    let row = |figure: &&Figure| {
        let (value, parts) = found
            .0
            .get(figure.key)
            .map_or((None, &Value::Null), |(value, parts)| (Some(*value), parts));
        let error = failed
            .iter()
            .find(|(part, _)| value.is_none() && *part == figure.part)
            .map(|(_, error)| error);
        json!({
            "key": figure.key, "figure": figure.name, "unit": figure.unit, "how": figure.how,
            "reach": figure.reach, "stretch": figure.stretch, "value": value,
            "met": value.zip(figure.reach).map(|(value, reach)| value <= reach),
            "parts": parts, "error": error,
        })
    };
    figures.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_met_missed_or_not_measured_is_told_apart() {
        let figures: Vec<&Figure> = FIGURES.iter().collect();
        let mut found = Found::default();
        found.is("bootstrap", 5.5, json!({"kernel": 4.0}));
        found.is("kexec-uncached", 1.0, Value::Null);
        found.is("kexec-cached", 0.97, Value::Null);
        found.is("edit-timed", 6.7, Value::Null);
        let failed = [(Part::Tray, "no tray".to_owned())];
        let text = table(&figures, &found, &failed);
        for (name, end) in [
            ("bootstrap kernel + initramfs", "met, stretch goal too"),
            ("PID 1 start to kexec, nothing", "met"),
            ("PID 1 start to kexec, all", "MISSED"),
            ("the same by the wall clock", "s"),
            ("hypervisor OS idle", "not measured"),
        ] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.ends_with(end), "{line}");
        }
        assert!(text.contains("no tray"));

        let rows = rows(&figures, &found, &failed);
        let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!(row("bootstrap")["met"], true);
        assert_eq!(row("kexec-cached")["met"], false);
        assert_eq!(row("edit-timed")["met"], Value::Null);
        assert_eq!(row("one-byte")["value"], Value::Null);
        assert_eq!(row("one-byte")["error"], "no tray");
        assert_eq!(row("payload")["error"], Value::Null);
    }

    #[test]
    fn every_figure_has_a_key_of_its_own() {
        let keys: std::collections::BTreeSet<_> = FIGURES.iter().map(|f| f.key).collect();
        assert_eq!(keys.len(), FIGURES.len());
    }
}
