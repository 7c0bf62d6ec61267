// SPDX-License-Identifier: Apache-2.0
//! Writes EROFS images: the read-only root file systems of workloads.
//!
//! A [`Tree`] comes from a directory ([`from_directory`]) or from a tar archive ([`from_archive`]); [`Tree::write`] turns
//! it into an image. The same tree gives the same bytes: entries are sorted, every time stamp is the one the caller
//! names, and nothing random goes in.
//!
//! What the images are: block size 4096, uncompressed, plain or inline data, compact inodes unless a value does not fit,
//! `security.capability` as the only extended attribute (what else a source has is counted: [`Tree::left_out`]). What they deliberately are not: compressed (chunks are, on
//! the wire and in the cache, and a guest reads an uncompressed image without spending time), deduplicated, or writable.
//!
//! The layout keeps changes small for content-defined chunking. Whatever holds block addresses is dense and in front;
//! file contents follow in the order of their paths. When one file grows by a block, the addresses change in one short
//! region and the contents behind it move without changing:
//!
//! ```text
//! superblock | inodes with addresses | inodes with inline data | large directories | contents of files
//! ```
//!
//! Source for the format: Linux 6.12, `fs/erofs/erofs_fs.h`, `dir.c`, `namei.c`, `xattr.h`, `super.c`.

mod archive;
mod attribute;
mod compression;
mod directory;
mod judge;
mod layout;
mod tar;
mod tree;

pub use archive::{ArchiveError, ArchiveOptions, from_archive};
pub use attribute::LeftOut;
pub use compression::Unread;
pub use directory::{DirectoryError, DirectoryOptions, from_directory};
pub use judge::NotARoot;
pub use layout::WriteError;
pub use tree::{Content, Kind, MAX_CONTENT, MAX_ENTRIES, Metadata, Tree, TreeError};

#[cfg(test)]
mod archive_tests;
#[cfg(test)]
mod tests;
