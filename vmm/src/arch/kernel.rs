// SPDX-License-Identifier: Apache-2.0
//! A kernel's file on its way into guest memory, whatever its format. Compressed with zstd it is a stream and never whole in our own
//! memory; of a plain one the whole pages are mapped (13 of 14 MB of our own guests' kernel).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::memory::{self, Memory};

/// What is looked at to tell the format; both kinds have their headers within.
const HEAD: usize = 4096;
/// Largest window a compressed kernel may ask for: 2^27 bytes, what `zstd --ultra -22` uses.
const WINDOW: u32 = 27;

/// Why a kernel is refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file cannot be read or decompressed, or is cut off.
    #[error("the kernel cannot be read to its end")]
    Read(#[source] io::Error),
    /// None of the formats of this architecture, which are named.
    #[error("the file is {0}, plain or zstd-compressed")]
    Format(&'static str),
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

/// A stream whose first bytes can be looked at before they are read.
pub(super) struct Stream {
    pub(super) head: Vec<u8>,
    at: u64,
    rest: Box<dyn Read>,
    /// The file, where the stream is what it contains.
    plain: Option<File>,
}

impl Stream {
    /// The kernel in a file that is read once, front to end, unpacked if it is compressed.
    pub(super) fn of(file: File) -> Result<Stream, KernelError> {
        let itself = file.try_clone().map_err(KernelError::Read)?;
        let mut plain = Stream::new(Box::new(file));
        plain.fill().map_err(KernelError::Read)?;
        if !plain.head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            plain.plain = Some(itself);
            return Ok(plain);
        }
        let mut decoder = zstd::stream::read::Decoder::new(plain).map_err(KernelError::Read)?;
        decoder.window_log_max(WINDOW).map_err(KernelError::Read)?;
        let mut stream = Stream::new(Box::new(decoder));
        stream.fill().map_err(KernelError::Read)?;
        Ok(stream)
    }

    fn new(rest: Box<dyn Read>) -> Stream {
        Stream {
            head: Vec::new(),
            at: 0,
            rest,
            plain: None,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.rest
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut self.head)
            .map(drop)
    }

    /// Puts `len` bytes from `offset` on into guest memory. Parts are asked for in the order of the file.
    #[cfg(target_arch = "x86_64")] // whose kernels consist of parts
    pub(super) fn lay(
        &mut self,
        memory: &Memory,
        to: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), KernelError> {
        if let Some(file) = &self.plain {
            return memory::lay_file(memory, GuestAddress(to), len, file.as_fd(), offset)
                .map_err(KernelError::Read);
        }
        self.skip_to(offset)?;
        self.copy(memory, to, len)
    }

    /// Copies `len` bytes into guest memory, a piece at a time.
    #[cfg(target_arch = "x86_64")]
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

    /// Puts all of it into guest memory, which has room for `most` bytes there. Nothing was read before.
    #[cfg(any(target_arch = "aarch64", test, fuzzing))]
    pub(super) fn lay_all(
        &mut self,
        memory: &Memory,
        to: u64,
        most: u64,
    ) -> Result<(), KernelError> {
        let larger = || KernelError::Headers("it is larger in the file than in memory");
        if let Some(file) = &self.plain {
            let len = file.metadata().map_err(KernelError::Read)?.len();
            if len > most {
                return Err(larger());
            }
            return memory::lay_file(memory, GuestAddress(to), len, file.as_fd(), 0)
                .map_err(KernelError::Read);
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut done = 0;
        loop {
            let count = match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(KernelError::Read(e)),
            };
            let (at, len) = (to + done, count as u64);
            if len > most - done {
                return Err(larger());
            }
            memory
                .write_slice(&buffer[..count], GuestAddress(at))
                .map_err(|_| KernelError::Memory {
                    from: at,
                    to: at + len,
                })?;
            done += len;
        }
    }

    #[cfg(target_arch = "x86_64")]
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

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The range exists and lies above our tables, which end at `lowest`. Gives its end.
pub(super) fn fits(memory: &Memory, lowest: u64, from: u64, len: u64) -> Result<u64, KernelError> {
    let to = from
        .checked_add(len)
        .ok_or(KernelError::Headers("an address overflows"))?;
    let exists =
        usize::try_from(len).is_ok_and(|len| memory.get_slice(GuestAddress(from), len).is_ok());
    if from >= lowest && exists {
        Ok(to)
    } else {
        Err(KernelError::Memory { from, to })
    }
}
