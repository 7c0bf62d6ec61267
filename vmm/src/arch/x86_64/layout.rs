// SPDX-License-Identifier: Apache-2.0
//! Where everything lies in a guest's physical addresses, and which interrupt line is whose.
//!
//! ```text
//! 0x0000_0500  GDT            0x0000_c000  seed           0x0009_fc00  MP table
//! 0x0000_7000  zero page      0x0002_0000  command line   0x0010_0000  kernel   … initramfs at the end of low memory
//! 0x0000_9000  page tables                                0xd000_0000  virtio registers, one page each
//! 4 GiB        the rest of memory
//! ```

use crate::virtio::MMIO_SIZE;

pub(super) const GDT: u64 = 0x500;
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// The first stack grows down from here, towards the zero page's end at 0x8000.
pub(super) const STACK: u64 = 0x8ff0;
pub(super) const PML4: u64 = 0x9000;
pub(super) const PDPT: u64 = 0xa000;
pub(super) const PD: u64 = 0xb000;
pub(super) const SEED: u64 = 0xc000;
pub(super) const COMMAND_LINE: u64 = 0x2_0000;
/// The last KiB of base memory: one of the places where a kernel looks for the MP table.
pub(super) const MP_TABLE: u64 = 0x9_fc00;
/// What is above belongs to a PC's cards and firmware, up to [`KERNEL`].
pub(super) const BASE_END: u64 = 0xa_0000;
/// Below are our own tables; no kernel is loaded there.
pub(super) const KERNEL: u64 = 0x10_0000;
/// Highest address of an initramfs unless the kernel says otherwise.
pub(super) const INITRAMFS_MAX: u64 = 0x8000_0000;
pub(super) const LOW_END: u64 = 0xc000_0000;
const MMIO_START: u64 = 0xd000_0000;
pub(super) const IO_APIC: u32 = 0xfec0_0000;
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Where Intel processors without "unrestricted guest" keep their state: just below the firmware's place, outside memory.
pub(super) const IDENTITY_MAP: u64 = 0xfffb_c000;
pub(super) const TSS: usize = 0xfffb_d000;
pub(super) const HIGH_START: u64 = 1 << 32;

/// Interrupt line of the console.
pub const CONSOLE_IRQ: u32 = 4;
/// So many virtio devices have a line of their own; a machine's largest configuration must not come to more.
pub const MOST_DEVICES: u32 = 17;
/// Interrupt lines of the virtio devices. Those that a PC's own parts use and do not share are left out: 8 is the clock's, 13 the
/// coprocessor's; 23 is the I/O APIC's last.
const IRQS: [u32; MOST_DEVICES as usize] = [
    5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];

/// Ranges of guest memory (first address, bytes) for this many MiB.
#[must_use]
pub fn ram(mib: u32) -> Vec<(u64, u64)> {
    let bytes = u64::from(mib) << 20;
    if bytes <= LOW_END {
        vec![(0, bytes)]
    } else {
        vec![(0, LOW_END), (HIGH_START, bytes - LOW_END)]
    }
}

/// First register address and interrupt line of the n-th virtio device.
///
/// # Panics
/// For more devices than [`MOST_DEVICES`].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_hole_below_four_gib_free() {
        assert_eq!(ram(128), [(0, 128 << 20)]);
        assert_eq!(ram(3072), [(0, LOW_END)]);
        assert_eq!(ram(4096), [(0, LOW_END), (HIGH_START, 1024 << 20)]);
    }

    #[test]
    fn every_device_has_its_own_place_and_line() {
        let mut lines = Vec::new();
        for n in 0..MOST_DEVICES {
            let (address, irq) = device_place(n);
            assert!((5..=23).contains(&irq) && ![8, 13].contains(&irq));
            assert!(!lines.contains(&irq), "a line is one device's");
            lines.push(irq);
            assert_eq!(device_at(address + 0x50), Some((n as usize, 0x50)));
        }
        assert_eq!(device_at(MMIO_START - 1), None);
    }
}
