// SPDX-License-Identifier: Apache-2.0
//! Bounds of the configuration file: from what was written to what may be used.

use std::path::{Component, Path};

use racklet_rack::capacity::{CPUS, MEMORY_MIB};

use super::{VmConfig, wire};

/// Why a configuration is refused. `field` is the path of the field as it is written in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidVm {
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

fn refuse<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, InvalidVm> {
    Err(InvalidVm {
        field: field.into(),
        problem: problem.into(),
    })
}

pub(crate) fn ensure(
    holds: bool,
    field: impl Into<String>,
    problem: impl Into<String>,
) -> Result<(), InvalidVm> {
    if holds {
        Ok(())
    } else {
        refuse(field, problem)
    }
}

pub(crate) fn label(text: &str, field: &str) -> Result<(), InvalidVm> {
    racklet_rack::name::check("microVM", text).or_else(|e| refuse(field, e.to_string()))
}

pub(crate) fn absolute(path: &Path, field: impl Into<String>) -> Result<(), InvalidVm> {
    let plain = path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let nul = path.as_os_str().as_encoded_bytes().contains(&0);
    ensure(
        plain && !nul,
        field,
        format!("{} is not an absolute path without `..`", path.display()),
    )
}

/// Spare places included. With 4 cards, sockets, entropy and balloon that is 15 devices of the 17 that a PC's interrupt controller has
/// lines for.
const MOST_DISKS: usize = 8;

/// From a sector to what no offset of a file comes near.
pub(super) fn can_be_a_disk(bytes: u64) -> bool {
    (512..=1 << 60).contains(&bytes)
}

pub(super) fn serial(text: &str, field: impl Into<String>) -> Result<(), InvalidVm> {
    ensure(
        text.len() <= 20 && text.bytes().all(|b| b.is_ascii_graphic()),
        field,
        "not at most 20 printable ASCII characters",
    )
}

/// The same in both files of a microVM.
pub(crate) fn watchdog(seconds: Option<u32>) -> Result<(), InvalidVm> {
    ensure(
        seconds.is_none_or(|s| (10..=3600).contains(&s)),
        "watchdog_s",
        "is not within 10 to 3600",
    )
}

/// A guest begins with its kernel or goes on from a snapshot.
fn origin(w: &wire::VmConfig) -> Result<(), InvalidVm> {
    match (&w.kernel, &w.restore) {
        (Some(kernel), None) => absolute(kernel, "kernel"),
        (None, Some(folder)) => {
            let begins = !w.initramfs.is_empty() || !w.arguments.is_empty();
            ensure(
                !begins,
                "restore",
                "a guest that goes on has its initramfs and arguments already: leave them out",
            )?;
            absolute(folder, "restore")
        }
        (Some(_), Some(_)) => refuse(
            "restore",
            "a guest that goes on has its kernel already: leave out `kernel`",
        ),
        (None, None) => refuse("kernel", "missing, and there is no `restore`"),
    }
}

impl TryFrom<wire::VmConfig> for VmConfig {
    type Error = InvalidVm;

