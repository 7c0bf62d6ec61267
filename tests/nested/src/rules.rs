// SPDX-License-Identifier: Apache-2.0
//! Which rules of the monitor's filters the cases need: with the word `watched` on the kernel's command line each monitor is looked at
//! by another process. The same process looks at monitors of bare guests (`vmm/tests/bare_metal/rules.rs`).

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

/// This program, in the machine.
const PROGRAM: &str = "/init";
/// What watchers saw.
const SEEN: &str = "/run/seen";

/// Holds a monitor back until it is watched: a named pipe that nobody has opened for writing yet.
pub(crate) struct Gate(PathBuf);

/// What starts the monitor, and what it waits for where it is to be watched.
pub(crate) fn monitor(program: &str, folder: &Path) -> (Command, Option<Gate>) {
    if !Path::new(SEEN).exists() {
        return (Command::new(program), None);
    }
    let pipe = folder.join("gate");
    // Cases start a second monitor in the same folder.
    let _ = fs::remove_file(&pipe);
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("/run is writable");
    let mut command = Command::new(PROGRAM);
    command.arg("gated").arg(&pipe).arg(program);
    (command, Some(Gate(pipe)))
}

impl Gate {
    pub(crate) fn watch(&self, monitor: u32) -> Child {
        let mut command = Command::new(PROGRAM);
        command.arg("watch").arg(monitor.to_string());
        let watcher = command.arg(&self.0).arg(SEEN).spawn();
        watcher.expect("this program is in the initramfs")
    }
}

/// From here on monitors are watched.
pub(crate) fn begin() {
    fs::create_dir(SEEN).expect("/run is writable");
}

/// The outcome of a case of its own: which rules nothing needed.
pub(crate) fn never() -> Value {
    let used = racklet_watch::seen(Path::new(SEEN)).expect("/run can be read");
    let (needed, never): (Vec<_>, Vec<_>) = racklet_watch::all().partition(|r| used.contains(r));
    json!({"needed": needed.len(), "never": never})
}

/// Waits until the monitor that it becomes is watched.
pub(crate) fn gated(gate: &str, program: &str, folder: &str) -> io::Result<i32> {
    File::open(gate)?;
    Err(Command::new(program).arg(folder).exec())
}

/// Watches a monitor until its end.
pub(crate) fn watch(process: &str, gate: &str, to: &str) -> io::Result<i32> {
    let process = process.parse().map_err(io::Error::other)?;
    racklet_watch::watch(process, Path::new(gate), Path::new(to)).map(|()| 0)
}

/// Says all rules of the monitor that is built with this, but for those that no guest has to need.
pub(crate) fn say() -> io::Result<i32> {
    racklet_watch::all().for_each(|rule| println!("{rule}"));
    Ok(0)
}
