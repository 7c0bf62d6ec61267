// SPDX-License-Identifier: Apache-2.0
//! A minimal PC: no firmware, no ACPI, no PCI. An MP table for the processors, ISA ports for console and reset.
//!
//! ```text
//! 0x0000_7000  zero page      0x0009_fc00  MP table      0x0010_0000  kernel   … initramfs at the end of low memory
//! 0xd000_0000  virtio registers, one page each            4 GiB        the rest of memory
//! ```

mod boot;
mod cpu;
mod kernel;
mod mptable;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VmFd};

pub use boot::{BootError, initramfs_place, prepare};
pub use cpu::Cpus;
pub use kernel::{Kernel, KernelError, load as load_kernel};

use crate::virtio::MMIO_SIZE;

const LOW_END: u64 = 0xc000_0000;
const HIGH_START: u64 = 1 << 32;
const MMIO_START: u64 = 0xd000_0000;
/// Where Intel processors without "unrestricted guest" keep their state: just below the firmware's place, outside memory.
const TSS: usize = 0xfffb_d000;
const IDENTITY_MAP: u64 = 0xfffb_c000;
const MIB: u64 = 1 << 20;

/// Interrupt line of the console.
pub const CONSOLE_IRQ: u32 = 4;
/// Interrupt lines of the virtio devices. Those that a PC's own parts use and do not share are left out: 8 is the clock's, 13 the
/// coprocessor's; 23 is the I/O APIC's last.
const IRQS: [u32; 17] = [
    5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];

/// Ranges of guest memory (first address, bytes) for this many MiB.
#[must_use]
pub fn ram(mib: u32) -> Vec<(u64, u64)> {
    let bytes = u64::from(mib) * MIB;
    if bytes <= LOW_END {
        vec![(0, bytes)]
    } else {
        vec![(0, LOW_END), (HIGH_START, bytes - LOW_END)]
    }
}

/// First register address and interrupt line of the n-th virtio device.
///
/// # Panics
/// For more devices than a checked configuration can have: 8 disks, 4 cards, sockets, entropy.
#[must_use]
pub fn device_place(n: u32) -> (u64, u32) {
    (MMIO_START + u64::from(n) * MMIO_SIZE, IRQS[n as usize])
}

/// Which virtio device a guest's access concerns, and the offset in its registers.
#[must_use]
pub fn device_at(address: u64) -> Option<(usize, u64)> {
    let offset = address.checked_sub(MMIO_START)?;
    Some((
        usize::try_from(offset / MMIO_SIZE).ok()?,
        offset % MMIO_SIZE,
    ))
}

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
    vm.set_tss_address(TSS)?;
    vm.set_identity_map_address(IDENTITY_MAP)?;
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
    fn memory_leaves_the_hole_below_four_gib_free() {
        assert_eq!(ram(128), [(0, 128 * MIB)]);
        assert_eq!(ram(3072), [(0, LOW_END)]);
        assert_eq!(ram(4096), [(0, LOW_END), (HIGH_START, 1024 * MIB)]);
    }

    #[test]
    fn every_device_has_its_own_place_and_line() {
        let mut lines = Vec::new();
        for n in 0..14 {
            let (address, irq) = device_place(n);
            assert!((5..=23).contains(&irq) && ![8, 13].contains(&irq));
            assert!(!lines.contains(&irq), "a line is one device's");
            lines.push(irq);
            assert_eq!(device_at(address + 0x50), Some((n as usize, 0x50)));
        }
        assert_eq!(device_at(MMIO_START - 1), None);
    }

    #[test]
    fn arguments_come_behind_ours_and_devices_last() {
        let line = command_line(2, "loglevel=7");
        assert!(line.ends_with(
            " loglevel=7 virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
        ));
    }
}
