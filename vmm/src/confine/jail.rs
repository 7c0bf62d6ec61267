// SPDX-License-Identifier: Apache-2.0
//! Namespaces, root, user, capabilities, Landlock. Called once, while there is a single thread.

use std::fs;
use std::io;
use std::os::unix::fs::chroot;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_move,
    mount_remount, unmount,
};
use rustix::process::{Gid, Uid, geteuid, pivot_root};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    unshare_unsafe,
};

/// A step that failed; nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("confine the monitor: {step}")]
pub(crate) struct JailError {
    step: &'static str,
    source: io::Error,
}

fn at<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, JailError> {
    result.map_err(|error| JailError {
        step,
        source: error.into(),
    })
}

/// Closes what the starter left open beyond standard input, output and error.
pub(crate) fn close_inherited() {
    // SAFETY: `run` calls this first, when the program has opened nothing itself, so that no descriptor from 3 on has an owner
    // here. On an error (a kernel before 5.9) they stay open.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Enters a cgroup, so that all memory and time from here on is accounted there.
pub(crate) fn join_cgroup(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
}

/// Cuts the last ties to the starter: standard input, output and error become `null` (`/dev/null`).
///
/// But for a standard input that is an empty file: that is the starter's lock, which says that this folder has a monitor exactly as
/// long as the descriptor is open. It leads nowhere: it is no directory, and the starter opened it for reading only.
pub(crate) fn silence(null: &fs::File) -> io::Result<()> {
    let input = fstat(stdin())?;
    let lock = FileType::from_raw_mode(input.st_mode).is_file() && input.st_size == 0;
    if !lock {
        dup2_stdin(null)?;
    }
    dup2_stdout(null)?;
    Ok(dup2_stderr(null)?)
}

/// Leaves the host and gives what it lacks, a line each: from here on the process is in `folder`, which is all there is (`/`) but for
/// what is lacking, and is `uid`, without any privilege.
///
/// An ordinary user's monitor stays that user (`uid` is his), and gets namespaces of its own by way of a user namespace, where the
/// host lets him make one.
///
/// The calls below change the calling thread, not the process as their namesakes in C do: there is no other thread yet, and those
/// started later inherit all of it.
pub(crate) fn enter(folder: &Path, uid: u32, gid: u32) -> Result<Vec<String>, JailError> {
    let mut lacks = Vec::new();
    let mut root = Path::new("/");
    if geteuid().is_root() {
        let unshared = unshare(OWN);
        at("own namespaces", unshared)?;
        change_root(folder)?;
        become_user(Uid::from_raw(uid), Gid::from_raw(gid))?;
    } else if unshare(OWN | UnshareFlags::NEWUSER).is_ok() {
        at("name the user in his namespace", map_user(uid, gid))?;
        change_root(folder)?;
        drop_bounding_set()?;
    } else {
        at("enter the folder", std::env::set_current_dir(folder))?;
        root = folder;
        lacks.push(NO_USER_NAMESPACE.to_owned());
    }
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    at("drop capabilities", set_capabilities(None, nothing))?;
    at("no new privileges", set_no_new_privs(true))?;
    let landlock = landlock_self(root).map_err(io::Error::other);
    lacks.extend(lacking(&at("Landlock", landlock)?));
    Ok(lacks)
}

const NO_USER_NAMESPACE: &str = "this host lets ordinary users make no user namespaces (user.max_user_namespaces, AppArmor): the \
     monitor has the host's root and network, and Landlock and system call filters alone keep it from them";

/// What a monitor has for itself, and shares with nobody.
const OWN: UnshareFlags = UnshareFlags::NEWNS
    .union(UnshareFlags::NEWNET)
    .union(UnshareFlags::NEWIPC)
    .union(UnshareFlags::NEWUTS)
    .union(UnshareFlags::NEWCGROUP);

/// What to say of a Landlock that is not all there.
fn lacking(landlock: &RulesetStatus) -> Option<String> {
    let what = match landlock {
        RulesetStatus::FullyEnforced => return None,
        RulesetStatus::PartiallyEnforced => {
            "this kernel's Landlock is older than 6.12's: what it does not know is not enforced"
        }
        RulesetStatus::NotEnforced => {
            "this kernel has no Landlock, or not in `lsm=`: root, user and system call filters alone confine the monitor"
        }
    };
    Some(what.to_owned())
}

fn unshare(new: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: what makes `unshare` unsafe is CLONE_FILES, which leaves other threads with descriptors that are not theirs: it is
    // not among [`OWN`] and NEWUSER, which are all that the only caller asks for.
    unsafe { unshare_unsafe(new) }
}

/// Gives the user the number in his namespace that he has outside (user_namespaces(7)). Groups can be named only by who cannot change
/// the set of them.
fn map_user(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn change_root(folder: &Path) -> Result<(), JailError> {
    let root = Path::new("/");
    at(
        "make mounts private",
        mount_change(
            root,
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        ),
    )?;
    at("mount the folder", mount_bind(folder, folder))?;
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    at("restrict the folder", mount_remount(folder, flags, c""))?;
    at("enter the folder", std::env::set_current_dir(folder))?;
    // Putting the old root onto the new one is in pivot_root(2).
    if pivot_root(c".", c".").is_ok() {
        at("leave the old root", unmount(c".", UnmountFlags::DETACH))?;
    } else {
        // An initramfs cannot be pivoted away (pivot_root(2), EINVAL): cover it. It cannot be uncovered again
        // without the privileges that are dropped next.
        at("cover the old root", mount_move(c".", root))?;
        at("change the root", chroot("."))?;
    }
    at("enter the new root", std::env::set_current_dir(root))
}

fn drop_bounding_set() -> Result<(), JailError> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // the first that this kernel does not know: it was the last
            Err(error) => return at("drop capabilities", Err(error)),
        }
    }
    Ok(())
}

fn become_user(uid: Uid, gid: Gid) -> Result<(), JailError> {
    drop_bounding_set()?;
    at("drop groups", set_thread_groups(&[]))?;
    at("change group", set_thread_res_gid(gid, gid, gid))?;
    // Leaving user 0 clears every capability set but the bounding set, dropped above.
    at("change user", set_thread_res_uid(uid, uid, uid))?;
    if set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
        return at("change user for good", Err(Errno::PERM));
    }
    Ok(())
}

/// Best effort: a kernel without Landlock still has the root, the user and the filters around this process.
fn landlock_self(root: &Path) -> Result<RulesetStatus, Box<dyn std::error::Error + Send + Sync>> {
    let abi = ABI::V6;
    // What rotating logs and replacing `status.json` take; no folders, links, sockets, devices, programs.
    let own = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(root)?, own))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landlock_that_is_not_all_there_is_named() {
        assert_eq!(lacking(&RulesetStatus::FullyEnforced), None);
        for (status, words) in [
            (RulesetStatus::PartiallyEnforced, "older"),
            (RulesetStatus::NotEnforced, "no Landlock"),
        ] {
            let said = lacking(&status).expect("something is lacking");
            assert!(said.contains(words), "{said}");
        }
    }
}
