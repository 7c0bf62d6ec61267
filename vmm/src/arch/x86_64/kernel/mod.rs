// SPDX-License-Identifier: Apache-2.0
//! Puts a kernel into guest memory: ELF or bzImage, plain or compressed with zstd, as one stream and never whole in our own
//! memory. Where it may lie is decided before a byte is written. The whole pages of a plain ELF kernel are mapped and not copied:
//! 13 of 14 MB of ours.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::layout::KERNEL as LOWEST;
use crate::memory::{self, Memory};

/// What is looked at to tell the format; both kinds have their headers within.
const HEAD: usize = 4096;
/// Largest window a compressed kernel may ask for: 2^27 bytes, what `zstd --ultra -22` uses.
const WINDOW: u32 = 27;

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

/// Why a kernel is refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file cannot be read or decompressed, or is cut off.
    #[error("the kernel cannot be read to its end")]
    Read(#[source] io::Error),
    /// Neither of the formats.
    #[error(
        "the file is neither an x86-64 ELF kernel (vmlinux) nor a bzImage, plain or zstd-compressed"
    )]
    Format,
    /// The headers contradict themselves.
    #[error("the kernel's headers are wrong: {0}")]
    Headers(&'static str),
    /// It does not fit.
    #[error(
        "the kernel needs memory from {from:#x} to {to:#x}, which this guest lacks: raise its memory"
    )]
    Memory {
        /// First address of what does not fit.
        from: u64,
        /// First address behind it.
        to: u64,
    },
}

/// Loads the kernel from a file read once, front to end. What has been copied before an error stays in memory; the guest is not
/// started then.
pub fn load(memory: &Memory, file: File) -> Result<Kernel, KernelError> {
    let twin = file.try_clone().map_err(KernelError::Read)?;
    let mut plain = Stream::new(Box::new(file));
    plain.fill().map_err(KernelError::Read)?;
    if plain.head.starts_with(b"\x7fELF") {
        return elf(memory, &mut plain, Some(&twin));
    }
    let mut stream = if plain.head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::new(plain).map_err(KernelError::Read)?;
        decoder.window_log_max(WINDOW).map_err(KernelError::Read)?;
        let mut stream = Stream::new(Box::new(decoder));
        stream.fill().map_err(KernelError::Read)?;
        stream
    } else {
        plain
    };
    if stream.head.starts_with(b"\x7fELF") {
        elf(memory, &mut stream, None)
    } else if stream.head.get(0x202..0x206) == Some(b"HdrS") {
        bzimage(memory, &mut stream)
    } else {
        Err(KernelError::Format)
    }
}

/// A stream whose first bytes can be looked at before they are read.
struct Stream {
    head: Vec<u8>,
    at: u64,
    rest: Box<dyn Read>,
}

impl Stream {
    fn new(rest: Box<dyn Read>) -> Stream {
        Stream {
            head: Vec::new(),
            at: 0,
            rest,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.rest
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut self.head)
            .map(drop)
    }

    /// Copies `len` bytes into guest memory, a piece at a time.
    fn copy(&mut self, memory: &Memory, to: u64, len: u64) -> Result<(), KernelError> {
        let mut buffer = vec![0; 64 * 1024];
        let (mut to, mut left) = (to, len);
        while left > 0 {
            let piece = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            self.read_exact(&mut buffer[..piece])
                .map_err(KernelError::Read)?;
            let wrong = |_| KernelError::Memory {
                from: to,
                to: to + piece as u64,
            };
            memory
                .write_slice(&buffer[..piece], GuestAddress(to))
                .map_err(wrong)?;
            to += piece as u64;
            left -= piece as u64;
        }
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), KernelError> {
        let count = offset
            .checked_sub(self.at)
            .ok_or(KernelError::Headers("segments are not in file order"))?;
        let skipped =
            io::copy(&mut self.by_ref().take(count), &mut io::sink()).map_err(KernelError::Read)?;
        if skipped == count {
            Ok(())
        } else {
            Err(KernelError::Read(io::ErrorKind::UnexpectedEof.into()))
        }
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(self.at).unwrap_or(usize::MAX);
        let count = match self.head.get(from..).filter(|rest| !rest.is_empty()) {
            Some(rest) => {
                let count = rest.len().min(to.len());
                to[..count].copy_from_slice(&rest[..count]);
                count
            }
            None => self.rest.read(to)?,
        };
        self.at += count as u64;
        Ok(count)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The range exists and lies above our tables.
fn fits(memory: &Memory, from: u64, len: u64) -> Result<u64, KernelError> {
    let to = from
        .checked_add(len)
        .ok_or(KernelError::Headers("an address overflows"))?;
    let exists =
        usize::try_from(len).is_ok_and(|len| memory.get_slice(GuestAddress(from), len).is_ok());
    if from >= LOWEST && exists {
        Ok(to)
    } else {
        Err(KernelError::Memory { from, to })
    }
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

/// With `file`, the stream is that file as it is.
fn elf(memory: &Memory, stream: &mut Stream, file: Option<&File>) -> Result<Kernel, KernelError> {
    // 64 bits, little endian, x86-64.
    if stream.head.get(4..6) != Some(&[2, 1]) || half(&stream.head, 18) != Some(62) {
        return Err(KernelError::Format);
    }
    let cut = KernelError::Headers("the program headers are not within the first 4 KiB");
    let entry = long(&stream.head, 24).ok_or(KernelError::Format)?;
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
        match file {
            Some(file) => {
                let at = GuestAddress(load.address);
                memory::lay_file(memory, at, load.in_file, file.as_fd(), load.offset)
                    .map_err(KernelError::Read)?;
            }
            None => {
                stream.skip_to(load.offset)?;
                stream.copy(memory, load.address, load.in_file)?;
            }
        }
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
    stream.skip_to((sectors + 1) * 512)?;
    stream.copy(memory, LOWEST, bytes)?;
    Ok(Kernel {
        entry: LOWEST + 0x200,
        end: end.max(LOWEST + bytes),
        header: Some(header),
    })
}

#[cfg(test)]
mod tests;
