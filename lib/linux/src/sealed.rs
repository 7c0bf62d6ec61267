// SPDX-License-Identifier: Apache-2.0
//! Bytes in memory that nobody can change any more: memfds with every seal set.
//!
//! What was verified and what is executed must be the same bytes. A [`Sealed`] holds them in a file that lives in memory
//! only and that the kernel refuses to write, grow or shrink, for this process as for any other.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// A file in memory while it is being written.
#[derive(Debug)]
pub struct Unsealed {
    file: File,
}

impl Unsealed {
    /// An empty file; `name` shows in `/proc/self/fd` only.
    pub fn new(name: &str) -> io::Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(Self {
            file: File::from(fd),
        })
    }

    /// Bytes written so far.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Ends writing for good.
    pub fn seal(mut self) -> io::Result<Sealed> {
        rustix::fs::fcntl_add_seals(
            &self.file,
            SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
        )?;
        let len = self.file.metadata()?.len();
        self.file.seek(SeekFrom::Start(0))?;
        Ok(Sealed {
            file: self.file,
            len,
        })
    }
}

impl Write for Unsealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in memory that can only be read.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    len: u64,
}

impl Sealed {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// For reading it (again): `&File` reads from where the last read ended, beginning at the start.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    #[test]
    fn sealed_bytes_can_be_read_but_never_changed() {
        let mut unsealed = Unsealed::new("test").expect("memfd");
        assert!(unsealed.is_empty().expect("len"));
        unsealed.write_all(b"kernel").expect("writes");
        let sealed = unsealed.seal().expect("seals");
        assert_eq!((sealed.len(), sealed.is_empty()), (6, false));
        assert!(sealed.file().write_at(b"K", 0).is_err());
        assert!(sealed.file().set_len(1).is_err());
        assert!(sealed.file().set_len(100).is_err());
        let mut text = String::new();
        sealed.file().read_to_string(&mut text).expect("reads");
        assert_eq!(text, "kernel");
    }
}
