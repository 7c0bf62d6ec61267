// SPDX-License-Identifier: Apache-2.0
//! The device tree: how a kernel on arm64 finds everything it cannot ask a processor for (Devicetree Specification 0.4, and
//! `Documentation/devicetree/bindings` of Linux for each node).

use vm_fdt::{Error, FdtWriter};

use super::Hardware;
use super::gic::Gic;
use super::layout::{
    CONSOLE_IRQ, CPU_INTERFACE, DISTRIBUTOR, REDISTRIBUTOR_SIZE, REDISTRIBUTORS, RTC, RTC_SIZE,
    UART, UART_SIZE, device_place,
};
use crate::virtio::MMIO_SIZE;

/// Handles by which nodes name each other.
const GIC: u32 = 1;
const CLOCK: u32 = 2;

/// First cell of an interrupt: shared between processors, or each processor's own.
const SHARED: u32 = 0;
const OWN: u32 = 1;
/// Third cell of an interrupt. An event descriptor is an edge; the timers are levels.
const EDGE: u32 = 1;
const LEVEL: u32 = 4;

/// Lines of the timers, each processor's own: secure, not secure, virtual, hypervisor's. KVM has them where the Arm Base System
/// Architecture does (interrupts 29, 30, 27 and 26, counted here from 16).
const TIMERS: [u32; 4] = [13, 14, 11, 10];

/// Bits of MPIDR_EL1 that name a processor.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Random bytes that start the guest kernel's random numbers, then those that decide where it lies in its own addresses.
pub(super) const SEEDS: (usize, usize) = (32, 8);

/// What the tree tells beside the layout.
pub(super) struct Told<'a> {
    /// First address and bytes of memory.
    pub(super) memory: (u64, u64),
    pub(super) command_line: &'a str,
    /// First address of the initramfs, and the one behind it.
    pub(super) initramfs: (u64, u64),
    /// As long as [`SEEDS`] together.
    pub(super) seed: &'a [u8],
    pub(super) hardware: &'a Hardware,
    /// How many virtio devices there are.
    pub(super) devices: u32,
}

/// The tree as bytes.
pub(super) fn tree(told: &Told<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    chosen(&mut fdt, told)?;
    let (start, size) = told.memory;
    node(&mut fdt, &format!("memory@{start:x}"), |fdt| {
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[start, size])
    })?;
    processors(&mut fdt, &told.hardware.affinities)?;
    controller(&mut fdt, told.hardware)?;
    parts(&mut fdt)?;
    for n in 0..told.devices {
        let (address, line) = device_place(n);
        node(&mut fdt, &format!("virtio_mmio@{address:x}"), |fdt| {
            fdt.property_string("compatible", "virtio,mmio")?;
            fdt.property_null("dma-coherent")?;
            fdt.property_array_u64("reg", &[address, MMIO_SIZE])?;
            fdt.property_array_u32("interrupts", &[SHARED, line, EDGE])
        })?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

fn node(
    fdt: &mut FdtWriter,
    name: &str,
    fill: impl FnOnce(&mut FdtWriter) -> Result<(), Error>,
) -> Result<(), Error> {
    let node = fdt.begin_node(name)?;
    fill(fdt)?;
    fdt.end_node(node)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn chosen(fdt: &mut FdtWriter, told: &Told<'_>) -> Result<(), Error> {
    let (random, place) = told.seed.split_at(SEEDS.0);
    node(fdt, "chosen", |fdt| {
        fdt.property_string("bootargs", told.command_line)?;
        fdt.property_string("stdout-path", &format!("/uart@{UART:x}"))?;
        let (start, end) = told.initramfs;
        // A guest may have none.
        if start < end {
            fdt.property_u64("linux,initrd-start", start)?;
            fdt.property_u64("linux,initrd-end", end)?;
        }
        fdt.property("rng-seed", random)?;
        fdt.property("kaslr-seed", place)
    })
}

fn processors(fdt: &mut FdtWriter, affinities: &[u64]) -> Result<(), Error> {
    node(fdt, "cpus", |fdt| {
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 0)?;
        for affinity in affinities.iter().map(|mpidr| mpidr & AFFINITY) {
            node(fdt, &format!("cpu@{affinity:x}"), |fdt| {
                fdt.property_string("device_type", "cpu")?;
                fdt.property_string("compatible", "arm,armv8")?;
                fdt.property_string("enable-method", "psci")?;
                fdt.property_u64("reg", affinity)
            })?;
        }
        Ok(())
    })?;
    node(fdt, "psci", |fdt| {
        fdt.property_string_list("compatible", strings(&["arm,psci-1.0", "arm,psci-0.2"]))?;
        fdt.property_string("method", "hvc")
    })?;
    node(fdt, "timer", |fdt| {
        fdt.property_string("compatible", "arm,armv8-timer")?;
        fdt.property_null("always-on")?;
        let lines: Vec<u32> = TIMERS.iter().flat_map(|line| [OWN, *line, LEVEL]).collect();
        fdt.property_array_u32("interrupts", &lines)
    })
}

fn controller(fdt: &mut FdtWriter, hardware: &Hardware) -> Result<(), Error> {
    let count = hardware.affinities.len() as u64;
    let (kind, registers) = match hardware.gic {
        Gic::V2 => ("arm,gic-400", [DISTRIBUTOR, 0x1000, CPU_INTERFACE, 0x2000]),
        Gic::V3 => (
            "arm,gic-v3",
            [
                DISTRIBUTOR,
                0x1_0000,
                REDISTRIBUTORS,
                count * REDISTRIBUTOR_SIZE,
            ],
        ),
    };
    node(fdt, &format!("intc@{DISTRIBUTOR:x}"), |fdt| {
        fdt.property_string("compatible", kind)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 3)?;
        fdt.property_u32("#address-cells", 0)?;
        fdt.property_array_u64("reg", &registers)?;
        fdt.property_phandle(GIC)
    })
}

fn parts(fdt: &mut FdtWriter) -> Result<(), Error> {
    // The bus clock that the driver of the real-time clock asks for.
    node(fdt, "apb-pclk", |fdt| {
        fdt.property_string("compatible", "fixed-clock")?;
        fdt.property_u32("#clock-cells", 0)?;
        fdt.property_u32("clock-frequency", 24_000_000)?;
        fdt.property_phandle(CLOCK)
    })?;
    node(fdt, &format!("uart@{UART:x}"), |fdt| {
        fdt.property_string("compatible", "ns16550a")?;
        fdt.property_array_u64("reg", &[UART, UART_SIZE])?;
        fdt.property_u32("clock-frequency", 1_843_200)?;
        fdt.property_array_u32("interrupts", &[SHARED, CONSOLE_IRQ, EDGE])
    })?;
    // Without a line: it gives no alarms.
    node(fdt, &format!("rtc@{RTC:x}"), |fdt| {
        fdt.property_string_list("compatible", strings(&["arm,pl031", "arm,primecell"]))?;
        fdt.property_array_u64("reg", &[RTC, RTC_SIZE])?;
        fdt.property_u32("clocks", CLOCK)?;
        fdt.property_string("clock-names", "apb_pclk")
    })
}

#[cfg(test)]
mod tests;
