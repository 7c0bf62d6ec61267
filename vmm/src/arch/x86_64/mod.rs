// SPDX-License-Identifier: Apache-2.0
//! A minimal PC: no firmware, no ACPI, no PCI. An MP table for the processors, ISA ports for console and reset.

mod boot;
mod cmos;
mod cpu;
#[cfg(test)]
mod every;
mod i8042;
mod kernel;
mod layout;
mod mptable;
mod parts;
mod state;

use kvm_bindings::{
    KVM_CAP_PMU_CAPABILITY, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE, kvm_enable_cap,
    kvm_pit_config,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

pub use boot::{Boot, BootError, SEED_BYTES, initramfs_place, prepare};
pub use cpu::Cpus;
pub use kernel::{Kernel, KernelError, load as load_kernel};
pub use layout::{CONSOLE_IRQ, MOST_DEVICES, device_at, device_place, ram};
pub(crate) use parts::Parts;
#[cfg(test)]
pub(crate) use state::example;
pub use state::{RestoreError, SaveError, Saver, State};
pub(crate) use state::{restore, save};

/// What this host lacks, if anything.
#[must_use]
pub fn missing(kvm: &Kvm) -> Option<String> {
    let wanted = [
        (Cap::Irqchip, "an interrupt controller"),
        (Cap::Irqfd, "irqfd"),
        (Cap::Ioeventfd, "ioeventfd"),
        (Cap::UserMemory, "user memory"),
        (Cap::SetTssAddr, "TSS address"),
        (Cap::SetIdentityMapAddr, "identity map address"),
        (Cap::Pit2, "a timer"),
        (Cap::ExtCpuid, "CPUID"),
        (Cap::ImmediateExit, "immediate exit"),
    ];
    if let Some((_, name)) = wanted.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        return Some(format!(
            "KVM on this host lacks {name}: a newer kernel is needed"
        ));
    }
    cpu::missing(kvm)
}

/// Where KVM can, no vCPU has performance counters: masked in CPUID alone, AMD's oldest four would still be reached.
fn without_counters(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let can = vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into());
    if u32::try_from(can).is_ok_and(|can| can & KVM_PMU_CAP_DISABLE != 0) {
        vm.enable_cap(&kvm_enable_cap {
            cap: KVM_CAP_PMU_CAPABILITY,
            args: [KVM_PMU_CAP_DISABLE.into(), 0, 0, 0],
            ..Default::default()
        })?;
    }
    Ok(())
}

/// What a kernel is told of the machine beside its devices.
#[derive(Debug, Clone, Copy)]
pub struct Hardware {
    /// Processors, for the MP table: 1 to 32.
    pub cpus: u8,
}

/// By which interrupt controllers are saved: by nothing of their own. The VM's descriptor reaches them.
pub struct Controller;

/// Gives the VM its interrupt controllers and timer, then its processors.
pub fn set_up(
    vm: &VmFd,
    cpus: u8,
) -> Result<(Vec<VcpuFd>, Hardware, Controller), kvm_ioctls::Error> {
    vm.set_tss_address(layout::TSS)?;
    vm.set_identity_map_address(layout::IDENTITY_MAP)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..Default::default()
    })?;
    without_counters(vm)?;
    let vcpus: Result<_, _> = (0..cpus).map(|n| vm.create_vcpu(u64::from(n))).collect();
    Ok((vcpus?, Hardware { cpus }, Controller))
}
