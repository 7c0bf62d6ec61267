// SPDX-License-Identifier: Apache-2.0
//! Where tests make their repositories: in memory, if there is room.
//!
//! A test of the command line makes some thousand files and removes them again, most of them by git, within seconds. On ext4 each
//! new one then looks through the inodes that were freed in the last five seconds (`recently_deleted` in the kernel's
//! `fs/ext4/ialloc.c`, so that a crash cannot mix up old and new): a third of all processor time of these tests.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::{paths, process::output};

/// Memory as a file system, on every Linux that has POSIX shared memory.
const MEMORY: &str = "/dev/shm";
/// So much must be free of it, and of memory, in KiB: the tests below have at most some 300 MiB at once.
const ROOM: u64 = 3 << 20;
/// Packages whose tests use git or ssh-keygen all the time and ask nothing of the file system: no direct or mapped writes, no attributes, no sealing.
pub(super) const IN_MEMORY: [&str; 5] = [
    "racklet-cli",
    "racklet-fetch",
    "racklet-follow",
    "racklet-hypervisor",
    "racklet-trust",
];
const PREFIX: &str = "racklet-tests-";

/// The folder, which goes with the value.
pub(super) struct Scratch(Option<PathBuf>);

impl Scratch {
    /// None where there is no such file system, or too little room.
    pub(super) fn make() -> Self {
        let top = Path::new(MEMORY);
        sweep(top);
        let has_room = room(top).min(paths::available_memory().ok()) >= Some(ROOM);
        Self(has_room.then(|| folder(top)).flatten())
    }

    /// What `TMPDIR` is for the tests of a package, where it is not the user's.
    pub(super) fn of(&self, package: &str) -> Option<&Path> {
        self.0.as_deref().filter(|_| IN_MEMORY.contains(&package))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // Whoever runs tests next sweeps again.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A folder of this process alone. Others may write to the one that it is in: what is there already is not ours.
fn folder(top: &Path) -> Option<PathBuf> {
    let folder = top.join(format!("{PREFIX}{}", process::id()));
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    made.ok().map(|()| folder)
}

/// Removes what runs that were killed have left.
fn sweep(top: &Path) {
    let Ok(entries) = fs::read_dir(top) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let is_process = process.parse::<u32>().is_ok();
        if is_process && !Path::new("/proc").join(process).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// KiB free in a file system that is memory.
fn room(top: &Path) -> Option<u64> {
    let mut df = Command::new("df");
    df.args(["-k", "--output=fstype,avail"]).arg(top);
    let told = output(&mut df).ok()?;
    let (kind, free) = told.lines().nth(1)?.trim().split_once(' ')?;
    (kind == "tmpfs").then(|| free.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_runs_left_is_removed_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        // No process has this number: it is above the largest that Linux gives (2^22).
        let (left, ours) = (format!("{PREFIX}4200000"), folder(top.path()).unwrap());
        for name in [&*left, "racklet-tests-x", "sem.4200000"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        fs::write(top.path().join(&left).join("file"), "").unwrap();
        sweep(top.path());
        assert!(!top.path().join(&left).exists() && ours.exists());
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 3);
        assert_eq!(folder(top.path()), None, "it is there already");
    }

    #[test]
    fn the_folder_goes_with_the_value_and_is_for_some_packages() {
        let top = tempfile::tempdir().unwrap();
        let scratch = Scratch(folder(top.path()));
        assert!(scratch.of("racklet-cli").is_some_and(Path::is_dir));
        assert_eq!(scratch.of("racklet-linux"), None);
        assert_eq!(Scratch(None).of("racklet-cli"), None);
        drop(scratch);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_memory_has_room() {
        assert_eq!(room(Path::new("/proc")), None);
        assert_eq!(room(Path::new("/nowhere")), None);
    }
}
