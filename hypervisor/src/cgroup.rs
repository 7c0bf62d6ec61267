// SPDX-License-Identifier: Apache-2.0
//! A cgroup per microVM: a guest that spins or a monitor that leaks takes from its own share only.

use racklet_rack::Workload;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a monitor needs besides the guest's memory: itself, page tables, buffers of its devices.
const OVERHEAD: u64 = 64 << 20;
/// Threads of a monitor besides one per virtual processor.
const THREADS: u32 = 16;

/// Makes `<parent>/<name>` with the workload's limits, or adjusts them.
pub(crate) fn prepare(parent: &Path, name: &str, workload: &Workload) -> io::Result<PathBuf> {
    let folder = parent.join(name);
    fs::create_dir_all(&folder)?;
    // Controllers are handed down one level at a time; where one is absent its limit is, too.
    for above in [parent.parent(), Some(parent)].into_iter().flatten() {
        for controller in ["+memory", "+pids", "+cpu"] {
            let _ = fs::write(above.join("cgroup.subtree_control"), controller);
        }
    }
    let limits = [
        (
            "memory.max",
            (workload.memory.bytes() + OVERHEAD).to_string(),
        ),
        ("memory.swap.max", "0".to_owned()),
        ("pids.max", (workload.cpus + THREADS).to_string()),
        // 100 ms periods; a quarter of a processor more than the guest has, for the devices.
        (
            "cpu.max",
            format!("{} 100000", u64::from(workload.cpus) * 100_000 + 25_000),
        ),
    ];
    for (file, value) in limits {
        let path = folder.join(file);
        if path.exists() {
            fs::write(&path, value)?;
        }
    }
    Ok(folder)
}

/// Ends whatever is left in it, and removes it.
pub(crate) fn remove(parent: &Path, name: &str) -> io::Result<()> {
    let folder = parent.join(name);
    let kill = folder.join("cgroup.kill");
    if kill.exists() {
        fs::write(kill, "1")?;
    }
    match fs::remove_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
