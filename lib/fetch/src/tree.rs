// SPDX-License-Identifier: Apache-2.0
//! Git trees, read strictly, and objects by name.
//!
//! A tree that two programs could read as two things is refused: names that go elsewhere, doubled names, names that fall together on
//! file systems that ignore case, symbolic links, submodules, unusual modes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use gix_hash::{Kind as Format, ObjectId, oid};

use crate::{
    limits::Limits,
    pack::{Kind, Objects},
};

/// Why a tree is refused.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Bytes that are no tree.
    #[error("tree {0} is malformed")]
    Malformed(ObjectId),
    /// A name that no file may have.
    #[error("tree {tree} has an entry {name:?}, which is not a name for a file")]
    Name {
        /// Which tree.
        tree: ObjectId,
        /// The name, cut.
        name: String,
    },
    /// Two entries that are one, or an order that Git does not write.
    #[error("tree {tree} has two entries {name:?}, or they are out of order")]
    Doubled {
        /// Which tree.
        tree: ObjectId,
        /// The name, cut.
        name: String,
    },
    /// Symbolic link, submodule, or a mode that Git does not write.
    #[error("{path} is {what}; only plain files and folders are taken")]
    Mode {
        /// Where.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// An object that is not there.
    #[error("object {0} is missing")]
    Missing(ObjectId),
    /// An object of another kind than its place says.
    #[error("object {id} is a {found}, not a {expected}")]
    Kind {
        /// Which object.
        id: ObjectId,
        /// What it is.
        found: Kind,
        /// What it should be.
        expected: Kind,
    },
    /// Too much of it.
    #[error("the tree is too large: {0}")]
    TooLarge(&'static str),
    /// The place where objects come from failed.
    #[error("object {id} cannot be read")]
    Read {
        /// Which object.
        id: ObjectId,
        /// Why.
        source: std::io::Error,
    },
}

/// Where objects come from. Each has been checked against its name.
pub(crate) trait Source {
    fn object(&self, id: &oid) -> std::io::Result<Option<(Kind, Vec<u8>)>>;
    fn format(&self) -> Format;

    /// Approvals of a commit, where the place knows them apart from its objects.
    fn approvals(&self, _: &ObjectId) -> std::io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}

/// Objects in memory: those of a pack, then those that were here before.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) layers: Vec<Arc<Objects>>,
    pub(crate) format: Format,
}

impl Source for Layers {
    fn object(&self, id: &oid) -> std::io::Result<Option<(Kind, Vec<u8>)>> {
        Ok(self.layers.iter().find_map(|layer| layer.get(id)).cloned())
    }

    fn format(&self) -> Format {
        self.format
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) folder: bool,
    pub(crate) name: String,
    pub(crate) id: ObjectId,
}

pub(crate) fn object(
    source: &dyn Source,
    id: ObjectId,
    expected: Kind,
) -> Result<Vec<u8>, TreeError> {
    let found = source
        .object(&id)
        .map_err(|source| TreeError::Read { id, source })?;
    match found {
        None => Err(TreeError::Missing(id)),
        Some((found, bytes)) if found == expected => Ok(bytes),
        Some((found, _)) => Err(TreeError::Kind {
            id,
            found,
            expected,
        }),
    }
}

/// Reads one tree. `path` is for errors.
// untrusted: git_tree
pub(crate) fn parse(
    id: ObjectId,
    mut bytes: &[u8],
    path: &str,
    format: Format,
) -> Result<Vec<Entry>, TreeError> {
    let malformed = || TreeError::Malformed(id);
    let mut entries: Vec<Entry> = Vec::new();
    let mut seen = HashSet::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|&b| b == b' ')
            .ok_or_else(malformed)?;
        let (mode, rest) = (&bytes[..space], &bytes[space + 1..]);
        let end = rest.iter().position(|&b| b == 0).ok_or_else(malformed)?;
        let (name, rest) = (&rest[..end], &rest[end + 1..]);
        let (target, rest) = rest
            .split_at_checked(format.len_in_bytes())
            .ok_or_else(malformed)?;
        bytes = rest;
        let shown: String = String::from_utf8_lossy(name).chars().take(80).collect();
        let name = match std::str::from_utf8(name) {
            Ok(name) if is_name(name) => name.to_owned(),
            _ => {
                return Err(TreeError::Name {
                    tree: id,
                    name: shown,
                });
            }
        };
        let what = match mode {
            b"40000" => None,
            b"100644" | b"100755" => None,
            b"120000" => Some("a symbolic link"),
            b"160000" => Some("a submodule"),
            _ => Some("of an unknown mode"),
        };
        if let Some(what) = what {
            return Err(TreeError::Mode {
                path: format!("{path}{name}"),
                what,
            });
        }
        let folder = mode == b"40000";
        // Git orders folders as if their names ended in a slash.
        let key =
            |name: &str, folder: bool| [name.as_bytes(), if folder { b"/" } else { b"" }].concat();
        let ordered = entries
            .last()
            .is_none_or(|last| key(&last.name, last.folder) < key(&name, folder));
        if !ordered || !seen.insert(name.to_lowercase()) {
            return Err(TreeError::Doubled { tree: id, name });
        }
        entries.push(Entry {
            folder,
            name,
            id: ObjectId::try_from(target).map_err(|_| malformed())?,
        });
    }
    Ok(entries)
}

