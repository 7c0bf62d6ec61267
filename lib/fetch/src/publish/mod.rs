// SPDX-License-Identifier: Apache-2.0
//! The writer's side: cuts files into chunks and lays payloads and artifacts out as Git trees.
//!
//! Everything here is deterministic: the same bytes give the same cuts, the same compressed chunks and the same tree. Signing and
//! pushing are the caller's business. Nothing on a tray uses this module, so the linker leaves it out there.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use racklet_fetch::publish;
//! let mut chunks = std::collections::BTreeMap::new();
//! let file = publish::split("kernel", std::fs::File::open("kernel")?, |chunk, bytes| {
//!     chunks.insert(chunk.sha256, bytes.to_vec());
//!     Ok(())
//! })?;
//! println!("{} bytes, SHA-256 {}, {} chunks", file.size, file.sha256, file.chunks.len());
//! # Ok(()) }
//! ```

mod commit;
mod pieces;
mod split;

use racklet_trust::{Digest, Manifest};

pub use self::{
    commit::{Commit, CommitInfo, ObjectFormat, PackIndex},
    pieces::{MAX_PIECES, Pieces},
    split::{Shelf, Splitter, split},
};

/// Where the manifest stands in the tree.
pub const MANIFEST_PATH: &str = "manifest.json";

/// Where the signature number `n` stands in the tree.
#[must_use]
pub fn signature_path(n: usize) -> String {
    format!("signatures/{n}.sig")
}

/// Where a chunk stands in the tree.
#[must_use]
pub fn chunk_path(digest: Digest) -> String {
    let hex = digest.to_string();
    format!("chunks/{}/{hex}", &hex[..2])
}

/// What every [`manifest_ref`] begins with.
pub const MANIFEST_REFS: &str = "refs/racklet/manifests/";
/// Where they are branches, on servers that take no other refs.
pub const MANIFEST_BRANCHES: &str = "refs/heads/racklet/manifests/";

/// The ref that names a manifest for good, beside the branch that moves on: publish pushes both, so that a rack may pin an older
/// version than the newest, and a tray finds what its rack pins while a newer one is being published. It points to a small commit whose
/// parent is the one with the chunks: manifest, signatures, and [`CHUNK_LIST`].
#[must_use]
pub fn manifest_ref(manifest: Digest) -> String {
    format!("{MANIFEST_REFS}{manifest}")
}

/// The same as a branch, for hosts that take nothing but branches and tags. A tray looks there, too.
#[must_use]
pub fn manifest_branch(manifest: Digest) -> String {
    format!("{MANIFEST_BRANCHES}{manifest}")
}

/// Where the list of chunks stands in the tree of a [`manifest_ref`]; in the tree with the chunks themselves, a folder has this name.
pub const CHUNK_LIST: &str = "chunks";

