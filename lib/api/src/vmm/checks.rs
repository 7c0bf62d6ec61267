// SPDX-License-Identifier: Apache-2.0
//! Bounds of the two configuration files: from what was written to what may be used.

use std::path::{Component, Path};

use racklet_rack::capacity::{CPUS, MEMORY_MIB};

use super::{GuestConfig, GuestOverlay, VmConfig, wire};

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

fn ensure(
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

fn label(text: &str, field: &str) -> Result<(), InvalidVm> {
    racklet_rack::name::check("microVM", text).or_else(|e| refuse(field, e.to_string()))
}

fn absolute(path: &Path, field: impl Into<String>) -> Result<(), InvalidVm> {
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
        absolute(&w.kernel, "kernel")?;
        ensure(
            (1..=8).contains(&w.initramfs.len()),
            "initramfs",
            "1 to 8 archives are needed",
        )?;
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
        ensure(w.disks.len() <= 8, "disks", "more than 8")?;
        for (i, disk) in w.disks.iter().enumerate() {
            absolute(&disk.path, format!("disks[{i}].path"))?;
            let serial =
                disk.serial.len() <= 20 && disk.serial.bytes().all(|b| b.is_ascii_graphic());
            ensure(
                serial,
                format!("disks[{i}].serial"),
                "not at most 20 printable ASCII characters",
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
        Ok(VmConfig {
            v: w.v,
            name: w.name,
            cpus: w.cpus,
            memory_mib: w.memory_mib,
            kernel: w.kernel,
            initramfs: w.initramfs,
            arguments: w.arguments,
            disks: w.disks,
            networks: w.networks,
            vsock_cid: w.vsock_cid,
            confinement: w.confinement,
            log_bytes: w.log_bytes,
        })
    }
}

impl TryFrom<wire::GuestConfig> for GuestConfig {
    type Error = InvalidVm;

    fn try_from(w: wire::GuestConfig) -> Result<GuestConfig, InvalidVm> {
        label(&w.hostname, "hostname")?;
        ensure(
            !w.command.is_empty(),
            "command",
            "is empty: name the program to run",
        )?;
        ensure(
            !w.command[0].is_empty(),
            "command[0]",
            "is empty: name the program to run",
        )?;
        for (i, argument) in w.command.iter().enumerate() {
            ensure(
                !argument.contains('\0'),
                format!("command[{i}]"),
                "holds a NUL character",
            )?;
        }
        for (name, value) in &w.environment {
            let good = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
            ensure(
                good,
                format!("environment.{name:?}"),
                "a name holds `=` or is empty, or there is a NUL character",
            )?;
        }
        absolute(&w.working_directory, "working_directory")?;
        if let GuestOverlay::Memory { size_mib } = w.overlay {
            ensure(
                size_mib >= 1,
                "overlay.size_mib",
                "is 0; use kind `none` for a read-only root",
            )?;
        }
        for (i, volume) in w.volumes.iter().enumerate() {
            absolute(&volume.path, format!("volumes[{i}].path"))?;
            ensure(
                (1..8).contains(&volume.disk),
                format!("volumes[{i}].disk"),
                "is not within 1 to 7",
            )?;
            let taken = volume.disk == 1 && w.overlay == GuestOverlay::Disk;
            ensure(
                !taken,
                format!("volumes[{i}].disk"),
                "disk 1 already holds the overlay",
            )?;
        }
        ensure(w.networks.len() <= 4, "networks", "more than 4")?;
        for (i, network) in w.networks.iter().enumerate() {
            ensure(
                network.addresses.len() <= 8,
                format!("networks[{i}].addresses"),
                "more than 8",
            )?;
            let fours = network.gateways.iter().filter(|g| g.is_ipv4()).count();
            let one_each = fours <= 1 && network.gateways.len() - fours <= 1;
            ensure(
                one_each,
                format!("networks[{i}].gateways"),
                "more than one per address family",
            )?;
        }
        ensure(w.dns.len() <= 8, "dns", "more than 8")?;
        ensure(w.grace_s <= 3600, "grace_s", "more than 3600")?;
        Ok(GuestConfig {
            v: w.v,
            hostname: w.hostname,
            command: w.command,
            environment: w.environment,
            working_directory: w.working_directory,
            user: w.user,
            overlay: w.overlay,
            volumes: w.volumes,
            networks: w.networks,
            dns: w.dns,
            grace_s: w.grace_s,
        })
    }
}
