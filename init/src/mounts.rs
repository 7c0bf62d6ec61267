// SPDX-License-Identifier: Apache-2.0
//! The file systems that Linux itself provides.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_move};

/// A file system could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("mount {kind} at {at}")]
pub(crate) struct MountError {
    kind: &'static str,
    at: String,
    #[source]
    source: io::Error,
}

const HARMLESS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// `/proc`, `/sys`, `/dev`, `/run`: what every process expects.
pub(crate) fn basic() -> Result<(), MountError> {
    pseudo("proc", "/proc", HARMLESS, c"")?;
    pseudo("sysfs", "/sys", HARMLESS, c"")?;
    pseudo(
        "devtmpfs",
        "/dev",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"",
    )?;
    pseudo("tmpfs", "/run", HARMLESS, c"mode=0755,size=50%")
}

/// What only the hypervisor OS needs besides.
pub(crate) fn full() -> Result<(), MountError> {
    pseudo("cgroup2", "/sys/fs/cgroup", HARMLESS, c"nsdelegate")?;
    pseudo(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"mode=0600,ptmxmode=0000",
    )
    .or_else(|error| {
        // Nothing of ours needs terminals: a kernel without them is fine.
        if error.source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    pseudo("tmpfs", "/tmp", HARMLESS, c"mode=1777,size=25%")
}

/// Mounts a file system that has no device.
pub(crate) fn pseudo(
    kind: &'static str,
    at: &str,
    flags: MountFlags,
    data: &CStr,
) -> Result<(), MountError> {
    let mounted = fs::create_dir_all(at).and_then(|()| match mount(kind, at, kind, flags, data) {
        // Mounted by the kernel or by the stage before.
        Err(rustix::io::Errno::BUSY) => Ok(()),
        other => Ok(other?),
    });
    mounted.map_err(|source| MountError {
        kind,
        at: at.to_owned(),
        source,
    })
}

/// Mounts a file system on a device.
pub(crate) fn device(
    kind: &'static str,
    device: &Path,
    at: &str,
    flags: MountFlags,
    data: &CStr,
) -> Result<(), MountError> {
    let mounted = fs::create_dir_all(at).and_then(|()| {
        Ok(mount(
            device,
            at,
            kind,
            HARMLESS | MountFlags::NOATIME | flags,
            data,
        )?)
    });
    mounted.map_err(|source| MountError {
        kind,
        at: at.to_owned(),
        source,
    })
}

/// Shows what is mounted at `from` also at `to`.
pub(crate) fn also_at(from: &str, to: &str) -> Result<(), MountError> {
    let mounted = fs::create_dir_all(to).and_then(|()| Ok(mount_bind(from, to)?));
    mounted.map_err(|source| MountError {
        kind: "a second view",
        at: to.to_owned(),
        source,
    })
}

/// Moves what is mounted at `from` over what is at `to`.
pub(crate) fn move_to(from: &str, to: &str) -> Result<(), MountError> {
    mount_move(from, to).map_err(|source| MountError {
        kind: "what was prepared",
        at: to.to_owned(),
        source: source.into(),
    })
}

/// Which of the kernel's messages reach the console; its log keeps them all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KernelTalk {
    /// Warnings and worse: our lines are not torn.
    Warnings,
    /// All but debugging: for the moment of kexec, where the kernel's own last line is worth having.
    All,
}

/// Sets it. Not worth an error: only looks are lost.
pub(crate) fn kernel_talk(talk: KernelTalk) {
    let level = match talk {
        KernelTalk::Warnings => "4",
        KernelTalk::All => "7",
    };
    let _ = fs::write("/proc/sys/kernel/printk", level);
}
