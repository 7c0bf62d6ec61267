// SPDX-License-Identifier: Apache-2.0
//! Where everything lies in a guest's physical addresses, and which interrupt line is whose.
//!
//! ```text
//! 0x0800_0000  interrupt controller: distributor     0x0900_0000  console     0x0a00_0000  virtio registers, one page each
//! 0x0801_0000  GICv2: processors' interface          0x0901_0000  clock
//! 0x0802_0000  GICv3: redistributors
//! 1 GiB        memory: 2 MiB with the device tree, kernel, … initramfs
//! ```
//!
//! What KVM or a guest may have to map (the controller, console, clock) begins at a multiple of 64 KiB and has 64 KiB to itself, so that
//! hosts and guests with the largest pages work.

use crate::virtio::MMIO_SIZE;

/// The controller's distributor: 4 KiB in version 2, 64 KiB in version 3.
pub(super) const DISTRIBUTOR: u64 = 0x0800_0000;
/// Version 2: what a processor reads and acknowledges its interrupts through, the same address for each.
pub(super) const CPU_INTERFACE: u64 = 0x0801_0000;
/// Version 3: two frames of 64 KiB for each processor.
pub(super) const REDISTRIBUTORS: u64 = 0x0802_0000;
/// Bytes for each processor there.
pub(super) const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// Registers of the console.
pub(super) const UART: u64 = 0x0900_0000;
/// Bytes of its registers.
pub(super) const UART_SIZE: u64 = 8;
/// Registers of the clock.
pub(super) const RTC: u64 = 0x0901_0000;
/// Bytes of its registers.
pub(super) const RTC_SIZE: u64 = 0x1000;
const MMIO_START: u64 = 0x0a00_0000;
/// First address of memory, and of the device tree.
pub(super) const RAM: u64 = 0x4000_0000;
/// Most bytes of the device tree. It must not cross a multiple of 2 MiB (`Documentation/arch/arm64/booting.rst`).
pub(super) const TREE_MAX: u64 = 0x20_0000;
/// A kernel lies so many bytes (`text_offset`) behind this multiple of 2 MiB, and never below.
pub(super) const KERNEL: u64 = RAM + TREE_MAX;
/// Highest address of an initramfs: a kernel wants it within 32 GiB of itself (booting.rst); less keeps both in one mapping.
pub(super) const INITRAMFS_MAX: u64 = RAM + (2 << 30);

/// Interrupt line of the console. Lines are counted as KVM's irqfd and a device tree count them: among those that all processors
/// share (SPI).
pub const CONSOLE_IRQ: u32 = 1;
/// Line of the first virtio device. KVM's controllers have 224 lines.
const FIRST_IRQ: u32 = 16;
/// So many virtio devices have a line of their own; a machine's largest configuration must not come to more. Lines and addresses would
/// do for 208: the event loop has 32 bits for its devices.
pub const MOST_DEVICES: u32 = 32;

/// Ranges of guest memory (first address, bytes) for this many MiB.
#[must_use]
pub fn ram(mib: u32) -> Vec<(u64, u64)> {
    vec![(RAM, u64::from(mib) << 20)]
}

/// First register address and interrupt line of the n-th virtio device.
#[must_use]
pub fn device_place(n: u32) -> (u64, u32) {
    (MMIO_START + u64::from(n) * MMIO_SIZE, FIRST_IRQ + n)
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

    /// The largest page of a host or guest.
    const PAGE: u64 = 0x1_0000;

    #[test]
    fn nothing_overlaps_and_what_is_mapped_shares_no_page() {
        let (first, _) = device_place(0);
        let (last, line) = device_place(MOST_DEVICES - 1);
        let places = [
            (DISTRIBUTOR, PAGE),
            (CPU_INTERFACE, PAGE),
            (REDISTRIBUTORS, 32 * REDISTRIBUTOR_SIZE),
            (UART, UART_SIZE),
            (RTC, RTC_SIZE),
            (first, last + MMIO_SIZE - first),
            (RAM, 64 << 30),
        ];
        for (n, (from, _)) in places.iter().enumerate() {
            assert_eq!(from % PAGE, 0, "{from:#x}");
            if let Some((next, _)) = places.get(n + 1) {
                assert!(
                    from + places[n].1.next_multiple_of(PAGE) <= *next,
                    "{from:#x}"
                );
            }
        }
        assert!(line < 224);
        assert_eq!((KERNEL % (2 << 20), TREE_MAX), (0, 2 << 20));
    }

    #[test]
    fn every_device_has_its_own_place_and_line() {
        for n in 0..MOST_DEVICES {
            let (address, line) = device_place(n);
            assert_eq!(line, FIRST_IRQ + n);
            assert_eq!(device_at(address + 0x50), Some((n as usize, 0x50)));
        }
        assert_eq!(device_at(MMIO_START - 1), None);
        assert_eq!(ram(128), [(RAM, 128 << 20)]);
    }
}
