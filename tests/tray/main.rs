// SPDX-License-Identifier: Apache-2.0
//! What needs the harness and is no test: the demo, the figures, and whether trays may run on this machine's KVM.
//! `cargo xtask` builds what is shown or measured and then starts this.
#![forbid(unsafe_code)]

mod accel;
mod bench;
mod demo;
mod measure;
mod steps;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use racklet_tests::artifacts::{Artifacts, target};

const USAGE: &str = "\
tray COMMAND
  demo SECONDS [--once]   the main job; it is thought to take this long
  bench boot [PART]...    measures a tray; all parts where none are named
  bench vmm               measures microVMs
  accel                   prints tcg or kvm, and says why";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ntray: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match *words {
        ["demo", expected] => demo::run(&arguments(expected, false)?),
        ["demo", expected, "--once"] => demo::run(&arguments(expected, true)?),
        ["bench", "vmm"] => bench::vmm(),
        ["bench", "boot", ref parts @ ..] => bench::boot(parts),
        ["accel"] => {
            println!("{}", accel::choose(&Artifacts::find()?)?.name());
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

fn arguments(expected: &str, once: bool) -> Result<demo::Arguments> {
    let expected = expected.parse().context("SECONDS is a number")?;
    Ok(demo::Arguments { once, expected })
}

/// `target/racklet/log`, where the steps of a build say what they have to say, too.
fn logs() -> Result<PathBuf> {
    let folder = target().join("racklet/log");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// `~` for the home folder, so that messages stay short.
fn short(path: &Path) -> String {
    let home = env::var_os("HOME").map(PathBuf::from);
    match home.and_then(|home| path.strip_prefix(home).ok().map(PathBuf::from)) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}
