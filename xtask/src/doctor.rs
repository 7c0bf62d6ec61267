// SPDX-License-Identifier: Apache-2.0
//! What is missing on this machine and why it is needed, and what a demo would take. Changes nothing, unless asked to take back
//! what was changed.

use std::process::Command;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    architecture,
    arguments::Given,
    build::For,
    estimate::{self, Item},
    kernel, lint, packages, paths,
    process::output,
    progress::human,
    rust, zig,
};

/// Two machines of 1 GiB and a linker.
const MEMORY_GIB: u64 = 4;

/// Lines under a heading.
struct Section {
    /// For JSON.
    key: &'static str,
    title: &'static str,
    lines: Vec<Line>,
}

struct Line {
    there: bool,
    name: String,
    reason: String,
}

impl Line {
    fn new(there: bool, name: &str, reason: impl Into<String>) -> Self {
        Self {
            there,
            name: name.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Prints the report; fails if something is missing that a run would not bring by itself.
pub(crate) fn run(given: &Given) -> Result<()> {
    if given.has("--undo") {
        return packages::undo();
    }
    let demo = estimate::items(For::Demo, &[architecture::HERE])?;
    let packages = of(packages::all()?);
    let missing: Vec<String> = packages
        .iter()
        .filter(|line| !line.there)
        .map(|line| line.name.clone())
        .collect();
    let sections = [
        Section {
            key: "packages",
            title: "System packages",
            lines: packages,
        },
        Section {
            key: "hardware",
            title: "For the hardware only: brought by `cargo xtask hardware`",
            lines: of(packages::hardware()?),
        },
        Section {
            key: "brought",
            title: "Brought by `cargo xtask test` and `cargo xtask demo` themselves",
            lines: brought()?,
        },
        Section {
            key: "machine",
            title: "The machine",
            lines: machine(demo.iter().map(|item| item.mib).sum())?,
        },
    ];
    if given.has("--json") {
        println!("{:#}", json(&sections, &demo, &missing));
    } else {
        print!("{}", text(&sections, &demo));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "{} system packages are missing; `cargo xtask test` installs them where it may, or by hand:\n\n  sudo apt-get install --no-install-recommends -y {}",
        missing.len(),
        missing.join(" ")
    )
}

fn of(packages: Vec<packages::Package>) -> Vec<Line> {
    packages
        .iter()
        .map(|package| Line::new(package.is_there(), package.name(), &*package.reason))
        .collect()
}

fn brought() -> Result<Vec<Line>> {
    let library = match rust::present()? {
        Some(rust::Library::Prebuilt) => "prebuilt by rustup",
        Some(rust::Library::Source { .. }) => "built from its source",
        None => "",
    };
    let mut lines = vec![
        Line::new(
            !library.is_empty(),
            "Rust's library for trays",
            format!(
                "compiles for {} {library}",
                rust::targets().collect::<Vec<_>>().join(", ")
            ),
        ),
        Line::new(
            zig::ZIG.present()?.is_some(),
            "zig",
            "links the static programs of a tray",
        ),
        Line::new(
            lint::deny()?.is_some(),
            "cargo-deny",
            "checks licences, advisories and sources of dependencies (tests only)",
        ),
    ];
    for kernel in kernel::cached()? {
        lines.push(Line::new(
            kernel.there,
            &format!("kernel {}", kernel.title),
            "is built from the distribution's source",
        ));
    }
    Ok(lines)
}

/// `needed` is what a demo would add to the disk, in MiB.
fn machine(needed: u64) -> Result<Vec<Line>> {
    let target = paths::target();
    let folder = target.ancestors().find(|path| path.exists());
    let free = output(
        Command::new("df")
            .args(["--output=avail", "-k"])
            .args(folder),
    )?;
    let free: u64 = free
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0);
    let memory = paths::available_memory()?;
    Ok(vec![
        Line::new(
            free >> 10 >= needed,
            "disk",
            format!(
                "{} free, a demo adds about {}",
                gib(free >> 10),
                gib(needed)
            ),
        ),
        Line::new(
            memory >= MEMORY_GIB << 20,
            "memory",
            format!(
                "{} available, demo and tests take up to {MEMORY_GIB}",
                gib(memory >> 10)
            ),
        ),
        Line::new(
            true,
            "processor",
            "trays run in QEMU: on KVM where a guest runs, else emulated",
        ),
    ])
}

fn gib(mib: u64) -> String {
    let tenths = (mib * 10).div_ceil(1024);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn seconds(demo: &[Item]) -> u64 {
    demo.iter().map(Item::seconds).sum()
}

fn text(sections: &[Section], demo: &[Item]) -> String {
    let mut text = String::new();
    for Section { title, lines, .. } in sections {
        text += &format!("{title}\n");
        for line in lines {
            let mark = if line.there { "ok  " } else { "MISS" };
            text += &format!("  {mark} {:26} {}\n", line.name, line.reason);
        }
        text += "\n";
    }
    text += "What `cargo xtask demo` still takes here: as long as last time, or at a guess\n";
    for item in demo {
        let disk = match item.mib {
            0 => String::new(),
            mib => gib(mib),
        };
        let line = format!("  {:46} {:>11} {disk:>9}", item.what, human(item.seconds()));
        text += &format!("{}\n", line.trim_end());
    }
    let mib = demo.iter().map(|item| item.mib).sum();
    text + &format!(
        "  {:46} {:>11} {:>9}\n",
        "in all",
        human(seconds(demo)),
        gib(mib)
    )
}

fn json(sections: &[Section], demo: &[Item], missing: &[String]) -> Value {
    let mut value = json!({
        "missing": missing,
        "demo": {
            "seconds": seconds(demo),
            "mib": demo.iter().map(|item| item.mib).sum::<u64>(),
            "parts": demo.iter().map(|item| json!({
                "what": item.what, "seconds": item.seconds(), "mib": item.mib,
            })).collect::<Vec<_>>(),
        },
    });
    for section in sections {
        let lines = section
            .lines
            .iter()
            .map(|line| json!({"name": line.name, "there": line.there, "reason": line.reason}));
        value[section.key] = lines.collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_the_same_as_text_and_as_json() {
        let demo = [Item::of_demo()];
        let sections = [Section {
            key: "packages",
            title: "System packages",
            lines: vec![
                Line::new(true, "git", "keeps"),
                Line::new(false, "qemu", "boots"),
            ],
        }];
        let text = text(&sections, &demo);
        assert!(
            text.contains("  ok   git                        keeps\n"),
            "{text}"
        );
        assert!(text.contains("  MISS qemu"), "{text}");
        let total = text.lines().last().unwrap();
        assert!(
            total.starts_with("  in all") && total.ends_with("0.4 GiB"),
            "{total}"
        );

        let json = json(&sections, &demo, &["qemu".to_owned()]);
        assert_eq!(json["packages"][1]["there"], false);
        assert_eq!(json["missing"], json!(["qemu"]));
        assert_eq!(json["demo"]["mib"], 400);
        assert_eq!(json["demo"]["seconds"], json["demo"]["parts"][0]["seconds"]);
    }

    #[test]
    fn disk_is_never_rounded_down() {
        assert_eq!(gib(1024), "1.0 GiB");
        assert_eq!(gib(1025), "1.1 GiB");
    }
}