/// The list of chunks: for each that the manifest names, in its order, a line with the name of the Git object that holds it. With it a tray
/// asks for just those that it lacks, whatever package they came with first. It is nothing but a hint: chunks are what their digests
/// say. `object` says which object a chunk is; `None` when it does not know one.
pub fn chunk_list(
    manifest: &Manifest,
    mut object: impl FnMut(Digest) -> Option<String>,
) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    for chunk in manifest.files.iter().flat_map(|file| &file.chunks) {
        list.extend(object(chunk.sha256)?.into_bytes());
        list.push(b'\n');
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io::{self, Write},
    };

    use proptest::prelude::*;

    use racklet_trust::manifest::{File, MAX_CHUNK_LENGTH, MAX_CHUNK_SIZE};

    use super::*;
    use crate::chunk;

    type Chunks = BTreeMap<Digest, Vec<u8>>;

    fn split_bytes(bytes: &[u8]) -> (File, Chunks) {
        let mut chunks = Chunks::new();
        let file = split("rootfs", bytes, |chunk, packed| {
            chunks.insert(chunk.sha256, packed.to_vec());
            Ok(())
        })
        .unwrap();
        (file, chunks)
    }

    fn join(file: &File, chunks: &Chunks) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in &file.chunks {
            let mut out = vec![0; part.length as usize];
            chunk::open(part.sha256, part.size, &chunks[&part.sha256], &mut out).unwrap();
            whole.extend(out);
        }
        whole
    }

    /// Bytes that neither repeat nor compress.
    fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        })
        .take(length)
        .collect()
    }

    #[test]
    fn a_file_comes_back_from_its_chunks() {
        for bytes in [vec![], noise(1, 1), noise(3_000_000, 2), vec![0; 5_000_000]] {
            let (file, chunks) = split_bytes(&bytes);
            assert!(join(&file, &chunks) == bytes);
            assert_eq!(file.sha256, Digest::of(&bytes));
            assert_eq!(file.size, bytes.len() as u64);
            assert!(
                file.chunks
                    .iter()
                    .all(|c| c.length <= MAX_CHUNK_LENGTH && c.size <= MAX_CHUNK_SIZE)
            );
        }
    }

    #[test]
    fn an_inserted_byte_changes_few_chunks() {
        let mut bytes = noise(16 << 20, 3);
        let (_, before) = split_bytes(&bytes);
        bytes.insert(5_000_000, 7);
        let (after, _) = split_bytes(&bytes);
        let new: Vec<_> = after
            .chunks
            .iter()
            .filter(|c| !before.contains_key(&c.sha256))
            .collect();
        assert!(
            new.len() <= 2,
            "{} of {} chunks changed",
            new.len(),
            after.chunks.len()
        );
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_bytes_come() {
        let mut bytes = noise(5_000_000, 4);
        bytes[1_000_000..4_200_000].fill(0);
        let usual = (64 * 1024, 256 * 1024, MAX_CHUNK_LENGTH as usize);
        let cuts = fastcdc::v2020::FastCDC::new(&bytes, usual.0, usual.1, usual.2);
        let lengths: Vec<usize> = cuts.map(|cut| cut.length).collect();
        let (file, chunks) = split_bytes(&bytes);
        let found: Vec<usize> = file.chunks.iter().map(|c| c.length as usize).collect();
        assert_eq!(found, lengths);
        for size in [1, 4097, 1 << 20, 5_000_000] {
            let (nothing, mut shelf) = (Pieces::default(), Counted::default());
            let mut splitter = Splitter::new("rootfs", &nothing, &mut shelf).unwrap();
            for part in bytes.chunks(size) {
                splitter.write_all(part).unwrap();
            }
            assert!(splitter.finish().unwrap().0 == file, "in parts of {size}");
            assert_eq!(shelf.new, chunks.len(), "each different chunk once");
        }
    }

    /// Counts, and has what it is told to have.
    #[derive(Default)]
    struct Counted {
        new: usize,
        reused: usize,
        damaged: bool,
    }

    impl Shelf for Counted {
        fn reuse(&mut self, _: &racklet_trust::manifest::Chunk) -> io::Result<bool> {
            self.reused += usize::from(!self.damaged);
            Ok(!self.damaged)
        }
        fn put(&mut self, _: &racklet_trust::manifest::Chunk, _: &[u8]) -> io::Result<()> {
            self.new += 1;
            Ok(())
        }
    }

    #[test]
    fn what_was_compressed_before_is_not_compressed_again_and_changes_nothing() {
        let mut bytes = noise(8 << 20, 5);
        let build = |bytes: &[u8], known: &Pieces, damaged: bool| {
            let mut shelf = Counted {
                damaged,
                ..Counted::default()
            };
            let mut splitter = Splitter::new("rootfs", known, &mut shelf).unwrap();
            splitter.read(bytes).unwrap();
            let (file, pieces) = splitter.finish().unwrap();
            (file, pieces, shelf)
        };
        let (_, before, _) = build(&bytes, &Pieces::default(), false);
        bytes[4_000_000] ^= 1;
        let (plain, ..) = build(&bytes, &Pieces::default(), false);
        let (file, _, shelf) = build(&bytes, &before, false);
        assert!(file == plain);
        assert!(shelf.new <= 2 && shelf.reused + shelf.new == plain.chunks.len());
        let (file, _, shelf) = build(&bytes, &before, true);
        assert!(file == plain);
        assert_eq!(shelf.new, plain.chunks.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn splitting_loses_nothing(parts in proptest::collection::vec((any::<u8>(), 0usize..200_000), 0..8)) {
            let bytes: Vec<u8> = parts.iter().flat_map(|&(byte, count)| std::iter::repeat_n(byte, count)).collect();
            let (file, chunks) = split_bytes(&bytes);
            prop_assert!(join(&file, &chunks) == bytes);
            prop_assert_eq!(file, split_bytes(&bytes).0);
        }
    }
}
