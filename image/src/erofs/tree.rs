// SPDX-License-Identifier: Apache-2.0
//! A file tree in memory: names, metadata and where contents are to be read, but no contents.
//!
//! Every rule about what may be in an image is here, so that all sources obey the same ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::attribute::{LeftOut, Remarks};

/// Entries in one image; bounds the memory a hostile archive can make us use (about 200 bytes an entry).
pub const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of file contents in one image: what fits on a tray's card several times over is a mistake.
pub const MAX_CONTENT: u64 = 64 << 30;
/// Longest name of one entry (Linux `NAME_MAX`).
const MAX_NAME: usize = 255;
/// Longest target of a symbolic link (Linux `PATH_MAX` without its NUL).
const MAX_TARGET: usize = 4095;
/// Deeper trees are an attack on whoever walks them, not a root file system.
const MAX_DEPTH: usize = 128;

/// Why an entry cannot be part of an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// `/etc/passwd` instead of `etc/passwd`.
    #[error("{0}: absolute path; make the archive with relative paths (tar -C DIR -cf FILE .)")]
    Absolute(String),
    /// A `..` somewhere in the path.
    #[error("{0}: `..` in a path could name a file outside the image")]
    Escapes(String),
    /// A name that no file system takes.
    #[error("{0}: empty, over-long (255 bytes) or NUL-bearing name")]
    Name(String),
    /// More than [`MAX_DEPTH`] levels.
    #[error("{0}: more than {MAX_DEPTH} levels deep")]
    Depth(String),
    /// `a` is a file or symbolic link and `a/b` was to be added.
    #[error(
        "{0}: a parent of this path is not a directory (files are never placed through symbolic links)"
    )]
    Parent(String),
    /// A directory and something else under the same name.
    #[error("{0}: is there twice, once as a directory and once as something else")]
    Conflict(String),
    /// A hard link's target is missing or is a directory.
    #[error("{path}: hard link to `{target}`, which is not a file earlier in the archive")]
    HardLink {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A symbolic link without a target, or with one that no kernel takes.
    #[error("{0}: symbolic link with an empty, over-long or NUL-bearing target")]
    Target(String),
    /// A device node where none is allowed.
    #[error(
        "{0}: device node; a workload gets its devices from the guest's /dev, so leave it out (or allow device nodes)"
    )]
    Device(String),
    /// Too much.
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    /// Too big.
    #[error("more than {} GiB of file contents", MAX_CONTENT >> 30)]
    TooBig,
}

/// Owner, mode and the one extended attribute that means something to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with set-id and sticky, no file type.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Value of `security.capability`.
    pub capability: Option<Vec<u8>>,
}

impl Metadata {
    /// `root:root` with `mode`.
    pub fn root(mode: u16) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            capability: None,
        }
    }
}

/// Where the bytes of a regular file are read when the image is written.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file of this machine; `size` is what it had when the tree was made.
    Path {
        /// Its path.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// A stretch of an archive.
    Slice {
        /// The archive, uncompressed.
        file: Arc<File>,
        /// Where the contents begin.
        offset: u64,
        /// Bytes.
        size: u64,
    },
}

impl Content {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Path { size, .. } | Content::Slice { size, .. } => *size,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory; its children are added by path.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link, kept as it is: only the guest ever follows it.
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

pub(super) struct Inode {
    pub(super) metadata: Metadata,
    pub(super) body: Body,
    /// Names that refer to it; directories are counted when the image is laid out.
    pub(super) links: u32,
}

pub(super) enum Body {
    Directory(BTreeMap<Vec<u8>, usize>),
    Other(Kind),
}

/// A file tree. Index 0 is the root.
pub struct Tree {
    pub(super) inodes: Vec<Inode>,
    devices: bool,
    content: u64,
    remarks: Remarks,
}

impl Tree {
    /// A root directory and nothing in it. Device nodes are refused unless `devices`.
    pub fn new(devices: bool) -> Self {
        let root = Inode {
            metadata: Metadata::root(0o755),
            body: Body::Directory(BTreeMap::new()),
            links: 0,
        };
        Self {
            inodes: vec![root],
            devices,
            content: 0,
            remarks: Remarks::default(),
        }
    }

    /// Entries that can be reached, the root included.
    pub fn len(&self) -> usize {
        self.inodes
            .iter()
            .enumerate()
            .filter(|(index, inode)| *index == 0 || inode.links > 0)
            .count()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        matches!(&self.inodes[0].body, Body::Directory(children) if children.is_empty())
    }

    /// What its source had and the image does not: what, of how many entries, and the first of them.
    pub fn left_out(&self) -> impl Iterator<Item = (LeftOut, usize, &str)> {
        self.remarks.iter()
    }

    pub(super) fn leave_out(&mut self, what: LeftOut, path: &[u8]) {
        self.remarks.add(what, path);
    }

