// SPDX-License-Identifier: Apache-2.0
//! Doors for the fuzz targets to the parsers that nothing else calls directly.

use gix_hash::Kind as Format;
use racklet_tell::text::is_hidden;

use crate::{
    limits::Limits,
    pack::{self, Nowhere},
    pkt::{Lines, SideBand},
    rack::Snapshot,
    remote::{
        boundary::{self, Boundary, cut_at},
        capabilities, refs,
    },
    tree,
};

const LIMITS: Limits = Limits {
    objects: 1000,
    object: 64 << 10,
    inflated: 1 << 20,
    delta_depth: 10,
    ..Limits::RACK
};

/// A pack with the objects it states, each within bounds.
pub fn pack(bytes: &[u8]) {
    if let Ok(objects) = pack::read(bytes, Format::Sha1, &LIMITS, &mut Nowhere) {
        let total: usize = objects.values().map(|(_, bytes)| bytes.len()).sum();
        assert!(total as u64 <= LIMITS.inflated);
    }
}

/// Lines of a side band with a pack in them.
pub fn side_band(bytes: &[u8]) {
    let _ = pack::read(
        SideBand::new(Lines::new(bytes)),
        Format::Sha1,
        &LIMITS,
        &mut Nowhere,
    );
}

/// What a server answers before there is a pack: its capabilities, its refs, where it cut a history. Whatever is taken is within bounds
/// and was asked for.
pub fn ref_lists(bytes: &[u8]) {
    const MOST: usize = 3;
    for format in [Format::Sha1, Format::Sha256] {
        let wanted = |name: &str| name.starts_with("refs/heads/");
        if let Ok(refs) = refs::listed(&mut Lines::new(bytes), format, MOST, &wanted) {
            assert!(refs.len() <= MOST);
            assert!(
                refs.iter()
                    .all(|it| wanted(&it.name) && !it.name.contains(' ') && it.id.kind() == format)
            );
        }
        let until = Some(format.null());
        if let Ok(Boundary::At(cut)) = cut_at(&mut Lines::new(bytes), format, until) {
            assert!((1..=boundary::MOST).contains(&cut.len()));
        }
    }
    if let Ok(Some(branch)) = refs::default_branch(&mut Lines::new(bytes)) {
        assert!(!branch.contains(is_hidden), "it is shown to people");
    }
    let _ = capabilities::read(&mut Lines::new(bytes));
}

/// A tree: whatever is taken has names that stay where they are.
pub fn tree(bytes: &[u8]) {
    if let Ok(entries) = tree::parse(Format::Sha1.null(), bytes, "", Format::Sha1) {
        assert!(
            entries.iter().all(|entry| !entry.name.contains('/')
                && entry.name != ".."
                && entry.name != ".git")
        );
    }
}

/// Which Git object is which chunk: a list is taken whole or not at all.
pub fn chunk_list(bytes: &[u8]) {
    if let Some(list) = crate::cache::tip::read_list(bytes, Format::Sha1) {
        assert_eq!(list.len() * 41, bytes.len());
    }
}

/// The head of an HTTP answer.
pub fn http_head(bytes: &[u8]) {
    crate::http::fuzz_head(bytes);
}

/// The file of the accepted head.
pub fn snapshot(bytes: &[u8]) {
    // The checksum would stop nearly everything: it is put right.
    let mut bytes = bytes.to_vec();
    bytes.extend(crate::chunk::sha256(&bytes).0);
    let _ = Snapshot::decode(&bytes);
}
