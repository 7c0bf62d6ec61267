// SPDX-License-Identifier: Apache-2.0
//! Bounds of the configuration file: from what was written to what may be used.

use std::collections::BTreeMap;

use super::{GuestConfig, GuestOverlay, wire};
use crate::vmm::{InvalidVm, absolute, ensure, label, watchdog};

pub(super) fn command(words: &[String]) -> Result<(), InvalidVm> {
    let named = |field| ensure(false, field, "is empty: name the program to run");
    match words.first() {
        None => named("command")?,
        Some(program) if program.is_empty() => named("command[0]")?,
        Some(_) => {}
    }
    for (i, word) in words.iter().enumerate() {
        ensure(
            !word.contains('\0'),
            format!("command[{i}]"),
            "holds a NUL character",
        )?;
    }
    Ok(())
}

pub(super) fn environment(variables: &BTreeMap<String, String>) -> Result<(), InvalidVm> {
    for (name, value) in variables {
        let good = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
        ensure(
            good,
            format!("environment.{name:?}"),
            "a name holds `=` or is empty, or there is a NUL character",
        )?;
    }
    Ok(())
}

impl TryFrom<wire::GuestConfig> for GuestConfig {
    type Error = InvalidVm;

    fn try_from(w: wire::GuestConfig) -> Result<GuestConfig, InvalidVm> {
        label(&w.hostname, "hostname")?;
        command(&w.command)?;
        environment(&w.environment)?;
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
        watchdog(w.watchdog_s)?;
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
            watchdog_s: w.watchdog_s,
        })
    }
}