    /// Adds an entry. Missing parents are made (`root:root`, 0755); a second entry for a path replaces the first, as
    /// tar does, unless one of them is a directory and the other is not.
    pub fn add(
        &mut self,
        path: &[u8],
        mut metadata: Metadata,
        kind: Kind,
    ) -> Result<(), TreeError> {
        if !matches!(kind, Kind::File(_)) && metadata.capability.take().is_some() {
            self.leave_out(LeftOut::OddCapability, path);
        }
        let shown = || String::from_utf8_lossy(path).into_owned();
        match &kind {
            Kind::Symlink(target)
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) =>
            {
                return Err(TreeError::Target(shown()));
            }
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } if !self.devices => {
                return Err(TreeError::Device(shown()));
            }
            _ => {}
        }
        let names = components(path)?;
        let Some((name, parents)) = names.split_last() else {
            // The archive's own "./".
            if !matches!(kind, Kind::Directory) {
                return Err(TreeError::Conflict(shown()));
            }
            self.inodes[0].metadata = metadata;
            return Ok(());
        };
        let parent = self.directory(parents, path)?;
        let existing = self.children(parent, path)?.get(*name).copied();
        let is_directory = matches!(kind, Kind::Directory);
        if let Some(index) = existing {
            let was_directory = matches!(self.inodes[index].body, Body::Directory(_));
            if is_directory != was_directory {
                return Err(TreeError::Conflict(shown()));
            }
            if is_directory {
                self.inodes[index].metadata = metadata;
                return Ok(());
            }
            self.inodes[index].links -= 1;
        }
        if let Kind::File(content) = &kind {
            // Replaced contents stay counted: an archive that repeats itself is still bounded.
            self.content = self.content.saturating_add(content.size());
            if self.content > MAX_CONTENT {
                return Err(TreeError::TooBig);
            }
        }
        let body = if is_directory {
            Body::Directory(BTreeMap::new())
        } else {
            Body::Other(kind)
        };
        let index = self.push(Inode {
            metadata,
            body,
            links: 1,
        })?;
        self.children(parent, path)?.insert(name.to_vec(), index);
        Ok(())
    }

    /// Gives the file that `path` names this capability: archives may say it with any of a file's names.
    pub(super) fn set_capability(&mut self, path: &[u8], capability: Option<Vec<u8>>) {
        let found = self.find(path).ok().flatten();
        match found.map(|index| &mut self.inodes[index]) {
            Some(Inode {
                metadata,
                body: Body::Other(Kind::File(_)),
                ..
            }) => metadata.capability = capability,
            _ => self.leave_out(LeftOut::OddCapability, path),
        }
    }

    /// Adds `path` as another name of `target`, which must be a file that is already there.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let refused = || TreeError::HardLink {
            path: String::from_utf8_lossy(path).into_owned(),
            target: String::from_utf8_lossy(target).into_owned(),
        };
        let index = self.find(target)?.ok_or_else(refused)?;
        if matches!(self.inodes[index].body, Body::Directory(_)) {
            return Err(refused());
        }
        let names = components(path)?;
        let (name, parents) = names.split_last().ok_or_else(refused)?;
        let parent = self.directory(parents, path)?;
        let children = self.children(parent, path)?;
        let previous = children.insert(name.to_vec(), index);
        self.inodes[index].links += 1;
        if let Some(previous) = previous {
            if matches!(self.inodes[previous].body, Body::Directory(_)) {
                return Err(TreeError::Conflict(
                    String::from_utf8_lossy(path).into_owned(),
                ));
            }
            self.inodes[previous].links -= 1;
        }
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<Option<usize>, TreeError> {
        let mut index = 0;
        for name in components(path)? {
            let Body::Directory(children) = &self.inodes[index].body else {
                return Ok(None);
            };
            match children.get(name) {
                Some(child) => index = *child,
                None => return Ok(None),
            }
        }
        Ok(Some(index))
    }

    fn push(&mut self, inode: Inode) -> Result<usize, TreeError> {
        if self.inodes.len() >= MAX_ENTRIES {
            return Err(TreeError::TooMany);
        }
        self.inodes.push(inode);
        Ok(self.inodes.len() - 1)
    }

    fn children(
        &mut self,
        index: usize,
        path: &[u8],
    ) -> Result<&mut BTreeMap<Vec<u8>, usize>, TreeError> {
        match &mut self.inodes[index].body {
            Body::Directory(children) => Ok(children),
            Body::Other(_) => Err(TreeError::Parent(
                String::from_utf8_lossy(path).into_owned(),
            )),
        }
    }

    fn directory(&mut self, names: &[&[u8]], path: &[u8]) -> Result<usize, TreeError> {
        let mut index = 0;
        for name in names {
            index = match self.children(index, path)?.get(*name) {
                Some(child) => *child,
                None => {
                    let body = Body::Directory(BTreeMap::new());
                    let child = self.push(Inode {
                        metadata: Metadata::root(0o755),
                        body,
                        links: 1,
                    })?;
                    self.children(index, path)?.insert(name.to_vec(), child);
                    child
                }
            };
        }
        Ok(index)
    }
}

/// Splits `./a/b/` into `a`, `b`; refuses whatever could point elsewhere.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    if path.starts_with(b"/") {
        return Err(TreeError::Absolute(shown()));
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(TreeError::Escapes(shown())),
            _ if name.len() > MAX_NAME || name.contains(&0) => {
                return Err(TreeError::Name(shown()));
            }
            _ => names.push(name),
        }
    }
    if path.is_empty() {
        return Err(TreeError::Name(shown()));
    }
    if names.len() > MAX_DEPTH {
        return Err(TreeError::Depth(shown()));
    }
    Ok(names)
}
