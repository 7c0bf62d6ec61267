// SPDX-License-Identifier: Apache-2.0
//! Puts a kernel into guest memory: arm64's Image, plain or compressed with zstd (`Documentation/arch/arm64/booting.rst`). Where it may
//! lie is decided before a byte is written.

use std::fs::File;

use super::layout::KERNEL;
pub use crate::arch::kernel::KernelError;
use crate::arch::kernel::{Stream, fits, long};
use crate::memory::Memory;

/// The header's `magic`, and where it is.
const MAGIC: (&[u8], usize) = (b"ARM\x64", 56);
/// Kernels lie this many bytes apart, whatever their `text_offset`.
const ALIGNMENT: u64 = 0x20_0000;
const BIG_ENDIAN: u64 = 1;
/// It may lie anywhere in memory, and uses what is below it.
const ANYWHERE: u64 = 1 << 3;

/// A kernel in guest memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Where the first processor begins.
    pub entry: u64,
    /// First address behind everything the kernel needs before it manages memory itself.
    pub end: u64,
}

/// Loads the kernel from a file: a plain one is mapped, a compressed one read once, front to end. What lies in memory already when
/// there is an error stays there; the guest is not started then.
pub fn load(memory: &Memory, file: File) -> Result<Kernel, KernelError> {
    let mut stream = Stream::of(file)?;
    let head = &stream.head;
    let (magic, at) = MAGIC;
    if head.get(at..at + magic.len()) != Some(magic) {
        return Err(KernelError::Format("no arm64 kernel (Image)"));
    }
    let (Some(text_offset), Some(size), Some(flags)) =
        (long(head, 8), long(head, 16), long(head, 24))
    else {
        unreachable!("the magic is behind them");
    };
    if flags & BIG_ENDIAN != 0 {
        return Err(KernelError::Headers(
            "it is built for big-endian processors",
        ));
    }
    if size == 0 || flags & ANYWHERE == 0 {
        return Err(KernelError::Headers(
            "it has to lie at the first byte of memory: kernels from 4.6 on do not",
        ));
    }
    if text_offset >= ALIGNMENT {
        return Err(KernelError::Headers("its text_offset is 2 MiB or more"));
    }
    let entry = KERNEL + text_offset;
    let end = fits(memory, KERNEL, entry, size)?;
    stream.lay_all(memory, entry, size)?;
    Ok(Kernel { entry, end })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::super::layout;
    use super::*;

    fn load_bytes(bytes: &[u8]) -> (Memory, Result<Kernel, KernelError>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let memory = crate::memory::map(&layout::ram(8)).unwrap();
        let loaded = load(&memory, file);
        (memory, loaded)
    }

    /// 5,000 bytes in the file, 1 MiB in memory, half a MiB behind a multiple of 2 MiB.
    fn small() -> Vec<u8> {
        let mut image = vec![0; 5000];
        image[8..16].copy_from_slice(&0x8_0000u64.to_le_bytes());
        image[16..24].copy_from_slice(&0x10_0000u64.to_le_bytes());
        image[24] = 0b1010; // 4 KiB pages, anywhere
        image[56..60].copy_from_slice(b"ARM\x64");
        image[4995..].copy_from_slice(b"hello");
        image
    }

    #[test]
    fn an_image_is_placed_plain_and_compressed() {
        for bytes in [small(), zstd::encode_all(&small()[..], 3).unwrap()] {
            let (memory, loaded) = load_bytes(&bytes);
            let entry = KERNEL + 0x8_0000;
            let end = entry + 0x10_0000;
            assert_eq!(loaded.unwrap(), Kernel { entry, end });
            let text: [u8; 6] = memory.read_obj(GuestAddress(entry + 4995)).unwrap();
            assert_eq!(&text, b"hello\0");
        }
    }

    #[test]
    fn images_that_lie_or_cannot_run_here_are_refused() {
        let spoil = |at: usize, value: u64| {
            let mut image = small();
            image[at..at + 8].copy_from_slice(&value.to_le_bytes());
            load_bytes(&image).1.unwrap_err().to_string()
        };
        assert!(spoil(8, 0x20_0000).contains("text_offset"));
        assert!(spoil(16, 0).contains("4.6"));
        assert!(spoil(16, 8 << 20).contains("raise its memory"));
        assert!(spoil(16, u64::MAX).contains("overflows"));
        assert!(spoil(16, 4999).contains("larger in the file"));
        assert!(spoil(24, 0b0010).contains("4.6"));
        assert!(spoil(24, 0b1011).contains("big-endian"));
        assert!(spoil(56, 0).contains("no arm64 kernel"));
        for bytes in [&b""[..], b"MZ", &small()[..59]] {
            let refused = load_bytes(bytes).1.unwrap_err().to_string();
            assert!(refused.contains("no arm64 kernel"), "{refused}");
        }
        let packed = zstd::encode_all(&small()[..], 3).unwrap();
        let cut = load_bytes(&packed[..packed.len() - 8]).1.unwrap_err();
        assert!(cut.to_string().contains("to its end"), "{cut}");
    }

    proptest! {
        #[test]
        fn no_spoiled_image_panics(at in 0usize..60, value in any::<u64>()) {
            let mut image = small();
            image[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let _ = load_bytes(&image);
        }
    }
}
