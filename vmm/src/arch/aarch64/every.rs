// SPDX-License-Identifier: Apache-2.0
//! The map of a guest's addresses for every size of memory that a document may name.

use racklet_rack::capacity::{CPUS, MEMORY_MIB};

use super::boot::{BootError, initramfs_place};
use super::image::Kernel;
use super::layout::{
    CONSOLE_IRQ, CPU_INTERFACE, DISTRIBUTOR, INITRAMFS_MAX, KERNEL, MOST_DEVICES, RAM,
    REDISTRIBUTOR_SIZE, REDISTRIBUTORS, RTC, RTC_SIZE, TREE_MAX, UART, UART_SIZE, device_at,
    device_place, ram,
};
use crate::arch::every::{Devices, is_taken_where_it_fits, lies_as_high_as_it_may};
use crate::memory;
use crate::virtio::MMIO_SIZE;

/// The largest page of a host or guest.
const PAGE: u64 = 0x1_0000;

#[test]
fn memory_of_every_size_is_where_no_register_of_an_arm64_machine_is() {
    let (first, _) = device_place(0);
    let registers = [
        (DISTRIBUTOR, PAGE),
        (CPU_INTERFACE, PAGE),
        (REDISTRIBUTORS, u64::from(*CPUS.end()) * REDISTRIBUTOR_SIZE),
        (UART, UART_SIZE),
        (RTC, RTC_SIZE),
        (first, u64::from(MOST_DEVICES) * MMIO_SIZE),
    ];
    for mib in MEMORY_MIB {
        let ram = ram(mib);
        let [(from, len)] = ram[..] else {
            panic!("one range: {ram:?}");
        };
        assert_eq!((from, len), (RAM, u64::from(mib) << 20));
        // The smallest guest-physical space that KVM gives without being asked (KVM_CAP_ARM_VM_IPA_SIZE): 40 bits.
        assert!(from + len <= 1 << 40);
        assert!(registers.iter().all(|(at, size)| at + size <= from));
    }
}

#[test]
fn an_arm64_initramfs_lies_as_high_as_it_may_or_nowhere_at_every_size_and_length() {
    for mib in (*MEMORY_MIB.start()..3073)
        .step_by(7)
        .chain([2047, 2048, 2049])
    {
        let memory = memory::map(&ram(mib)).unwrap();
        let top = (RAM + (u64::from(mib) << 20)).min(INITRAMFS_MAX);
        for end in [
            KERNEL,
            KERNEL + 1,
            KERNEL + (top - KERNEL) / 2,
            top - PAGE - 1,
            top - PAGE,
            top - 1,
            top,
            top + 1,
        ] {
            let kernel = Kernel { entry: KERNEL, end };
            lies_as_high_as_it_may(end, top, PAGE, |len| {
                match initramfs_place(&memory, &kernel, len) {
                    Ok(at) => {
                        // booting.rst: both in one window of 32 GiB.
                        assert!(at + len - KERNEL <= 32 << 30);
                        Ok(at)
                    }
                    Err(BootError::Memory { initramfs }) => Err(initramfs),
                    Err(e) => panic!("{e}"),
                }
            });
        }
    }
}

#[test]
fn a_kernel_lies_in_memory_behind_the_tree_or_is_refused() {
    assert_eq!(KERNEL - RAM, TREE_MAX);
    for mib in [*MEMORY_MIB.start(), 2048, 4096] {
        let ram = ram(mib);
        let memory = memory::map(&ram).unwrap();
        let end = RAM + (u64::from(mib) << 20);
        let edges = [0, RAM, KERNEL, end, u64::MAX];
        is_taken_where_it_fits(&memory, &ram, KERNEL, &edges, PAGE);
    }
}

#[test]
fn every_register_and_every_line_of_an_arm64_machine_is_one_devices() {
    let devices = Devices {
        most: MOST_DEVICES,
        place: device_place,
        at: device_at,
    };
    // Of the lines that processors share a GIC of KVM has 224.
    devices.have_their_own(
        &[CONSOLE_IRQ],
        224,
        &[0, DISTRIBUTOR, UART, RTC, RAM, u64::MAX],
    );
}