/// A file name that means the same everywhere: UTF-8 without control characters, slashes, and the names of Git's own folder.
fn is_name(name: &str) -> bool {
    // HFS+ ignores such characters: ".g\u{200c}it" is ".git" there.
    let ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let bare = name.trim_end_matches(['.', ' ']).to_ascii_lowercase();
    !(name.is_empty()
        || name.len() > 255
        || matches!(name, "." | "..")
        || bare == ".git"
        || bare == "git~1"
        || name
            .chars()
            .any(|c| c.is_control() || matches!(c, '/' | '\\' | ':') || ignored(c)))
}

/// Every file below `tree`, by path.
pub(crate) fn files(
    source: &dyn Source,
    tree: ObjectId,
    limits: &Limits,
) -> Result<BTreeMap<String, Vec<u8>>, TreeError> {
    let mut files = BTreeMap::new();
    let mut total = 0;
    let mut trees = 0;
    let mut open = vec![(String::new(), tree, 0)];
    while let Some((path, id, depth)) = open.pop() {
        trees += 1;
        if depth > limits.tree_depth {
            return Err(TreeError::TooLarge("folders are nested too deeply"));
        }
        if trees > limits.files {
            return Err(TreeError::TooLarge("too many folders"));
        }
        let bytes = object(source, id, Kind::Tree)?;
        for entry in parse(id, &bytes, &path, source.format())? {
            let path = format!("{path}{}", entry.name);
            if entry.folder {
                open.push((path + "/", entry.id, depth + 1));
                continue;
            }
            if files.len() == limits.files {
                return Err(TreeError::TooLarge("too many files"));
            }
            let bytes = object(source, entry.id, Kind::Blob)?;
            total += bytes.len() as u64;
            if total > limits.tree {
                return Err(TreeError::TooLarge("too many bytes"));
            }
            files.insert(path, bytes);
        }
    }
    Ok(files)
}

/// Every object below `tree`, whatever the names in it: what a next pack may build on. Bounded like [`files`], a little more generously, so
/// that what is at fault there is said by `files`.
pub(crate) fn closure(
    source: &dyn Source,
    tree: ObjectId,
    limits: &Limits,
    keep: &mut dyn FnMut(ObjectId, Kind, Vec<u8>),
) -> Result<(), TreeError> {
    let mut seen = HashSet::from([tree]);
    let mut open = vec![(tree, Kind::Tree)];
    let mut total = 0;
    while let Some((id, kind)) = open.pop() {
        let bytes = object(source, id, kind)?;
        total += bytes.len() as u64;
        if total > limits.tree * 2 {
            return Err(TreeError::TooLarge("too many bytes"));
        }
        if kind == Kind::Tree {
            for entry in gix_object::TreeRefIter::from_bytes(&bytes, source.format()) {
                let entry = entry.map_err(|_| TreeError::Malformed(id))?;
                let kind = match entry.mode.is_tree() {
                    true => Kind::Tree,
                    // What a submodule points to is in another repository.
                    false if entry.mode.is_commit() => continue,
                    false => Kind::Blob,
                };
                if seen.insert(entry.oid.to_owned()) {
                    open.push((entry.oid.to_owned(), kind));
                }
            }
            if seen.len() > limits.files * 4 {
                return Err(TreeError::TooLarge("too many files"));
            }
        }
        keep(id, kind, bytes);
    }
    Ok(())
}

/// The tree of a commit.
pub(crate) fn of_commit(source: &dyn Source, commit: ObjectId) -> Result<ObjectId, TreeError> {
    let bytes = object(source, commit, Kind::Commit)?;
    gix_object::CommitRefIter::from_bytes(&bytes, source.format())
        .tree_id()
        .map_err(|_| TreeError::Malformed(commit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(entries: &[(&str, &[u8])]) -> Result<Vec<Entry>, TreeError> {
        let mut bytes = Vec::new();
        for (mode, name) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(&[7; 20]);
        }
        parse(Format::Sha1.null(), &bytes, "", Format::Sha1)
    }

    #[test]
    fn plain_files_and_folders_are_taken() {
        let entries = tree(&[
            ("100644", b".gitignore"),
            ("100755", b"a-b"),
            ("40000", b"a"),
            ("100644", "ä.yaml".as_bytes()),
        ])
        .unwrap();
        assert_eq!(
            entries.iter().map(|e| e.folder).collect::<Vec<_>>(),
            [false, false, true, false]
        );
    }

    #[test]
    fn names_that_go_elsewhere_are_refused() {
        for name in [
            &b""[..],
            b".",
            b"..",
            b".git",
            b".GIT",
            b"git~1",
            b".git.",
            b".git ",
            b"a/b",
            b"a\\b",
            b"a:b",
            b"a\nb",
            b"\xff",
            ".g\u{200c}it".as_bytes(),
        ] {
            assert!(
                matches!(tree(&[("100644", name)]), Err(TreeError::Name { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn doubled_entries_are_refused() {
        for (first, second) in [
            (("100644", "a"), ("100644", "a")),
            (("100644", "a"), ("40000", "a")),
            (("100644", "A"), ("100644", "a")),
            (("100644", "b"), ("100644", "a")),
        ] {
            let result = tree(&[
                (first.0, first.1.as_bytes()),
                (second.0, second.1.as_bytes()),
            ]);
            assert!(
                matches!(result, Err(TreeError::Doubled { .. })),
                "{first:?} {second:?}"
            );
        }
    }

    #[test]
    fn links_submodules_and_odd_modes_are_refused() {
        for mode in ["120000", "160000", "100664", "040000", "0", "", "100600"] {
            assert!(
                matches!(tree(&[(mode, b"a")]), Err(TreeError::Mode { .. })),
                "{mode}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Format::Sha1.null(), &bytes, "", Format::Sha1);
            let _ = parse(Format::Sha256.null(), &bytes, "", Format::Sha256);
        }
    }
}
