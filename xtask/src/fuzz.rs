// SPDX-License-Identifier: Apache-2.0
//! Runs every target of `fuzz/` for a while. Finds them by looking; needs a compiler with coverage, not a nightly one.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{arguments::Given, paths, process::describe, progress};

/// What `cargo fuzz` passes: coverage for libFuzzer, overflow checks and debug assertions.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(given: &Given) -> Result<()> {
    let seconds: u32 = given.value("--seconds").unwrap_or("30").parse()?;
    let wanted = |name: &String| {
        given.words.is_empty() || given.words.iter().any(|part| name.contains(part))
    };
    let fuzz = paths::workspace().join("fuzz");
    let target = paths::target().join("fuzz");
    progress::run(
        "fuzz targets",
        "fuzz-build",
        120,
        Command::new("cargo")
            .current_dir(&fuzz)
            .args(["build", "--release", "--bins", "--target", TRIPLE])
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", FLAGS),
    )?;
    let mut names: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))
        .context("folder fuzz/fuzz_targets")?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(wanted)
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("there is no fuzz target of that name in fuzz/fuzz_targets");
    }
    let mut crashed = Vec::new();
    for name in &names {
        let corpus = paths::made(fuzz.join("corpus").join(name))?;
        let found = paths::made(fuzz.join("artifacts").join(name))?;
        let mut command = Command::new(target.join(TRIPLE).join("release").join(name));
        command
            .arg(format!("-max_total_time={}", seconds))
            .args(["-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(&corpus);
        let seeds = fuzz.join("seeds").join(name);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        let key = format!("fuzz-{name}");
        if let Err(error) = progress::run(
            &format!("fuzz {name}"),
            &key,
            u64::from(seconds),
            &mut command,
        ) {
            eprintln!("{error:#}\n  again: {}", describe(&command));
            crashed.push(name.as_str());
        }
    }
    if !crashed.is_empty() {
        bail!(
            "found something: {} (inputs in fuzz/artifacts/)",
            crashed.join(", ")
        );
    }
    Ok(())
}
