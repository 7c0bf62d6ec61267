// SPDX-License-Identifier: Apache-2.0
//! Writes `newc` cpio archives, the format of a Linux initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Several archives may follow each other in one initramfs, each starting at a multiple of four bytes; later ones add to and
//! replace files of earlier ones. Everything written here is deterministic: owner root, time zero, inode numbers in order.
//! It deliberately does not read archives.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt::{self, Write as _};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// A path or a size that the format cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpioError {
    /// The path is empty, absolute, has a NUL, an empty, `.` or `..` component, or is longer than 4,095 bytes.
    Path,
    /// File contents of 4 GiB or more.
    TooLarge,
}

impl fmt::Display for CpioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path is not a plain relative path"),
            Self::TooLarge => f.write_str("a cpio member must be smaller than 4 GiB"),
        }
    }
}

impl core::error::Error for CpioError {}

/// An archive being written. Parents are not made by themselves: add directories before what is in them.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
}

impl Archive {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with permission bits `mode`.
    ///
    /// # Errors
    /// [`CpioError::Path`] for a path that is not plain and relative.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), CpioError> {
        self.entry(path, DIRECTORY | mode & 0o7777, (0, 0), &[])
    }

    /// Adds a regular file with permission bits `mode`.
    ///
    /// # Errors
    /// [`CpioError`] for a bad path or contents of 4 GiB or more.
    pub fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<(), CpioError> {
        self.entry(path, REGULAR | mode & 0o7777, (0, 0), contents)
    }

    /// Adds a symbolic link to `target`.
    ///
    /// # Errors
    /// [`CpioError::Path`] for a path that is not plain and relative.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), CpioError> {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device, such as `/dev/console` (5, 1) that the kernel opens for PID 1 before anything is mounted.
    ///
    /// # Errors
    /// [`CpioError::Path`] for a path that is not plain and relative.
    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), CpioError> {
        self.entry(path, CHARACTER | mode & 0o7777, (major, minor), &[])
    }

    /// Ends the archive; its length is a multiple of four, so that another may follow.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, (0, 0), 0, 1);
        self.bytes
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        contents: &[u8],
    ) -> Result<(), CpioError> {
        if !is_plain(path) {
            return Err(CpioError::Path);
        }
        let size = u32::try_from(contents.len()).map_err(|_| CpioError::TooLarge)?;
        self.next_inode += 1;
        let links = if mode & 0o170_000 == DIRECTORY { 2 } else { 1 };
        self.header(path, mode, device, size, links);
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn header(&mut self, name: &str, mode: u32, device: (u32, u32), size: u32, links: u32) {
        let inode = if mode == 0 { 0 } else { self.next_inode };
        let name_size = u32::try_from(name.len() + 1).expect("paths are shorter than 4,096 bytes");
        let fields = [
            inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(Hex(&mut self.bytes), "{field:08x}").expect("writing to memory cannot fail");
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn is_plain(path: &str) -> bool {
    path.len() < 4096
        && !path.contains('\0')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

struct Hex<'a>(&'a mut Vec<u8>);

impl fmt::Write for Hex<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{io::Write as _, process, string::String};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        archive.directory("etc", 0o755).unwrap();
        archive.file("etc/name", 0o640, b"racklet").unwrap();
        archive.symlink("etc/alias", "name").unwrap();
        archive.finish()
    }

    #[test]
    fn the_real_cpio_reads_what_we_write() {
        let mut child = process::Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .expect("cpio is installed (`cargo xtask doctor` says how)");
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(
            listing.contains("drwxr-xr-x   2 0        0               0 Jan  1  1970 etc"),
            "{listing}"
        );
        assert!(
            listing.contains("-rw-r-----   1 0        0               7 Jan  1  1970 etc/name"),
            "{listing}"
        );
        assert!(listing.contains("etc/alias -> name"), "{listing}");
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_a_length_that_others_may_follow() {
        assert_eq!(sample(), sample());
        assert_eq!(sample().len() % 4, 0);
    }

    #[test]
    fn paths_that_could_land_elsewhere_are_refused() {
        for path in ["", "/etc", "a//b", "a/../b", ".", "a/", "nul\0"] {
            assert_eq!(
                Archive::new().file(path, 0o644, b""),
                Err(CpioError::Path),
                "{path:?}"
            );
        }
    }
}
