// SPDX-License-Identifier: Apache-2.0
//! The map of a guest's addresses for every size of memory that a document may name.

use racklet_rack::capacity::MEMORY_MIB;

use super::boot::{BootError, initramfs_place, memory_map};
use super::kernel::Kernel;
use super::layout::{
    BASE_END, COMMAND_LINE, CONSOLE_IRQ, GDT, HIGH_START, IDENTITY_MAP, INITRAMFS_MAX, IO_APIC,
    KERNEL, LOCAL_APIC, LOW_END, MOST_DEVICES, MP_TABLE, PD, PDPT, PML4, SEED, STACK, TSS,
    ZERO_PAGE, device_at, device_place, ram,
};
use crate::arch::every::{Devices, is_taken_where_it_fits, lies_as_high_as_it_may};
use crate::memory;
use crate::virtio::MMIO_SIZE;

const PAGE: u64 = 4096;
/// A size whose memory is on both sides of the hole, and 1 MiB is above it.
const PAST_THE_HOLE: u32 = 3073;

/// First address and bytes of each, in this order and apart from each other.
#[track_caller]
fn apart(places: &[(u64, u64)]) {
    for pair in places.windows(2) {
        let [(from, len), (next, _)] = pair else {
            unreachable!("windows of two");
        };
        assert!(
            from + len <= *next,
            "{from:#x} + {len:#x} is over {next:#x}"
        );
    }
}

fn registers() -> [(u64, u64); 4] {
    let (first, _) = device_place(0);
    [
        (first, u64::from(MOST_DEVICES) * MMIO_SIZE),
        (IO_APIC.into(), PAGE),
        (LOCAL_APIC.into(), PAGE),
        // A page of Intel's, then three for the task state segment (KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR).
        (IDENTITY_MAP, PAGE + 3 * PAGE),
    ]
}

#[test]
fn memory_of_every_size_is_all_there_and_nowhere_where_something_else_is() {
    for mib in MEMORY_MIB {
        let ram = ram(mib);
        let bytes: u64 = ram.iter().map(|(_, len)| len).sum();
        assert_eq!(bytes, u64::from(mib) << 20);
        assert!(
            ram.iter()
                .all(|(from, len)| from % PAGE == 0 && *len > 0 && len % PAGE == 0)
        );
        let mut places = ram;
        places.extend(registers());
        places.sort_unstable();
        apart(&places);
        assert_eq!(places[0].0, 0, "where the tables and the kernel are");
        // Processors that can have as much memory have 39 bits of addresses or more.
        let (last, len) = places[places.len() - 1];
        assert!(last + len <= 1 << 39, "{mib} MiB");
    }
}

#[test]
fn what_a_kernel_is_told_of_memory_is_what_there_is_at_every_size_around_the_hole() {
    for mib in (*MEMORY_MIB.start()..=PAST_THE_HOLE).chain([*MEMORY_MIB.end()]) {
        let ram = ram(mib);
        let memory = memory::map(&ram).unwrap();
        let map = memory_map(&memory);
        let places: Vec<_> = map.iter().map(|(from, len, _)| (*from, *len)).collect();
        apart(&places);
        let usable = map.iter().filter(|(.., kind)| *kind == 1);
        for (from, len, _) in usable.clone() {
            let inside = |(start, size): &(u64, u64)| start <= from && from + len <= start + size;
            assert!(ram.iter().any(inside), "{from:#x} is no memory");
        }
        // All but what a PC has between base memory and 1 MiB.
        let told: u64 = usable.map(|(_, len, _)| len).sum();
        assert_eq!(told, (u64::from(mib) << 20) - (KERNEL - MP_TABLE));
    }
}

#[test]
fn an_initramfs_lies_as_high_as_it_may_or_nowhere_at_every_size_and_length() {
    for mib in
        (*MEMORY_MIB.start()..=PAST_THE_HOLE)
            .step_by(7)
            .chain([2048, 2049, 3072, PAST_THE_HOLE])
    {
        let memory = memory::map(&ram(mib)).unwrap();
        let top = (u64::from(mib) << 20).min(LOW_END).min(INITRAMFS_MAX);
        for end in [
            KERNEL,
            KERNEL + 1,
            top / 2,
            top - PAGE - 1,
            top - PAGE,
            top - 1,
            top,
            top + 1,
            HIGH_START,
        ] {
            let kernel = Kernel {
                entry: KERNEL,
                end,
                header: None,
            };
            lies_as_high_as_it_may(end, top, PAGE, |len| {
                match initramfs_place(&memory, &kernel, len) {
                    Ok(at) => Ok(at),
                    Err(BootError::Memory { initramfs }) => Err(initramfs),
                    Err(e) => panic!("{e}"),
                }
            });
        }
    }
}

#[test]
fn a_kernel_lies_in_one_piece_of_memory_above_the_tables_or_is_refused() {
    for mib in [*MEMORY_MIB.start(), 3071, 3072, PAST_THE_HOLE, 4096] {
        let ram = ram(mib);
        let memory = memory::map(&ram).unwrap();
        let mut edges: Vec<u64> = ram
            .iter()
            .flat_map(|(from, len)| [*from, from + len])
            .collect();
        edges.extend([KERNEL, LOW_END, HIGH_START, 1 << 40, u64::MAX]);
        is_taken_where_it_fits(&memory, &ram, KERNEL, &edges, PAGE);
    }
}

#[test]
fn the_tables_are_below_the_kernel_and_apart() {
    apart(&[
        (GDT, 8 * super::cpu::GDT_ENTRIES.len() as u64),
        (ZERO_PAGE, PAGE),
        (ZERO_PAGE + PAGE, STACK - ZERO_PAGE - PAGE),
        (PML4, PAGE),
        (PDPT, PAGE),
        (PD, PAGE),
        (SEED, 48),
        (COMMAND_LINE, 2048),
        (MP_TABLE, BASE_END - MP_TABLE),
        (KERNEL, 1),
    ]);
    for cpus in racklet_rack::capacity::CPUS {
        let cpus = u8::try_from(cpus).unwrap();
        let table = super::mptable::table(cpus).len();
        assert!(table <= 1024, "{cpus} processors: {table}");
    }
}

#[test]
fn every_register_is_its_own_devices_and_every_line_is_one_devices() {
    let devices = Devices {
        most: MOST_DEVICES,
        place: device_place,
        at: device_at,
    };
    let taken = [
        0, // the timer's
        1, // the keyboard's
        2, // the second 8259's
        CONSOLE_IRQ,
        8,  // the clock's
        13, // the coprocessor's
    ];
    let elsewhere = [0, LOW_END, IO_APIC.into(), TSS as u64, HIGH_START, u64::MAX];
    devices.have_their_own(&taken, 24, &elsewhere);
}
