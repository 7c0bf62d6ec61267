// SPDX-License-Identifier: Apache-2.0
//! The digest by which Linux vouches for a file that it reads piece by piece (fs-verity), computed while the file is made.
//!
//! ```text
//!   blocks of 4096 bytes ──SHA-256──> 128 digests a block ──SHA-256──> … ──> root ──> descriptor ──SHA-256──> digest
//! ```
//!
//! The last block of each level is filled up with zeros; the root of an empty file is zeros. There is no salt.
//! Source: Linux, Documentation/filesystems/fsverity.rst, "Merkle tree" and "fs-verity descriptor".

use racklet_trust::Digest;

use crate::chunk::sha256;

/// Bytes of a block, of the file and of the tree. It must be the block size that the tray asks the kernel for, which is that of its
/// pages: smaller ones are not needed, larger ones ext4 does not take.
pub const BLOCK: usize = 4096;

/// A file's tree, as far as its bytes came. It holds one block per level: 8 of them for any file there can be.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// What is not a whole block of the file yet.
    partial: Vec<u8>,
    /// Digests of the level below that are not a whole block yet, or are one that nothing came behind.
    levels: Vec<Vec<u8>>,
    size: u64,
}

impl Tree {
    /// The next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if !self.partial.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.partial.len()));
            self.partial.extend_from_slice(head);
            bytes = rest;
            if self.partial.len() < BLOCK {
                return;
            }
            let block = sha256(&self.partial);
            self.partial.clear();
            self.push(0, block);
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for block in blocks {
            self.push(0, sha256(block));
        }
        self.partial.extend_from_slice(rest);
    }

    fn push(&mut self, level: usize, digest: Digest) {
        if level == self.levels.len() {
            self.levels.push(Vec::with_capacity(BLOCK));
        }
        if self.levels[level].len() == BLOCK {
            let full = sha256(&self.levels[level]);
            self.levels[level].clear();
            self.push(level + 1, full);
        }
        self.levels[level].extend_from_slice(&digest.0);
    }

    /// The digest of the whole file, as `fsverity digest` prints it and the kernel measures it.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if !self.partial.is_empty() {
            let last = padded(&mut self.partial);
            self.push(0, last);
        }
        let mut level = 0;
        // The top level is the one with a single digest: that is the root.
        while level < self.levels.len() {
            if level + 1 == self.levels.len() && self.levels[level].len() == size_of::<Digest>() {
                break;
            }
            let block = padded(&mut self.levels[level]);
            self.push(level + 1, block);
            level += 1;
        }
        // linux/fsverity.h, struct fsverity_descriptor: version, hash algorithm (1: SHA-256), binary logarithm of the block size, size
        // of the salt, four reserved bytes, size of the file; the root in 64 bytes, salt and reserved bytes.
        let mut descriptor = [0; 256];
        descriptor[..3].copy_from_slice(&[1, 1, 12]);
        descriptor[8..16].copy_from_slice(&self.size.to_le_bytes());
        if let Some(root) = self.levels.last() {
            descriptor[16..16 + root.len()].copy_from_slice(root);
        }
        sha256(&descriptor)
    }
}

/// The digest of a block that is filled up with zeros.
fn padded(block: &mut Vec<u8>) -> Digest {
    block.resize(BLOCK, 0);
    sha256(block)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn of(bytes: &[u8], part: usize) -> String {
        let mut tree = Tree::default();
        bytes.chunks(part).for_each(|part| tree.update(part));
        tree.finish().to_string()
    }

    #[test]
    fn known_files_have_the_digests_that_fsverity_utils_finds() {
        // fsverity-utils 1.5, `fsverity digest`.
        for (bytes, digest) in [
            (
                vec![],
                "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
            ),
            (
                b"hello".to_vec(),
                "555b589c26ee43b7a2510e6c67ced9fb3190b6da6e9e683984551f5d77a763de",
            ),
            (
                vec![0; 5000],
                "4c7e6c75f1014377909ba4222b4a796bf40ce11e4d0990161ef7f4db9622cf9d",
            ),
            (
                vec![0; 1_000_000],
                "5829f7f4451bf83dd61618787a0dfc11d5eaab032ae8b26d2d98945a06a69c9e",
            ),
        ] {
            for part in [1, 4095, 4096, 4097, 1 << 20] {
                assert_eq!(of(&bytes, part), digest, "{} in {part}", bytes.len());
            }
        }
    }

    /// Sizes at which a block or a level begins or ends. Where the tool is not installed, the constants above have to do.
    #[test]
    fn files_of_every_shape_have_the_digest_that_fsverity_utils_finds() {
        if Command::new("fsverity").arg("--help").output().is_err() {
            println!("skipped: install fsverity");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let level = 128 * BLOCK;
        let edges = [1, BLOCK, 2 * BLOCK, level, 128 * level];
        for size in edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]) {
            let bytes: Vec<u8> = (0..=250)
                .flat_map(|byte| [byte; 7])
                .cycle()
                .take(size)
                .collect();
            std::fs::write(&path, &bytes).unwrap();
            let said = Command::new("fsverity")
                .args(["digest", "--compact"])
                .arg(&path)
                .output()
                .unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert_eq!(of(&bytes, 300_000), said.trim(), "{size} bytes");
        }
    }
}
