// SPDX-License-Identifier: Apache-2.0
//! A [`Tree`] from a directory of this machine.
//!
//! The directory is its owner's, so it is not treated as hostile; it is treated as something that may be odd: sockets,
//! device nodes, files with set-id bits whose owner is about to become root.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::attribute::{Attributes, LeftOut, MAX_CAPABILITY};
use super::judge::NotARoot;
use super::tree::{Content, Kind, Metadata, Tree, TreeError};

/// How a directory is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct DirectoryOptions {
    /// Keep numeric owners instead of making everything `root:root`.
    pub keep_owners: bool,
    /// Allow device nodes.
    pub devices: bool,
}

/// Why a directory cannot become an image.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The source itself.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Something in it.
    #[error("read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket.
    #[error("{}: a socket; sockets are made by the programs that listen on them, so leave it out", .0.display())]
    Socket(PathBuf),
    /// A capability that no kernel accepts.
    #[error("{}: its file capability is malformed; set it anew (setcap) or remove it (setcap -r)", .0.display())]
    Capability(PathBuf),
    /// A directory of something else.
    #[error(transparent)]
    NotARoot(#[from] NotARoot),
    /// An entry that no image takes.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Reads the whole directory (names and metadata; contents later). Also says when its newest entry was changed.
pub fn from_directory(
    root: &Path,
    options: DirectoryOptions,
) -> Result<(Tree, u64), DirectoryError> {
    let top = fs::metadata(root).map_err(|source| DirectoryError::Read {
        path: root.to_owned(),
        source,
    })?;
    if !top.is_dir() {
        return Err(DirectoryError::NotADirectory(root.to_owned()));
    }
    let mut tree = Tree::new(options.devices);
    let mut newest = 0;
    let mut hard_links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut stack = vec![PathBuf::new()];
    let meta = metadata(&mut tree, b".", root, &top, options)?;
    tree.add(b".", meta, Kind::Directory)?;
    while let Some(relative) = stack.pop() {
        let directory = root.join(&relative);
        let read = |source| DirectoryError::Read {
            path: directory.clone(),
            source,
        };
        let mut names: Vec<PathBuf> = fs::read_dir(&directory)
            .map_err(read)?
            .map(|entry| entry.map(|entry| relative.join(entry.file_name())))
            .collect::<Result<_, _>>()
            .map_err(read)?;
        names.sort_unstable();
        for name in names {
            let path = root.join(&name);
            let read = |source| DirectoryError::Read {
                path: path.clone(),
                source,
            };
            let found = fs::symlink_metadata(&path).map_err(read)?;
            newest = newest.max(u64::try_from(found.mtime()).unwrap_or(0));
            let inside = name.as_os_str().as_bytes();
            if !found.is_dir() && found.nlink() > 1 {
                if let Some(first) = hard_links.get(&(found.dev(), found.ino())) {
                    tree.link(inside, first.as_os_str().as_bytes())?;
                    continue;
                }
                hard_links.insert((found.dev(), found.ino()), name.clone());
            }
            let kind = found.file_type();
            let device = || {
                let number = found.rdev();
                (rustix::fs::major(number), rustix::fs::minor(number))
            };
            let kind = if kind.is_dir() {
                stack.push(name.clone());
                Kind::Directory
            } else if kind.is_file() {
                Kind::File(Content::Path {
                    path: path.clone(),
                    size: found.len(),
                })
            } else if kind.is_symlink() {
                Kind::Symlink(
                    fs::read_link(&path)
                        .map_err(read)?
                        .into_os_string()
                        .as_bytes()
                        .to_vec(),
                )
            } else if kind.is_fifo() {
                Kind::Fifo
            } else if kind.is_char_device() {
                let (major, minor) = device();
                Kind::CharacterDevice { major, minor }
            } else if kind.is_block_device() {
                let (major, minor) = device();
                Kind::BlockDevice { major, minor }
            } else {
                return Err(DirectoryError::Socket(path));
            };
            let meta = metadata(&mut tree, inside, &path, &found, options)?;
            tree.add(inside, meta, kind)?;
        }
    }
    tree.judge()?;
    Ok((tree, newest))
}

/// What an image keeps of an entry; the rest is remarked in `tree`.
fn metadata(
    tree: &mut Tree,
    inside: &[u8],
    path: &Path,
    found: &fs::Metadata,
    options: DirectoryOptions,
) -> Result<Metadata, DirectoryError> {
    let mut attributes = attributes(path)?;
    let whole = u16::try_from(found.mode() & 0o7777).expect("twelve bits");
    let mut mode = whole;
    let (mut uid, mut gid) = (found.uid(), found.gid());
    if !options.keep_owners {
        // A user's set-id program must not become root's by being packed.
        if uid != 0 {
            mode &= !0o4000;
        }
        if gid != 0 && !found.is_dir() {
            mode &= !0o2000;
        }
        (uid, gid) = (0, 0);
    }
    if mode != whole {
        attributes.leave_out(LeftOut::SetId);
    }
    for what in attributes.left_out() {
        tree.leave_out(what, inside);
    }
    Ok(Metadata {
        mode,
        uid,
        gid,
        capability: attributes.capability,
    })
}

fn attributes(path: &Path) -> Result<Attributes, DirectoryError> {
    let read = |error: rustix::io::Errno| DirectoryError::Read {
        path: path.to_owned(),
        source: error.into(),
    };
    let mut attributes = Attributes::default();
    // Most files have none: ask for the length first.
    let length = match rustix::fs::llistxattr_query(path) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(read(error)),
    };
    let mut names = vec![0; length];
    let length = rustix::fs::llistxattr(path, &mut names).map_err(read)?;
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = [0; MAX_CAPABILITY];
        let length = if name == b"security.capability" {
            match rustix::fs::lgetxattr(path, name, &mut value) {
                Ok(length) => length,
                // Longer than any capability.
                Err(rustix::io::Errno::RANGE) => {
                    return Err(DirectoryError::Capability(path.to_owned()));
                }
                Err(error) => return Err(read(error)),
            }
        } else {
            0
        };
        attributes
            .set(name, &value[..length])
            .map_err(|_| DirectoryError::Capability(path.to_owned()))?;
    }
    Ok(attributes)
}
