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
use crate::arch::kernel::fits;
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
            let lowest = end.next_multiple_of(PAGE);
            let room = top.saturating_sub(lowest);
            for len in [
                0,
                1,
                PAGE - 1,
                PAGE,
                PAGE + 1,
                room.saturating_sub(1),
                room,
                room + 1,
                top,
                u64::MAX,
            ] {
                match initramfs_place(&memory, &kernel, len) {
                    Ok(at) => {
                        assert!(at % PAGE == 0 && at >= end && at + len <= top, "{at:#x}");
                        assert!(at + len + PAGE > top, "{at:#x} is not the highest");
                        // booting.rst: both in one window of 32 GiB.
                        assert!(at + len - KERNEL <= 32 << 30);
                    }
                    Err(BootError::Memory { initramfs }) => {
                        assert_eq!(initramfs, len);
                        assert!(
                            u128::from(lowest) + u128::from(len) > u128::from(top),
                            "{end:#x}, {len} would fit"
                        );
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
}

#[test]
fn a_kernel_lies_in_memory_behind_the_tree_or_is_refused() {
    assert_eq!(KERNEL - RAM, TREE_MAX);
    for mib in [*MEMORY_MIB.start(), 2048, 4096] {
        let memory = memory::map(&ram(mib)).unwrap();
        let end = RAM + (u64::from(mib) << 20);
        let edges = [0, RAM, KERNEL, end, u64::MAX];
        let near = |at: &u64| [at.saturating_sub(1), *at, at.saturating_add(1)];
        let edges: Vec<u64> = edges.iter().flat_map(near).collect();
        for from in &edges {
            let lengths = edges.iter().filter_map(|to| to.checked_sub(*from));
            for len in lengths.chain([1, PAGE, u64::MAX]).filter(|len| *len > 0) {
                let good =
                    *from >= KERNEL && u128::from(*from) + u128::from(len) <= u128::from(end);
                let fits = fits(&memory, KERNEL, *from, len).ok();
                assert_eq!(fits, good.then(|| from + len), "{from:#x}, {len:#x}");
            }
        }
    }
}

#[test]
fn every_register_and_every_line_of_an_arm64_machine_is_one_devices() {
    let mut lines = vec![CONSOLE_IRQ];
    for n in 0..MOST_DEVICES {
        let (registers, line) = device_place(n);
        for offset in 0..MMIO_SIZE {
            assert_eq!(device_at(registers + offset), Some((n as usize, offset)));
        }
        // Of the lines that processors share a GIC of KVM has 224.
        assert!(!lines.contains(&line) && line < 224, "line {line}");
        lines.push(line);
    }
    let devices = 0..MOST_DEVICES as usize;
    let (first, _) = device_place(0);
    let behind = first + u64::from(MOST_DEVICES) * MMIO_SIZE;
    for address in [0, DISTRIBUTOR, UART, RTC, first - 1, behind, RAM, u64::MAX] {
        let device = device_at(address).map(|(device, _)| device);
        assert!(
            !device.is_some_and(|n| devices.contains(&n)),
            "{address:#x}"
        );
    }
}
