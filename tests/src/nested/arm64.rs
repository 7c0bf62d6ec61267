// SPDX-License-Identifier: Apache-2.0
//! The same inside an emulated arm64 machine: KVM at an emulated EL2, and Debian's kernel for machines in clouds as the host's and as
//! the guest's. It stands in for a kernel of ours, which there is none of for arm64.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{Parts, archive, line, machine, outcomes};
use crate::artifacts::Artifacts;

/// Runs these cases in a machine whose interrupt controller is a GIC of this version; gives each outcome by name.
///
/// # Errors
/// When the machine cannot be built or started, or ends before the last case: with the end of its console.
pub fn run(
    folder: &Path,
    artifacts: &Artifacts,
    gic: u8,
    only: &[&str],
) -> Result<BTreeMap<String, Value>> {
    let program = |name| -> Result<Vec<u8>> { Ok(fs::read(artifacts.arm64_program(name))?) };
    let kernel = artifacts.arm64_kernel();
    let parts = Parts {
        nested: program("nested")?,
        vmm: program("vmm")?,
        guest_init: program("guest-init")?,
        shell: None,
        modules: artifacts.arm64_modules("host")?,
        guest_kernel: fs::read(&kernel)?,
        guest_modules: artifacts.arm64_modules("guest")?,
        peer: false,
        tools: false,
    };
    let initramfs = folder.join("nested.cpio");
    fs::write(&initramfs, archive(folder, &parts)?)?;
    let kind = format!("virt,virtualization=on,gic-version={gic}");
    let mut command = machine("qemu-system-aarch64", &["-M", &kind], "1G");
    command
        // Without its own algorithm of pointer authentication an emulated processor is several times as slow.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on"])
        .args(["-smp", "2", "-kernel"])
        .arg(&kernel)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", &line("console=ttyAMA0", only)]);
    outcomes(folder, command)
}
