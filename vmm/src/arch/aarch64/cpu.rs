// SPDX-License-Identifier: Apache-2.0
//! What vCPUs show and how they begin.

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_SIZE_U64, kvm_vcpu_init,
};
use kvm_ioctls::{Error, Kvm, VcpuFd, VmFd};

use super::layout::RAM;

/// A register's name for KVM by its place in `struct kvm_regs`, in units of four bytes (Documentation/virt/kvm/api.rst, 4.68).
const fn core(place: u64) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | place
}
const X0: u64 = core(0);
const PC: u64 = core(0x40);
const PSTATE: u64 = core(0x42);
/// MPIDR_EL1, a system register: op0 3, op1 0, CRn 0, CRm 0, op2 5.
const MPIDR: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | 0x0013_0000 | 3 << 14 | 5;
/// The kernel's own level (EL1h), with debug exceptions, errors and interrupts masked (booting.rst).
const KERNEL: u64 = 0b0101 | 0b1111 << 6;

/// Makes the vCPUs: as the host's processor, with PSCI 0.2 and whatever newer KVM has, and with nothing that is to be asked for: no
/// counters, no virtual machines inside, no SVE, no pointer authentication. All but the first are off until PSCI switches them on.
/// Gives what each is called (MPIDR_EL1), too.
pub(super) fn make(vm: &VmFd, count: u8) -> Result<(Vec<VcpuFd>, Vec<u64>), Error> {
    let mut kind = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut kind)?;
    kind.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    let made = (0..count).map(|n| -> Result<_, Error> {
        let vcpu = vm.create_vcpu(n.into())?;
        let mut kind = kind;
        if n > 0 {
            kind.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        vcpu.vcpu_init(&kind)?;
        let mut name = [0; 8];
        vcpu.get_one_reg(MPIDR, &mut name)?;
        Ok((vcpu, u64::from_le_bytes(name)))
    });
    made.collect()
}

/// Makes vCPUs ready.
#[derive(Debug)]
pub struct Cpus;

impl Cpus {
    /// For a VM with any number of processors: what they show was decided when they were made.
    pub fn new(_kvm: &Kvm, _count: u8) -> Result<Cpus, Error> {
        Ok(Cpus)
    }

    /// Gives the first vCPU its first state: it begins at `entry` with the device tree's address. The others are given theirs by the
    /// first, through PSCI.
    pub fn set_up(&self, vcpu: &VcpuFd, index: u8, entry: u64) -> Result<(), Error> {
        if index == 0 {
            for (register, value) in [(PSTATE, KERNEL), (PC, entry), (X0, RAM)] {
                vcpu.set_one_reg(register, &value.to_le_bytes())?;
            }
        }
        Ok(())
    }
}