    fn try_from(w: wire::VmConfig) -> Result<VmConfig, InvalidVm> {
        label(&w.name, "name")?;
        ensure(
            CPUS.contains(&u32::from(w.cpus)),
            "cpus",
            format!(
                "{} is not within {} to {}",
                w.cpus,
                CPUS.start(),
                CPUS.end()
            ),
        )?;
        ensure(
            MEMORY_MIB.contains(&w.memory_mib),
            "memory_mib",
            format!(
                "{} is not within {} to {}",
                w.memory_mib,
                MEMORY_MIB.start(),
                MEMORY_MIB.end()
            ),
        )?;
        let most = super::balloon::most(w.memory_mib);
        ensure(
            w.balloon_mib <= most,
            "balloon_mib",
            format!(
                "{} of {} MiB are more than {most}: a guest keeps {}",
                w.balloon_mib,
                w.memory_mib,
                MEMORY_MIB.start()
            ),
        )?;
        origin(&w)?;
        ensure(w.initramfs.len() <= 8, "initramfs", "more than 8 archives")?;
        for (i, path) in w.initramfs.iter().enumerate() {
            absolute(path, format!("initramfs[{i}]"))?;
        }
        ensure(
            w.arguments.len() <= 1024,
            "arguments",
            "longer than 1024 bytes",
        )?;
        ensure(
            w.arguments.bytes().all(|b| (b' '..=b'~').contains(&b)),
            "arguments",
            "holds a character that is not printable ASCII",
        )?;
        ensure(w.disks.len() <= MOST_DISKS, "disks", "more than 8")?;
        ensure(
            w.disks.len() + usize::from(w.spare_disks) <= MOST_DISKS,
            "spare_disks",
            "with `disks` more than 8",
        )?;
        ensure(
            w.spare_disk_bytes.is_none_or(can_be_a_disk)
                && (w.spare_disk_bytes.is_none() || w.spare_disks > 0),
            "spare_disk_bytes",
            "not within 512 to 2^60, or without `spare_disks`",
        )?;
        for (i, disk) in w.disks.iter().enumerate() {
            absolute(&disk.path, format!("disks[{i}].path"))?;
            serial(&disk.serial, format!("disks[{i}].serial"))?;
            ensure(
                disk.read_only || disk.verity.is_none(),
                format!("disks[{i}].verity"),
                "of a disk that is written",
            )?;
            let most = disk.grows_to.is_none_or(can_be_a_disk);
            ensure(
                most && (disk.grows_to.is_none() || disk.verity.is_none()),
                format!("disks[{i}].grows_to"),
                "not within 512 to 2^60, or of a file whose digest is known",
            )?;
        }
        ensure(w.networks.len() <= 4, "networks", "more than 4")?;
        for (i, network) in w.networks.iter().enumerate() {
            let name = (1..=15).contains(&network.tap.len())
                && network
                    .tap
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
                && !matches!(network.tap.as_str(), "." | "..");
            ensure(
                name,
                format!("networks[{i}].tap"),
                format!("{:?} is not a device name", network.tap),
            )?;
            ensure(
                (1280..=9000).contains(&network.mtu),
                format!("networks[{i}].mtu"),
                "not within 1280 to 9000",
            )?;
        }
        ensure(
            w.vsock_cid >= 3 && w.vsock_cid != u32::MAX,
            "vsock_cid",
            format!("{} is reserved; use 3 or more", w.vsock_cid),
        )?;
        let own = |id: u32| id != 0 && id != u32::MAX;
        ensure(
            own(w.confinement.uid),
            "confinement.uid",
            "the monitor needs a user of its own, not root",
        )?;
        ensure(
            own(w.confinement.gid),
            "confinement.gid",
            "the monitor needs a group of its own, not root's",
        )?;
        if let Some(cgroup) = &w.confinement.cgroup {
            absolute(cgroup, "confinement.cgroup")?;
        }
        ensure(
            (4096..=1 << 30).contains(&w.log_bytes),
            "log_bytes",
            "not within 4096 to 1073741824",
        )?;
        watchdog(w.watchdog_s)?;
        Ok(VmConfig {
            v: w.v,
            name: w.name,
            cpus: w.cpus,
            memory_mib: w.memory_mib,
            balloon_mib: w.balloon_mib,
            kernel: w.kernel,
            restore: w.restore,
            initramfs: w.initramfs,
            arguments: w.arguments,
            disks: w.disks,
            spare_disks: w.spare_disks,
            spare_disk_bytes: w.spare_disk_bytes,
            networks: w.networks,
            vsock_cid: w.vsock_cid,
            confinement: w.confinement,
            watchdog_s: w.watchdog_s,
            log_bytes: w.log_bytes,
        })
    }
}
