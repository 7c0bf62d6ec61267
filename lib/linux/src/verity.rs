// SPDX-License-Identifier: Apache-2.0
//! Files that the file system verifies block by block whenever it reads them (fs-verity), by SHA-256 in blocks of 4096 bytes without a
//! salt. Source: Linux, Documentation/filesystems/fsverity.rst; linux/fsverity.h.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::ioctl::{self, Opcode, opcode};

const SHA256: u32 = 1;
const BLOCK: u32 = 4096;

/// struct fsverity_enable_arg.
#[repr(C)]
#[derive(Default)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    reserved_to_128: [u64; 11],
}

/// struct fsverity_digest with room for one digest of SHA-256 behind it.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: [u8; 32],
}

/// What `_IOWR` encodes of `fsverity_digest`: the four bytes before its digest.
#[repr(C)]
struct MeasuredHead(u16, u16);

/// Puts a file under verification, for good: nobody can write to it from then on. It must be open for reading only, everywhere. The
/// kernel reads it through and writes its tree behind it; when that is cut, by a lack of power as well, the file is as it was.
///
/// # Errors
/// The kernel's. `Unsupported` where the file system or the kernel does not have it.
pub fn enable(file: &File) -> io::Result<()> {
    const ENABLE: Opcode = opcode::write::<Enable>(b'f', 133);
    let argument = Enable {
        version: 1,
        hash_algorithm: SHA256,
        block_size: BLOCK,
        ..Enable::default()
    };
    // SAFETY: FS_IOC_ENABLE_VERITY only reads a fsverity_enable_arg, which `Enable` has the layout of (128 bytes, checked below); salt and
    // signature are of no bytes.
    let done = unsafe { ioctl::ioctl(file, ioctl::Setter::<ENABLE, Enable>::new(argument)) };
    match done {
        // ENOTTY: a file system that has never heard of it, or a kernel without; EOPNOTSUPP: ext4 made without the feature.
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
        other => Ok(other?),
    }
}

/// The digest that every byte read from this open file is verified against. `None` where it is not under verification.
///
/// # Errors
/// The kernel's; `InvalidData` where it is verified by another algorithm.
pub fn measure(file: &File) -> io::Result<Option<[u8; 32]>> {
    const MEASURE: Opcode = opcode::read_write::<MeasuredHead>(b'f', 134);
    let mut measured = Measured {
        algorithm: 0,
        size: 32,
        digest: [0; 32],
    };
    // SAFETY: FS_IOC_MEASURE_VERITY reads `size` and writes a fsverity_digest with at most so many bytes of digest, which are here.
    let done = unsafe {
        ioctl::ioctl(
            file,
            ioctl::Updater::<MEASURE, Measured>::new(&mut measured),
        )
    };
    match done {
        Err(Errno::NODATA | Errno::NOTTY | Errno::OPNOTSUPP) => return Ok(None),
        // A longer digest.
        Err(Errno::OVERFLOW) => return Err(io::ErrorKind::InvalidData.into()),
        other => other?,
    }
    match (u32::from(measured.algorithm), measured.size) {
        (SHA256, 32) => Ok(Some(measured.digest)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

const _: () = assert!(size_of::<Enable>() == 128 && size_of::<MeasuredHead>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as linux/fsverity.h has them on machines whose `_IOC` is the generic one (x86, Arm).
    #[test]
    fn a_file_system_without_it_says_so_and_nothing_is_measured() {
        assert_eq!(opcode::write::<Enable>(b'f', 133), 0x4080_6685);
        assert_eq!(opcode::read_write::<MeasuredHead>(b'f', 134), 0xc004_6686);
        let memory = rustix::fs::memfd_create("verity", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(memory.expect("memory"));
        let error = enable(&file).expect_err("memory has no verity");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        assert_eq!(measure(&file).expect("measures"), None);
    }
}
