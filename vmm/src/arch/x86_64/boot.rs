// SPDX-License-Identifier: Apache-2.0
//! What a kernel finds in memory when it is entered: zero page, command line, page tables, MP table, initramfs
//! (Linux/x86 64-bit boot protocol, `Documentation/arch/x86/boot.rst`).

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::kernel::Kernel;
use super::layout::{
    BASE_END, COMMAND_LINE, GDT, HIGH_START, INITRAMFS_MAX, KERNEL, LOW_END, MP_TABLE, PD, PDPT,
    PML4, SEED, ZERO_PAGE, device_place,
};
use super::{Hardware, mptable};
use crate::devices::balloon;
use crate::memory::Memory;

/// What x86 kernels accept at most.
const COMMAND_LINE_MAX: usize = 2048;
const PAGE: u64 = 4096;
/// Random bytes that a kernel is given.
pub const SEED_BYTES: usize = 32;
const SETUP_RNG_SEED: u32 = 9;

/// Why a guest cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// What is left of the memory below 2 GiB and above the kernel is smaller than the initramfs.
    #[error(
        "kernel and initramfs ({initramfs} bytes) do not fit into the guest's memory: raise it"
    )]
    Memory {
        /// Bytes of the initramfs.
        initramfs: u64,
    },
    /// The command line is longer than a kernel reads.
    #[error(
        "the kernel command line has {0} bytes, more than {COMMAND_LINE_MAX}: shorten `arguments`"
    )]
    CommandLine(usize),
    /// Cannot happen with a memory of at least 32 MiB.
    #[error("a boot table does not fit into guest memory")]
    Table(#[from] vm_memory::GuestMemoryError),
}

fn low_end(memory: &Memory) -> u64 {
    memory.last_addr().0.saturating_add(1).min(LOW_END)
}

/// Where an initramfs of `len` bytes lies: as high as it may, above the kernel.
pub fn initramfs_place(memory: &Memory, kernel: &Kernel, len: u64) -> Result<u64, BootError> {
    let top = low_end(memory).min(INITRAMFS_MAX);
    let place = top
        .checked_sub(len)
        .map(|at| at / PAGE * PAGE)
        .filter(|at| *at >= kernel.end);
    place.ok_or(BootError::Memory { initramfs: len })
}

/// What a machine is started with, beside its kernel.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The user's own arguments for the kernel.
    pub arguments: &'a str,
    /// How many virtio devices there are; each is at its `device_place`.
    pub devices: u32,
    /// First address and bytes of the initramfs.
    pub initramfs: (u64, u64),
    /// What [`super::set_up`] has made.
    pub hardware: &'a Hardware,
    /// Starts the guest kernel's random numbers.
    pub seed: [u8; SEED_BYTES],
}

/// The kernel's command line.
fn command_line(devices: u32, cpus: u8, arguments: &str) -> String {
    // No keyboard, one UART, reset through the keyboard controller; a panic resets at once so that the monitor sees it.
    let mut line = String::from(
        "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1 i8042.noaux i8042.nokbd i8042.nomux i8042.nopnp i8042.dumbkbd \
         quiet ",
    );
    line.push_str(balloon::ARGUMENT);
    if cpus == 1 {
        // Its locks need no prefix; to take them out, Linux would write to a third of the pages of its code, which are then no
        // longer shared with other guests.
        line.push_str(" noreplace-smp");
        // By default Linux takes 2 MiB for what each processor has for itself, clears them and gives most of them back: 4 of the 92
        // million instructions to a guest's first line (`cargo xtask bench vmm`). The price is that these few dozen pages are mapped
        // one by one; with several processors, which use them more, it keeps its way.
        line.push_str(" percpu_alloc=page");
    }
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

/// Writes all tables into memory, below 1 MiB, and nothing above. The kernel and the initramfs are there already.
pub fn prepare(memory: &Memory, kernel: &Kernel, boot: &Boot<'_>) -> Result<(), BootError> {
    let command_line = command_line(boot.devices, boot.hardware.cpus, boot.arguments);
    if command_line.len() >= COMMAND_LINE_MAX {
        return Err(BootError::CommandLine(command_line.len()));
    }
    memory.write_slice(command_line.as_bytes(), GuestAddress(COMMAND_LINE))?;
    memory.write_slice(&mptable::table(boot.hardware.cpus), GuestAddress(MP_TABLE))?;

    // The first GiB, as itself, in pages of 2 MiB.
    memory.write_obj(PDPT | 3, GuestAddress(PML4))?;
    memory.write_obj(PD | 3, GuestAddress(PDPT))?;
    for n in 0..512u64 {
        memory.write_obj(n << 21 | 0x83, GuestAddress(PD + 8 * n))?;
    }
    for (n, entry) in super::cpu::GDT_ENTRIES.iter().enumerate() {
        memory.write_obj(*entry, GuestAddress(GDT + 8 * n as u64))?;
    }

    let mut setup_data = [0; 48];
    setup_data[8..12].copy_from_slice(&SETUP_RNG_SEED.to_le_bytes());
    setup_data[12..16].copy_from_slice(&32u32.to_le_bytes()); // SEED_BYTES
    setup_data[16..].copy_from_slice(&boot.seed);
    memory.write_slice(&setup_data, GuestAddress(SEED))?;

    memory.write_slice(
        &zero_page(memory, kernel, command_line.len(), boot.initramfs),
        GuestAddress(ZERO_PAGE),
    )?;
    Ok(())
}

/// Ranges of addresses: the first, bytes, and 1 for memory or 2 for what is to be left alone.
pub(super) fn memory_map(memory: &Memory) -> Vec<(u64, u64, u8)> {
    let mut map = vec![(0, MP_TABLE, 1), (MP_TABLE, BASE_END - MP_TABLE, 2)];
    map.push((KERNEL, low_end(memory) - KERNEL, 1));
    if memory.last_addr().0 >= HIGH_START {
        map.push((HIGH_START, memory.last_addr().0 + 1 - HIGH_START, 1));
    }
    map
}

fn zero_page(
    memory: &Memory,
    kernel: &Kernel,
    command_line: usize,
    initramfs: (u64, u64),
) -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    let low32 = |value: u64| {
        u32::try_from(value & 0xffff_ffff)
            .expect("masked")
            .to_le_bytes()
    };
    match &kernel.header {
        Some(header) => put(0x1f1, header),
        None => {
            put(0x1fe, &0xaa55u16.to_le_bytes());
            put(0x202, b"HdrS");
            put(0x206, &0x020cu16.to_le_bytes());
            put(0x230, &0x0100_0000u32.to_le_bytes()); // kernel alignment
        }
    }
    put(0x210, &[0xff]); // a boot loader without a number
    put(0x211, &[1]); // loaded high
    put(0x218, &low32(initramfs.0));
    put(0x21c, &low32(initramfs.1));
    put(0x228, &low32(COMMAND_LINE));
    put(0x238, &low32(command_line as u64));
    put(0x250, &SEED.to_le_bytes());

    let map = memory_map(memory);
    for (n, (from, len, kind)) in map.iter().enumerate() {
        put(0x2d0 + 20 * n, &from.to_le_bytes());
        put(0x2d8 + 20 * n, &len.to_le_bytes());
        put(0x2e0 + 20 * n, &[*kind]);
    }
    put(0x1e8, &[u8::try_from(map.len()).expect("at most 4")]);
    page
}

