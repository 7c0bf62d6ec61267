// SPDX-License-Identifier: Apache-2.0
//! A minimal arm64 machine: no firmware but PSCI, no PCI, no ACPI. A device tree says what there is.
//!
//! What only works out bytes and numbers is compiled for the tests of any host; the rest asks KVM.
#![cfg_attr(not(target_arch = "aarch64"), allow(dead_code, unreachable_pub))] // its callers are elsewhere

mod boot;
#[cfg(target_arch = "aarch64")]
mod cpu;
#[cfg(test)]
mod every;
#[cfg(fuzzing)]
pub mod fuzz;
mod gic;
mod image;
mod layout;
mod parts;
mod state;
mod tree;

pub use self::gic::Gic;

/// What a kernel is told of the machine beside its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// The interrupt controller.
    pub gic: Gic,
    /// What each processor calls itself (MPIDR_EL1).
    pub affinities: Vec<u64>,
}

#[cfg(all(test, target_arch = "aarch64"))]
pub(crate) use self::state::example;
#[cfg(target_arch = "aarch64")]
pub use self::{
    boot::{Boot, BootError, SEED_BYTES, initramfs_place, prepare},
    cpu::Cpus,
    here::{missing, set_up},
    image::{Kernel, KernelError, load as load_kernel},
    layout::{CONSOLE_IRQ, MOST_DEVICES, device_at, device_place, ram},
    state::{Controller, RestoreError, SaveError, Saver, State},
};
#[cfg(target_arch = "aarch64")]
pub(crate) use {
    parts::Parts,
    state::{restore, save},
};

#[cfg(target_arch = "aarch64")]
mod here {
    use kvm_bindings::{KVM_CAP_ARM_NISV_TO_USER, kvm_enable_cap};
    use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

    use super::{Controller, Hardware, cpu, gic};

    /// What this host lacks, if anything.
    #[must_use]
    pub fn missing(kvm: &Kvm) -> Option<String> {
        let wanted = [
            (Cap::Irqchip, "an interrupt controller"),
            (Cap::Irqfd, "irqfd"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::UserMemory, "user memory"),
            (Cap::OneReg, "access to registers"),
            (Cap::ArmPsci02, "PSCI 0.2"),
            (Cap::DeviceCtrl, "devices of its own"),
            (Cap::ImmediateExit, "immediate exit"),
        ];
        let lacks = wanted.iter().find(|(cap, _)| !kvm.check_extension(*cap));
        lacks.map(|(_, name)| {
            format!(
                "KVM on this host lacks {name}: a newer kernel is needed, or a processor with a GIC"
            )
        })
    }

    /// Gives the VM its processors, then its interrupt controller: it is made for as many as there are by then. The timers are the
    /// processors' own.
    pub fn set_up(
        vm: &VmFd,
        cpus: u8,
    ) -> Result<(Vec<VcpuFd>, Hardware, Controller), kvm_ioctls::Error> {
        // Where KVM can, what it cannot follow is an exit, which names a guest's fault, and not an error of the run.
        let unclear = kvm_enable_cap {
            cap: KVM_CAP_ARM_NISV_TO_USER,
            ..Default::default()
        };
        if vm.check_extension_raw(KVM_CAP_ARM_NISV_TO_USER.into()) > 0 {
            vm.enable_cap(&unclear)?;
        }
        let (vcpus, affinities) = cpu::make(vm, cpus)?;
        let (gic, device) = gic::make(vm)?;
        let controller = Controller::new(gic, device, &affinities)?;
        Ok((vcpus, Hardware { gic, affinities }, controller))
    }
}
