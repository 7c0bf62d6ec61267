// SPDX-License-Identifier: Apache-2.0
//! A minimal PC: no firmware, no ACPI, no PCI. An MP table for the processors, ISA ports for console and reset.

mod boot;
pub mod cmos;
mod cpu;
pub mod i8042;
mod kernel;
mod layout;
mod mptable;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VmFd};

pub use boot::{BootError, initramfs_place, prepare};
pub use cpu::Cpus;
pub use kernel::{Kernel, KernelError, load as load_kernel};
pub use layout::{device_at, device_place, ram};

pub use layout::CONSOLE_IRQ;

/// The kernel's command line for this many virtio devices.
#[must_use]
pub fn command_line(devices: u32, arguments: &str) -> String {
    // No keyboard, one UART, reset through the keyboard controller; a panic resets at once so that the monitor sees it.
    let mut line = String::from(
        "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1 i8042.noaux i8042.nokbd i8042.nomux i8042.nopnp i8042.dumbkbd \
         quiet",
    );
    if !arguments.is_empty() {
        line.push(' ');
        line.push_str(arguments);
    }
    for n in 0..devices {
        let (address, irq) = device_place(n);
        line.push_str(&format!(" virtio_mmio.device=4K@{address:#x}:{irq}"));
    }
    line
}

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

/// Gives the VM its interrupt controllers and timer.
pub fn set_up(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    vm.set_tss_address(layout::TSS)?;
    vm.set_identity_map_address(layout::IDENTITY_MAP)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_behind_ours_and_devices_last() {
        let line = command_line(2, "loglevel=7");
        assert!(line.ends_with(
            " loglevel=7 virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
        ));
    }
}
