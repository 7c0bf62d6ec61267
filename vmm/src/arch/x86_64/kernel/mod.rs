// SPDX-License-Identifier: Apache-2.0
//! Puts a kernel into guest memory: ELF or bzImage, plain or compressed with zstd. Where it may lie is decided before a byte is
//! written.

use std::fs::File;

use super::layout::KERNEL as LOWEST;
pub use crate::arch::kernel::KernelError;
use crate::arch::kernel::{self, Stream, long};
use crate::memory::Memory;

const FORMATS: &str = "neither an x86-64 ELF kernel (vmlinux) nor a bzImage";

/// A kernel in guest memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Where the first processor begins, in 64-bit mode.
    pub entry: u64,
    /// First address behind everything the kernel needs before it manages memory itself.
    pub end: u64,
    /// The setup header of a bzImage (from offset 0x1f1), given back in the zero page.
    pub header: Option<Vec<u8>>,
}

/// Loads the kernel from a file: a plain one is mapped, a compressed one read once, front to end. What lies in memory already when
/// there is an error stays there; the guest is not started then.
pub fn load(memory: &Memory, file: File) -> Result<Kernel, KernelError> {
    let mut stream = Stream::of(file)?;
    if stream.head.starts_with(b"\x7fELF") {
        elf(memory, &mut stream)
    } else if stream.head.get(0x202..0x206) == Some(b"HdrS") {
        bzimage(memory, &mut stream)
    } else {
        Err(KernelError::Format(FORMATS))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The range exists and lies above our tables.
fn fits(memory: &Memory, from: u64, len: u64) -> Result<u64, KernelError> {
    kernel::fits(memory, LOWEST, from, len)
}

struct Load {
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

fn elf_segments(head: &[u8]) -> Option<Vec<Load>> {
    let (table, size, count) = (long(head, 32)?, half(head, 54)?, half(head, 56)?);
    let mut loads = Vec::new();
    for n in 0..u64::from(count) {
        let at = usize::try_from(table.checked_add(n.checked_mul(u64::from(size))?)?).ok()?;
        let entry = head.get(at..at.checked_add(56)?)?;
        if word(entry, 0)? == 1 {
            loads.push(Load {
                offset: long(entry, 8)?,
                address: long(entry, 24)?,
                in_file: long(entry, 32)?,
                in_memory: long(entry, 40)?,
            });
        }
    }
    Some(loads)
}

fn elf(memory: &Memory, stream: &mut Stream) -> Result<Kernel, KernelError> {
    // 64 bits, little endian, x86-64.
    if stream.head.get(4..6) != Some(&[2, 1]) || half(&stream.head, 18) != Some(62) {
        return Err(KernelError::Format(FORMATS));
    }
    let cut = KernelError::Headers("the program headers are not within the first 4 KiB");
    let entry = long(&stream.head, 24).ok_or(KernelError::Format(FORMATS))?;
    let mut loads = elf_segments(&stream.head).ok_or(cut)?;
    loads.sort_by_key(|l| l.offset);
    let (mut end, mut read) = (0, 0);
    let mut entered = false;
    for load in &loads {
        if load.offset < read {
            return Err(KernelError::Headers("segments are not in file order"));
        }
        read = load.offset.saturating_add(load.in_file);
        if load.in_file > load.in_memory {
            return Err(KernelError::Headers(
                "a segment is larger in the file than in memory",
            ));
        }
        if load.in_memory == 0 {
            continue;
        }
        let to = fits(memory, load.address, load.in_memory)?;
        end = end.max(to);
        entered |= (load.address..to).contains(&entry);
    }
    if !entered {
        return Err(KernelError::Headers("the entry point is in no segment"));
    }
    for load in loads.iter().filter(|l| l.in_file > 0) {
        stream.lay(memory, load.address, load.offset, load.in_file)?;
    }
    Ok(Kernel {
        entry,
        end,
        header: None,
    })
}

/// Linux/x86 boot protocol, `Documentation/arch/x86/boot.rst`.
fn bzimage(memory: &Memory, stream: &mut Stream) -> Result<Kernel, KernelError> {
    let head = &stream.head;
    let wrong = KernelError::Headers("the setup header is cut off");
    let field = |at| word(head, at);
    let (Some(version), Some(flags), Some(size), Some(init_size)) = (
        half(head, 0x206),
        half(head, 0x236),
        field(0x1f4),
        field(0x260),
    ) else {
        return Err(wrong);
    };
    if version < 0x020c || flags & 1 == 0 {
        return Err(KernelError::Headers(
            "a bzImage needs boot protocol 2.12 and a 64-bit entry",
        ));
    }
    let sectors = match head[0x1f1] {
        0 => 4, // for historical reasons
        n => u64::from(n),
    };
    let header = head
        .get(0x1f1..0x202 + usize::from(head[0x201]))
        .ok_or(wrong)?
        .to_vec();
    let preferred = long(head, 0x258).unwrap_or(0);
    let bytes = u64::from(size) * 16;
    fits(memory, LOWEST, bytes)?;
    let end = fits(memory, preferred.max(LOWEST), u64::from(init_size))?;
    stream.lay(memory, LOWEST, (sectors + 1) * 512, bytes)?;
    Ok(Kernel {
        entry: LOWEST + 0x200,
        end: end.max(LOWEST + bytes),
        header: Some(header),
    })
}

#[cfg(test)]
mod tests;
