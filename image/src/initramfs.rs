// SPDX-License-Identifier: Apache-2.0
//! Packs an initramfs: named files, links and devices in, a cpio archive (and its zstd form) out.
//!
//! Entries are sorted by path, parents are made, and nothing of this machine goes in: owner, times and inode numbers are
//! fixed by [`racklet_cpio`]. The compressed form is padded with zeros, so that a further archive may follow it: the
//! kernel wants uncompressed archives to begin at a multiple of four bytes.

use std::collections::BTreeMap;
use std::io;

use racklet_cpio::{Archive, CpioError};

/// What `zstd -19` does; an initramfs is made once and decompressed at every boot.
const LEVEL: i32 = 19;
/// Zeros behind the compressed archive up to this multiple, as in the kernel's own `usr/`.
const PADDING: usize = 512;

/// Why an initramfs cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A path or size that cpio cannot hold.
    #[error("pack {path}")]
    Entry {
        /// The entry.
        path: String,
        /// Why.
        source: CpioError,
    },
    /// One path, two entries.
    #[error("{0}: is there twice")]
    Twice(String),
    /// The compressor.
    #[error("compress the initramfs")]
    Compress(#[source] io::Error),
}

enum Entry {
    Directory { mode: u32 },
    File { mode: u32, contents: Vec<u8> },
    Symlink { target: String },
    CharacterDevice { mode: u32, major: u32, minor: u32 },
}

/// An initramfs being put together.
#[derive(Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

impl Initramfs {
    /// Nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory with these permission bits; needed only for empty or unusual ones.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self, InitramfsError> {
        self.add(path, Entry::Directory { mode })
    }

    /// Adds a file with these permission bits.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        contents: Vec<u8>,
    ) -> Result<&mut Self, InitramfsError> {
        self.add(path, Entry::File { mode, contents })
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self, InitramfsError> {
        self.add(
            path,
            Entry::Symlink {
                target: target.to_owned(),
            },
        )
    }

    /// Adds a character device; `/dev/console` has to be there before devtmpfs is.
    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<&mut Self, InitramfsError> {
        self.add(path, Entry::CharacterDevice { mode, major, minor })
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<&mut Self, InitramfsError> {
        let path = path.trim_start_matches('/').to_owned();
        if self.entries.contains_key(&path) {
            return Err(InitramfsError::Twice(path));
        }
        self.entries.insert(path, entry);
        Ok(self)
    }

    /// The archive, uncompressed.
    pub fn to_cpio(&self) -> Result<Vec<u8>, InitramfsError> {
        let mut archive = Archive::new();
        let mut made = std::collections::BTreeSet::new();
        for (path, entry) in &self.entries {
            let refused = |source| InitramfsError::Entry {
                path: path.clone(),
                source,
            };
            for (slash, _) in path.match_indices('/') {
                let parent = &path[..slash];
                if !self.entries.contains_key(parent) && made.insert(parent) {
                    archive.directory(parent, 0o755).map_err(refused)?;
                }
            }
            match entry {
                Entry::Directory { mode } => archive.directory(path, *mode),
                Entry::File { mode, contents } => archive.file(path, *mode, contents),
                Entry::Symlink { target } => archive.symlink(path, target),
                Entry::CharacterDevice { mode, major, minor } => {
                    archive.character_device(path, *mode, *major, *minor)
                }
            }
            .map_err(refused)?;
        }
        Ok(archive.finish())
    }

    /// The archive, compressed and padded: what a bootloader hands to the kernel.
    pub fn to_zstd(&self) -> Result<Vec<u8>, InitramfsError> {
        compress(&self.to_cpio()?)
    }
}

/// Compresses an archive that was made elsewhere.
pub fn compress(cpio: &[u8]) -> Result<Vec<u8>, InitramfsError> {
    let mut packed = zstd::bulk::compress(cpio, LEVEL).map_err(InitramfsError::Compress)?;
    packed.resize(packed.len().next_multiple_of(PADDING), 0);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample(reverse: bool) -> Initramfs {
        let mut out = Initramfs::new();
        let mut files = vec![
            ("/init", "init"),
            ("sbin/netd", "netd"),
            ("usr/lib/racklet/guest/vmlinux", "kernel"),
        ];
        if reverse {
            files.reverse();
        }
        for (path, contents) in files {
            out.file(path, 0o755, contents.into()).unwrap();
        }
        out.symlink("bin", "sbin")
            .unwrap()
            .character_device("dev/console", 0o600, 5, 1)
            .unwrap();
        out
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        assert_eq!(
            sample(false).to_zstd().unwrap(),
            sample(true).to_zstd().unwrap()
        );
    }

    #[test]
    fn the_real_zstd_and_cpio_read_it_back() {
        let work = tempfile::tempdir().unwrap();
        let packed = sample(false).to_zstd().unwrap();
        assert_eq!(packed.len() % 4, 0);
        let cpio = zstd::stream::decode_all(
            &packed[..zstd::zstd_safe::find_frame_compressed_size(&packed).unwrap()],
        )
        .unwrap();
        let mut child = Command::new("cpio")
            .args(["-id", "--quiet", "--no-absolute-filenames"])
            .current_dir(work.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&cpio).unwrap();
        // Not being root, cpio cannot make the device; everything else it can.
        child.wait().unwrap();
        assert_eq!(fs::read(work.path().join("bin/netd")).unwrap(), b"netd");
        assert_eq!(
            fs::read(work.path().join("usr/lib/racklet/guest/vmlinux")).unwrap(),
            b"kernel"
        );
    }

    #[test]
    fn one_path_cannot_have_two_meanings() {
        let mut twice = sample(false);
        assert!(matches!(
            twice.file("init", 0o755, vec![]),
            Err(InitramfsError::Twice(_))
        ));
        let mut bad = Initramfs::new();
        bad.file("a/../b", 0o644, vec![]).unwrap();
        assert!(matches!(bad.to_cpio(), Err(InitramfsError::Entry { .. })));
    }
}
