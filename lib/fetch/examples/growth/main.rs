// SPDX-License-Identifier: Apache-2.0
//! How the cost of what a tray and `racklet` do grows with what they do it to: `cargo xtask bench growth`.
//!
//! ```text
//! growth                  each kind of work at n and at 4 n, counted by callgrind; a table, and target/bench/growth.json
//! growth WORK N TIMES     prepares work of size N, and does it so many times
//! growth programs [PART…]  processor time of `racklet` ($RACKLET), and of borg, casync and restic where they are installed
//! ```
//!
//! Counted are the instructions of a run that does the work once, less those of one that only prepares it: the same on every
//! run, however busy the machine is. Work on four times as much may cost five times as much; what costs more is named, and the exit
//! status says so.

#![allow(
    clippy::unwrap_used,
    reason = "a tool for developers: what it makes itself is good"
)]

mod programs;
mod work;

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

/// What is measured, and the smaller of its two sizes.
const WORK: [(&str, &str, u64); 10] = [
    ("load", "workloads read and checked", 1000),
    (
        "networks",
        "networks of a rack, each with two prefixes",
        1000,
    ),
    (
        "selectors",
        "workloads and as many trays chosen by labels",
        500,
    ),
    ("keys", "keys of one mapping in a file", 1000),
    ("verify", "commits followed", 250),
    (
        "reopen",
        "workloads in a kept head that is verified again",
        1000,
    ),
    (
        "roots",
        "trust roots between the image's and the newest, at boot",
        75,
    ),
    ("split", "MiB of an image cut and compressed", 4),
    (
        "cache",
        "chunks of an image that is not whole, at each start",
        500,
    ),
    (
        "room",
        "images of 16 chunks that make room for another one",
        50,
    ),
];

/// How many times the cost of n that of 4 n may be.
const MOST: f64 = 5.0;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match &words[..] {
        [] => all(),
        [programs, only @ ..] if programs == "programs" => {
            programs::all(only);
            ExitCode::SUCCESS
        }
        [name, size, times] => {
            work::run(name, size.parse().unwrap(), times.parse().unwrap());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("growth [WORK N TIMES]");
            ExitCode::FAILURE
        }
    }
}

fn all() -> ExitCode {
    let mut json = String::new();
    let mut good = true;
    println!(
        "{:10} {:>6} {:>14} {:>14} {:>6}",
        "", "n", "n", "4 n", "times"
    );
    for (name, about, size) in WORK {
        let (Some(one), Some(four)) = (cost(name, size), cost(name, 4 * size)) else {
            eprintln!(
                "valgrind is needed to count instructions (Debian and Ubuntu: apt install valgrind)"
            );
            return ExitCode::FAILURE;
        };
        let (millions, times) = (|count: u64| count as f64 / 1e6, four as f64 / one as f64);
        let verdict = if times > MOST {
            "  grows faster than its work"
        } else {
            ""
        };
        good &= times <= MOST;
        println!(
            "{name:10} {size:>6} {:>12.1} M {:>12.1} M {times:>6.2}  {about}{verdict}",
            millions(one),
            millions(four)
        );
        let _ = writeln!(
            json,
            r#"{} {{"work":"{name}","n":{size},"instructions":{one},"instructions4n":{four}}}"#,
            if json.is_empty() { " " } else { "," }
        );
    }
    if env::var_os("RACKLET").is_some() {
        json.push_str(&programs::all(&[]));
    }
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = std::path::Path::new(&target).join("bench");
    let file = folder.join("growth.json");
    let written =
        fs::create_dir_all(&folder).and_then(|()| fs::write(&file, format!("[\n{json}]\n")));
    if let Err(error) = written {
        eprintln!("write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    println!("\n{}", file.display());
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Instructions of the work alone.
fn cost(name: &str, size: u64) -> Option<u64> {
    let with = instructions(name, size, 1)?;
    let without = instructions(name, size, 0)?;
    Some(with.saturating_sub(without).max(1))
}

fn instructions(name: &str, size: u64, times: u64) -> Option<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .args([name, &size.to_string(), &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {size}: {said}");
    let (_, count) = said.split_once("Collected : ")?;
    count.split_whitespace().next()?.parse().ok()
}