#[cfg(test)]
mod tests {
    use super::super::layout;
    use super::*;

    const SMALL: Kernel = Kernel {
        entry: 0x100_0000,
        end: 0x180_0000,
        header: None,
    };

    #[test]
    fn the_initramfs_is_high_aligned_and_never_over_the_kernel() {
        let memory = crate::memory::map(&layout::ram(32)).unwrap();
        assert_eq!(
            initramfs_place(&memory, &SMALL, 5000).unwrap(),
            (32 << 20) - 8192
        );
        assert_eq!(initramfs_place(&memory, &SMALL, 8 << 20).unwrap(), 24 << 20);
        assert!(initramfs_place(&memory, &SMALL, (8 << 20) + 1).is_err());
        assert!(initramfs_place(&memory, &SMALL, u64::MAX).is_err());
        let memory = crate::memory::map(&layout::ram(5000)).unwrap();
        assert_eq!(
            initramfs_place(&memory, &SMALL, 4096).unwrap(),
            INITRAMFS_MAX - 4096
        );
    }

    const BOOT: Boot<'_> = Boot {
        arguments: "",
        devices: 2,
        initramfs: (0x1000_0000, 10),
        hardware: &Hardware { cpus: 4 },
        seed: [7; 32],
    };

    #[test]
    fn the_memory_map_covers_what_there_is() {
        let memory = crate::memory::map(&layout::ram(4096)).unwrap();
        prepare(&memory, &SMALL, &BOOT).unwrap();
        let page: [u8; 4096] =
            std::array::from_fn(|i| memory.read_obj(GuestAddress(ZERO_PAGE + i as u64)).unwrap());
        assert_eq!(page[0x1e8], 4);
        let map = |n: usize| u64::from_le_bytes(page[0x2d8 + 20 * n..][..8].try_into().unwrap());
        assert_eq!((map(2), map(3)), (LOW_END - KERNEL, 1 << 30));
    }

    #[test]
    fn arguments_come_behind_ours_and_devices_last() {
        let line = command_line(2, 1, "loglevel=7");
        assert!(line.ends_with(
            " loglevel=7 virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
        ));
        assert!(line.contains(" noreplace-smp percpu_alloc=page "));
        assert!(line.contains(&format!(" quiet {} ", balloon::ARGUMENT)));
        assert!(!command_line(2, 2, "").contains("smp"));
        let memory = crate::memory::map(&layout::ram(32)).unwrap();
        let arguments =
            &"x".repeat(COMMAND_LINE_MAX - command_line(2, BOOT.hardware.cpus, "").len() - 1);
        let long = Boot { arguments, ..BOOT };
        assert!(matches!(
            prepare(&memory, &SMALL, &long),
            Err(BootError::CommandLine(COMMAND_LINE_MAX))
        ));
    }
}
