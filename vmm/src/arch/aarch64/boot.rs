// SPDX-License-Identifier: Apache-2.0
//! What a kernel finds in memory when it is entered: a device tree and the initramfs (`Documentation/arch/arm64/booting.rst`).

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::Hardware;
use super::image::Kernel;
use super::layout::{INITRAMFS_MAX, RAM, TREE_MAX};
use super::tree::{SEEDS, Told, tree};
use crate::devices::balloon;
use crate::memory::Memory;

/// What arm64 kernels accept at most (`COMMAND_LINE_SIZE`).
const COMMAND_LINE_MAX: usize = 2048;
/// The largest page of a guest.
const PAGE: u64 = 0x1_0000;
/// Random bytes that a kernel is given.
pub const SEED_BYTES: usize = SEEDS.0 + SEEDS.1;

/// Why a guest cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// What is left of the first 2 GiB above the kernel is smaller than the initramfs.
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
    /// A command line with a NUL in it.
    #[error("write the device tree: may `arguments` be in it?")]
    Tree(#[from] vm_fdt::Error),
    /// Cannot happen with a memory of at least 32 MiB.
    #[error("the device tree does not fit into guest memory")]
    Table(#[from] vm_memory::GuestMemoryError),
}

/// Where an initramfs of `len` bytes lies: as high as it may, above the kernel.
pub fn initramfs_place(memory: &Memory, kernel: &Kernel, len: u64) -> Result<u64, BootError> {
    let top = memory.last_addr().0.saturating_add(1).min(INITRAMFS_MAX);
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
fn command_line(arguments: &str) -> String {
    // One UART; a panic resets at once so that the monitor sees it.
    let mut line = String::from("console=ttyS0 8250.nr_uarts=1 panic=-1 quiet ");
    line.push_str(balloon::ARGUMENT);
    if !arguments.is_empty() {
        line.push(' ');
        line.push_str(arguments);
    }
    line
}

/// Writes the device tree to the first byte of memory. The kernel and the initramfs are there already.
pub fn prepare(memory: &Memory, _kernel: &Kernel, boot: &Boot<'_>) -> Result<(), BootError> {
    let command_line = command_line(boot.arguments);
    if command_line.len() >= COMMAND_LINE_MAX {
        return Err(BootError::CommandLine(command_line.len()));
    }
    let (first, len) = boot.initramfs;
    let tree = tree(&Told {
        memory: (RAM, memory.last_addr().0 + 1 - RAM),
        command_line: &command_line,
        initramfs: (first, first + len),
        seed: &boot.seed,
        hardware: boot.hardware,
        devices: boot.devices,
    })?;
    if tree.len() as u64 > TREE_MAX {
        return Err(vm_fdt::Error::TotalSizeTooLarge.into());
    }
    memory.write_slice(&tree, GuestAddress(RAM))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::gic::Gic;
    use super::super::layout::{self, KERNEL};
    use super::*;

    const SMALL: Kernel = Kernel {
        entry: KERNEL,
        end: KERNEL + 0x100_0001,
    };

    #[test]
    fn the_initramfs_is_high_aligned_and_never_over_the_kernel() {
        let memory = crate::memory::map(&layout::ram(32)).unwrap();
        let place = |len| initramfs_place(&memory, &SMALL, len).ok();
        let end = RAM + (32 << 20);
        assert_eq!(place(5000), Some(end - PAGE));
        assert_eq!(place(PAGE + 1), Some(end - 2 * PAGE));
        let room = end - (SMALL.end - 1) - PAGE;
        assert_eq!(place(room), Some(end - room));
        assert_eq!((place(room + 1), place(u64::MAX)), (None, None));
        let memory = crate::memory::map(&layout::ram(5000)).unwrap();
        let place = initramfs_place(&memory, &SMALL, 4096).unwrap();
        assert_eq!(place, INITRAMFS_MAX - PAGE);
    }

    #[test]
    fn the_longest_command_line_and_the_most_hardware_fit_below_the_kernel() {
        let memory = crate::memory::map(&layout::ram(32)).unwrap();
        let hardware = Hardware {
            gic: Gic::V3,
            affinities: (0..32).map(|n| ((n / 16) << 8) | (n % 16)).collect(),
        };
        let boot = |arguments| Boot {
            arguments,
            devices: 14,
            initramfs: (RAM + 0x180_0000, 10),
            hardware: &hardware,
            seed: [7; SEED_BYTES],
        };
        let room = COMMAND_LINE_MAX - 1 - command_line(" ").len() + 1;
        let longest = "x".repeat(room);
        prepare(&memory, &SMALL, &boot(&longest)).unwrap();
        let head: [u8; 8] = memory.read_obj(GuestAddress(RAM)).unwrap();
        assert_eq!(head[..4], 0xd00d_feed_u32.to_be_bytes());
        let size = u32::from_be_bytes(head[4..].try_into().unwrap());
        assert!((4096..16_384).contains(&size), "{size}");
        let longer = format!("{longest}x");
        let refused = prepare(&memory, &SMALL, &boot(&longer));
        assert!(matches!(
            refused,
            Err(BootError::CommandLine(COMMAND_LINE_MAX))
        ));
        assert!(matches!(
            prepare(&memory, &SMALL, &boot("a\0b")),
            Err(BootError::Tree(_))
        ));
    }
}
