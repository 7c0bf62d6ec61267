// SPDX-License-Identifier: Apache-2.0
//! Namespaces, root, user, capabilities, Landlock. Called once, while there is a single thread.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

/// A step that failed; nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("confine the monitor: {step}")]
pub(crate) struct JailError {
    step: &'static str,
    source: io::Error,
}

fn at<T>(step: &'static str, result: io::Result<T>) -> Result<T, JailError> {
    result.map_err(|source| JailError { step, source })
}

fn check(step: &'static str, result: libc::c_int) -> Result<(), JailError> {
    at(
        step,
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        },
    )
}

/// Closes what the starter left open beyond standard input, output and error.
pub(crate) fn close_inherited() {
    // SAFETY: called first in the program, when it has opened nothing itself; errors (old kernel) leave the descriptors open.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Enters a cgroup, so that all memory and time from here on is accounted there.
pub(crate) fn join_cgroup(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
}

/// Cuts the last ties to the starter: standard input, output and error become `null` (`/dev/null`).
pub(crate) fn silence(null: &fs::File) -> io::Result<()> {
    for fd in 0..=2 {
        // SAFETY: both are open descriptors; nobody in this process reads or writes 0 to 2 by another owner.
        if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Leaves the host: from here on `/` is `folder` and the process is `uid`, without any privilege.
pub(crate) fn enter(folder: &Path, uid: u32, gid: u32) -> Result<(), JailError> {
    namespaces()?;
    change_root(folder)?;
    drop_privileges(uid, gid)?;
    at("Landlock", landlock_self().map_err(io::Error::other))
}

fn namespaces() -> Result<(), JailError> {
    let new = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    // SAFETY: no pointers; the process has one thread.
    check("own namespaces (is the monitor started as root?)", unsafe {
        libc::unshare(new)
    })
}

fn mount(
    step: &'static str,
    source: Option<&Path>,
    target: &Path,
    flags: libc::c_ulong,
) -> Result<(), JailError> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let source = at(step, source.map(text).transpose())?;
    let target = at(step, text(target))?;
    let source = source.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
    // SAFETY: both strings live until after the call; type and data may be null for bind, move and propagation changes.
    let result = unsafe {
        libc::mount(
            source,
            target.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    check(step, result)
}

fn change_root(folder: &Path) -> Result<(), JailError> {
    let root = Path::new("/");
    mount(
        "make mounts private",
        None,
        root,
        libc::MS_REC | libc::MS_PRIVATE,
    )?;
    mount("mount the folder", Some(folder), folder, libc::MS_BIND)?;
    let flags =
        libc::MS_BIND | libc::MS_REMOUNT | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount("restrict the folder", None, folder, flags)?;
    at("enter the folder", std::env::set_current_dir(folder))?;
    let here = c".".as_ptr();
    // SAFETY: a static string, twice; putting the old root onto the new one is in pivot_root(2).
    if unsafe { libc::syscall(libc::SYS_pivot_root, here, here) } == 0 {
        // SAFETY: a static string.
        check("leave the old root", unsafe {
            libc::umount2(here, libc::MNT_DETACH)
        })?;
    } else {
        // An initramfs cannot be pivoted away (pivot_root(2), EINVAL): cover it. It cannot be uncovered again
        // without the privileges that are dropped next.
        mount(
            "cover the old root",
            Some(Path::new(".")),
            root,
            libc::MS_MOVE,
        )?;
        // SAFETY: a static string.
        check("change the root", unsafe { libc::chroot(here) })?;
    }
    at("enter the new root", std::env::set_current_dir(root))
}

fn drop_privileges(uid: u32, gid: u32) -> Result<(), JailError> {
    let mut capability: libc::c_ulong = 0;
    // SAFETY: plain numbers; the call fails at the first capability this kernel does not know, which ends the loop.
    while unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == 0 {
        capability += 1;
    }
    // SAFETY: no groups are read through the null pointer when the count is 0.
    check("drop groups", unsafe {
        libc::setgroups(0, std::ptr::null())
    })?;
    // SAFETY: plain numbers.
    check("change group", unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: plain numbers. Leaving user 0 clears every capability set but the bounding set, dropped above.
    check("change user", unsafe { libc::setresuid(uid, uid, uid) })?;
    // SAFETY: plain numbers.
    check("no new privileges", unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    })?;
    // SAFETY: no arguments.
    let back = unsafe { libc::setresuid(0, 0, 0) };
    if back == 0 {
        return at(
            "change user for good",
            Err(io::ErrorKind::PermissionDenied.into()),
        );
    }
    Ok(())
}

/// Best effort: a kernel without Landlock still has the root, the user and the filters around this process.
fn landlock_self() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let abi = ABI::V6;
    // What rotating logs and replacing `status.json` take; no folders, links, sockets, devices, programs.
    let own = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, own))?
        .restrict_self()?;
    Ok(())
}
