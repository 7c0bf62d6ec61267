// SPDX-License-Identifier: Apache-2.0
//! What a demo or a run of the tests still has to do on this machine, part by part: seconds and disk, before it starts.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::{
    architecture::Architecture,
    build::For,
    kernel, packages, paths,
    progress::{Pace, Part},
    rust, tray, zig,
};

/// Seconds that building the programs for this machine takes from nothing, on two slow cores.
const MACHINE: u64 = 180;
/// Seconds that packing takes.
pub(crate) const PACK: u64 = 12;
/// Seconds of the demo itself, trays emulated.
const DEMO: u64 = 115;

/// Something that takes time, or disk, or both.
pub(crate) struct Item {
    pub(crate) what: String,
    pub(crate) part: Part,
    /// MiB that are taken for good.
    pub(crate) mib: u64,
}

impl Item {
    fn new(what: &str, key: &str, guess: u64, mib: u64) -> Self {
        Self {
            what: what.to_owned(),
            part: Part::new(key, guess),
            mib,
        }
    }

    /// What the demo does when all is built.
    pub(crate) fn of_demo() -> Self {
        Self::new("rack, tray, workload, edit", "demo", of_demo(), 400)
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.part.expected(Pace::new())
    }
}

/// The same as [`items`], for the estimate of the whole.
pub(crate) fn parts(what: For, architectures: &[&Architecture]) -> Result<Vec<Part>> {
    Ok(items(what, architectures)?
        .into_iter()
        .map(|item| item.part)
        .collect())
}

/// What has to be done for that. Disk is what it took on x86_64 where it was measured (the kernel's source, a build folder) and a
/// guess elsewhere; what is there already takes none.
pub(crate) fn items(what: For, architectures: &[&Architecture]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut add = |what: &str, key: &str, guess: u64, mib: u64| {
        items.push(Item::new(what, key, guess, mib));
    };
    let missing = packages::all()?;
    if missing.iter().any(|package| !package.is_there()) {
        add("system packages", "apt-install", 90, 1000);
    }
    if rust::present()?.is_none() {
        add("Rust's library for trays", "rustup", 20, 350);
    }
    if zig::ZIG.present()?.is_none() {
        add("zig, which links a tray's programs", "zig", 40, 350);
    }
    let mut kernels = kernel::cached()?;
    kernels.retain(|kernel| !kernel.there && architectures.contains(&kernel.architecture));
    if !kernels.is_empty() {
        let (download, unpack) = kernel::source_is_there()?;
        if !download {
            add("the kernel's source", kernel::DOWNLOAD, 30, 150);
        }
        if !unpack {
            add("the kernel's source, unpacked", "kernel-unpack", 60, 1700);
        }
    }
    for kernel in &kernels {
        let what = format!("kernel {}", kernel.title);
        add(&what, &kernel.key, kernel.guess, 60);
    }
    let from_nothing = |there: bool, mib: u64| if there { 0 } else { mib };
    let mib = from_nothing(paths::program("tray").is_file(), 1400);
    let (key, guess) = machine();
    add("programs for this machine", &key, guess, mib);
    for architecture in architectures {
        for step in tray::steps(architecture, what) {
            let mib = from_nothing(step.is_there(architecture, what), step.mib);
            let (key, guess) = step.estimate(architecture, what);
            add(&step.title(architecture), &key, guess, mib);
        }
        let pack = format!("the operating system for {}, packed", architecture.name);
        add(&pack, "pack", PACK, 60);
    }
    if what == For::Demo {
        items.push(Item::of_demo());
    }
    Ok(items)
}

/// Seconds that the demo itself takes: as last time, which it has noted.
pub(crate) fn of_demo() -> u64 {
    let last_time = || {
        let text = fs::read_to_string(paths::target().join("demo.json")).ok()?;
        seconds_of(&serde_json::from_str(&text).ok()?)
    };
    last_time().unwrap_or(DEMO)
}

/// How long the steps of a demo took that succeeded; with what came after them, a person may have played for hours.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a demo"
)]
fn seconds_of(record: &Value) -> Option<u64> {
    record["ok"].as_bool().filter(|ok| *ok)?;
    let steps = record["steps"].as_array()?;
    let seconds: f64 = steps.iter().filter_map(|it| it["seconds"].as_f64()).sum();
    Some(seconds.round() as u64).filter(|seconds| *seconds > 0)
}

/// Key and guess of the programs for this machine.
pub(crate) fn machine() -> (String, u64) {
    of_cargo(
        "machine-programs",
        MACHINE,
        paths::program("tray").is_file(),
    )
}

/// Key and guess of a run of cargo that takes `guess` seconds from nothing. Where its products are there already it is another
/// thing, with a record of its own: cargo looks, and compiles what has changed.
pub(crate) fn of_cargo(name: &str, guess: u64, there: bool) -> (String, u64) {
    match there {
        true => (format!("{name}-again"), guess / 8),
        false => (name.to_owned(), guess),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use serde_json::json;

    #[test]
    fn only_a_demo_that_succeeded_says_how_long_the_next_will_take() {
        let steps = json!([{"seconds": 2.4}, {"seconds": 40.3}]);
        assert_eq!(seconds_of(&json!({"ok": true, "steps": steps})), Some(43));
        assert_eq!(seconds_of(&json!({"ok": false, "steps": steps})), None);
        assert_eq!(seconds_of(&json!({"ok": true, "steps": []})), None);
    }

    #[test]
    fn every_kind_of_build_has_an_estimate() {
        let whats = |what, architectures: &[&Architecture]| -> Vec<String> {
            let items = items(what, architectures).unwrap();
            assert!(items.iter().all(|item| item.seconds() > 0));
            items.into_iter().map(|item| item.what).collect()
        };
        let here = &[architecture::HERE][..];
        let trays = whats(For::Trays, here);
        assert_eq!(whats(For::Tests, here).len(), trays.len() + 1);
        assert_eq!(whats(For::Demo, here).len(), trays.len() + 1);
        let all: Vec<_> = architecture::ALL.iter().collect();
        assert!(whats(For::Trays, &all).len() > trays.len() + 2);
    }
}
