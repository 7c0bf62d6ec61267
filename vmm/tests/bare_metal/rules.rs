// SPDX-License-Identifier: Apache-2.0
//! Every rule of the filters lets something pass that the monitor does: all guests of this program run once more, and another process
//! looks at each system call of their monitors (`racklet_watch`). A rule that none of them needs is named.
//!
//! Once for the monitor that is built with this program, and once for the one that is on a tray, which has another C library, another
//! allocator therefore, and no checks of a debug build. On arm64 the guests of `tests/tests/microvm_arm64.rs` are looked at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, io};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::possible;

/// A folder for what watchers saw; guests are watched where it is set.
const SEEN: &str = "RACKLET_TEST_RULES_SEEN";
/// In a watcher: the monitor's number, and where its gate is.
const WATCHED: &str = "RACKLET_TEST_RULES_WATCHED";
/// A folder with a tray's programs: `vmm`, and `nested`, which watches it.
const TRAY: &str = "RACKLET_TEST_RULES_TRAY";
/// The same, for the run that is watched.
const PROGRAMS: &str = "RACKLET_TEST_RULES_PROGRAMS";
const TEST: &str = "rules::each_rule_of_the_filters_is_needed_by_some_guest";
/// One that looks at a thread of its monitor itself, which only one may, and one whose guest has to be faster than a disk's thread that
/// is watched.
const NOT_WATCHED: [&str; 2] = [
    "a_disk_that_stands_still_holds_up_neither_registers_nor_the_control_socket",
    "a_guest_that_keeps_its_disk_busy_is_still_answered_for_reset_and_ended",
];

/// Holds a monitor back until it is watched: a named pipe that nobody has opened for writing yet.
pub(super) struct Gate {
    seen: PathBuf,
    pipe: PathBuf,
}

/// What starts the monitor, and what it waits for where it is to be watched.
pub(super) fn monitor(folder: &Path) -> (Command, Option<Gate>) {
    let program = match env::var_os(PROGRAMS) {
        Some(tray) => PathBuf::from(tray).join("vmm"),
        None => env!("CARGO_BIN_EXE_vmm").into(),
    };
    let Some(seen) = env::var_os(SEEN) else {
        return (Command::new(program), None);
    };
    let pipe = folder.join("gate");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("makes a pipe");
    let mut shell = Command::new("sh");
    // The same process, and its input is the monitor's.
    shell
        .args(["-c", ": <\"$1\"; exec \"$0\" \"$2\""])
        .arg(program);
    shell.arg(&pipe);
    let seen = PathBuf::from(seen);
    (shell, Some(Gate { seen, pipe }))
}

impl Gate {
    pub(super) fn watch(&self, monitor: &Child) -> Child {
        let number = monitor.id().to_string();
        let mut watcher = match env::var_os(PROGRAMS) {
            Some(tray) => {
                let mut watcher = Command::new(Path::new(&tray).join("nested"));
                watcher
                    .arg("watch")
                    .arg(number)
                    .args([&self.pipe, &self.seen]);
                watcher
            }
            None => {
                let program = env::current_exe().expect("a test knows its program");
                let mut watcher = Command::new(program);
                watcher.args(["--exact", TEST, "--nocapture"]);
                watcher.env(WATCHED, format!("{number} {}", self.pipe.display()));
                watcher
            }
        };
        watcher
            .stdout(io::stderr())
            .spawn()
            .expect("a watcher starts")
    }
}

/// Runs all guests with these programs, watched; gives what was needed.
fn needed(programs: Option<&Path>) -> BTreeSet<String> {
    let seen = tempfile::tempdir().expect("a scratch folder");
    let program = env::current_exe().expect("a test knows its program");
    let mut again = Command::new(program);
    again
        .args(["--skip", "rules::"])
        .args(NOT_WATCHED.iter().flat_map(|test| ["--skip", test]))
        .env(SEEN, seen.path())
        .envs(programs.map(|programs| (PROGRAMS, programs)));
    let output = again.output();
    let output = output.expect("the test's program can be started again");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    racklet_watch::seen(seen.path()).expect("reads")
}

#[test]
fn each_rule_of_the_filters_is_needed_by_some_guest() {
    if !possible() {
        return;
    }
    if let Ok(watched) = env::var(WATCHED) {
        let (process, pipe) = watched.split_once(' ').expect("two words");
        let to = PathBuf::from(env::var_os(SEEN).expect("set by the same"));
        let process = process.parse().expect("a number");
        racklet_watch::watch(process, Path::new(pipe), &to).expect("it may be watched");
        return;
    }
    let used = needed(None);
    let never: BTreeSet<_> = racklet_watch::all().filter(|r| !used.contains(r)).collect();
    assert!(never.is_empty(), "nothing needs {never:#?}");
}

#[test]
fn each_rule_of_the_filters_on_a_tray_is_needed_by_some_guest() {
    if !possible() {
        return;
    }
    let Some(programs) = env::var_os(TRAY).map(PathBuf::from) else {
        eprintln!(
            "not tried: {TRAY} names no folder of a tray's programs (`cargo xtask test` does)"
        );
        return;
    };
    let used = needed(Some(&programs));
    let all = Command::new(programs.join("nested")).arg("rules").output();
    let all = all.expect("the program is there").stdout;
    let all = String::from_utf8(all).expect("text");
    assert!(all.lines().count() > 60, "{all}");
    let never: BTreeSet<_> = all.lines().filter(|rule| !used.contains(*rule)).collect();
    assert!(never.is_empty(), "nothing needs {never:#?}");
}
