// SPDX-License-Identifier: Apache-2.0
//! Git objects of a local repository, for the same verification code that trays run.
//!
//! `git cat-file` hands over the bytes; each object is hashed again here, and replace refs are switched off, so that a
//! repository cannot show us another object than a tray would get.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use racklet_fetch::rack::{APPROVAL_BRANCHES, APPROVAL_FILE, APPROVALS, is_named_after_its_key};
use racklet_trust::commit::{Commit, ObjectId};
use racklet_trust::history::{Repository, RootDocument};
use racklet_trust::{Digest, TrustRoot, Verified};

use crate::git;

/// Where approvals are in a clone: in refs of their own, or in the server's branches. (In a repository without a work tree these are its own.)
fn approval_folders() -> [String; 3] {
    let branches = APPROVAL_BRANCHES;
    [
        APPROVALS.to_owned(),
        git::tracked(branches),
        branches.to_owned(),
    ]
}

/// Longest object that is read; rack repositories are text, chunks are at most 1 MiB.
const MAX_OBJECT: u64 = 20 << 20;

/// Why an object could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("cannot run git cat-file")]
    Start(#[source] io::Error),
    #[error("git cat-file gave something that is not an object")]
    Protocol,
    #[error("talk to git cat-file")]
    Io(#[from] io::Error),
    #[error("object {0} is larger than {MAX_OBJECT} bytes")]
    TooLarge(String),
    #[error(
        "object {0} does not have the contents that its name says; the repository is damaged (git fsck)"
    )]
    Corrupt(String),
    #[error("{name} is a {found}, not a {expected}")]
    Kind {
        name: String,
        found: String,
        expected: &'static str,
    },
    #[error("list approvals")]
    Refs(#[from] git::GitError),
    #[error("tree {0} is malformed")]
    Tree(String),
}

/// A repository's objects, read through one `git cat-file --batch`.
pub(crate) struct Objects {
    repository: git::Repository,
    pipes: RefCell<Pipes>,
    /// The folders in the tree `trust` read last: almost every commit has the one of its parent.
    trust: RefCell<Option<(ObjectId, Versions)>>,
    /// What is in a version's folder, by the folder's name in Git: a tree with a new version has all the others unchanged.
    documents: RefCell<HashMap<ObjectId, Option<RootDocument>>>,
    /// Which trust root a walk through a tree `trust` led to, from the first version of this digest on.
    walked: RefCell<HashMap<(Digest, ObjectId), Verified<TrustRoot>>>,
}

/// The versions in a tree `trust`, by their numbers, and the folder of each.
type Versions = Vec<(u64, ObjectId)>;

/// The most trust documents that are remembered at once, at about a kilobyte each.
const MAX_DOCUMENTS: usize = 10_000;

struct Pipes {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // Its input closed, it ends by itself.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// One entry of a tree.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_tree: bool,
    /// An ordinary file, as opposed to a symbolic link or a submodule.
    pub(crate) is_file: bool,
    pub(crate) id: String,
}

/// Hands over mode, name and object of each entry of the tree `id`.
fn each_entry(
    id: &str,
    bytes: &[u8],
    mut entry: impl FnMut(&str, &str, ObjectId),
) -> Result<(), ObjectError> {
    let malformed = || ObjectError::Tree(id.to_owned());
    let mut rest = bytes;
    while !rest.is_empty() {
        let nul = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(malformed)?;
        let (mode, name) = std::str::from_utf8(&rest[..nul])
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(malformed)?;
        let end = nul + 1 + id.len() / 2;
        let binary = rest.get(nul + 1..end).ok_or_else(malformed)?;
        entry(
            mode,
            name,
            ObjectId::from_bytes(binary).ok_or_else(malformed)?,
        );
        rest = &rest[end..];
    }
    Ok(())
}

impl Objects {
    pub(crate) fn open(repository: &git::Repository) -> Result<Self, ObjectError> {
        let mut child = Command::new("git")
            .arg("-C")
            .arg(repository.path())
            .args(["cat-file", "--batch"])
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            // Nothing is fetched behind our back: what is not here is said to be missing.
            .env("GIT_NO_LAZY_FETCH", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ObjectError::Start)?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Self {
            repository: repository.clone(),
            pipes: RefCell::new(Pipes {
                child,
                input,
                output,
            }),
            trust: RefCell::default(),
            documents: RefCell::default(),
            walked: RefCell::default(),
        })
    }

    /// The object that has this name, as kind and contents.
    fn get(&self, id: &str) -> Result<Option<(String, Vec<u8>)>, ObjectError> {
        let mut pipes = self.pipes.borrow_mut();
        let input = pipes.input.as_mut().expect("open until dropped");
        // In one call: each wakes Git.
        input.write_all(format!("{id}\n").as_bytes())?;
        let mut header = String::new();
        pipes.output.read_line(&mut header)?;
        if header.ends_with("missing\n") {
            return Ok(None);
        }
        let words: Vec<&str> = header.split_whitespace().collect();
        let [found, kind, size] = words[..] else {
            return Err(ObjectError::Protocol);
        };
        let size: u64 = size.parse().map_err(|_| ObjectError::Protocol)?;
        if size > MAX_OBJECT || found != id {
            return Err(ObjectError::TooLarge(id.to_owned()));
        }
        let mut contents = vec![0; usize::try_from(size).map_err(|_| ObjectError::Protocol)?];
        pipes.output.read_exact(&mut contents)?;
        pipes.output.read_exact(&mut [0])?;
        let algorithm = match id.len() {
            40 => &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
            _ => &ring::digest::SHA256,
        };
        let mut hash = ring::digest::Context::new(algorithm);
        hash.update(format!("{kind} {size}\0").as_bytes());
        hash.update(&contents);
        if ObjectId::from_bytes(hash.finish().as_ref())
            .map(|found| found.to_string())
            .as_deref()
            != Some(id)
        {
            return Err(ObjectError::Corrupt(id.to_owned()));
        }
        Ok(Some((kind.to_owned(), contents)))
    }

    fn typed(&self, id: &str, expected: &'static str) -> Result<Option<Vec<u8>>, ObjectError> {
        match self.get(id)? {
            None => Ok(None),
            Some((kind, contents)) if kind == expected => Ok(Some(contents)),
            Some((found, _)) => Err(ObjectError::Kind {
                name: id.to_owned(),
                found,
                expected,
            }),
        }
    }

    pub(crate) fn blob(&self, id: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        self.typed(id, "blob")
    }

    /// The entries of a tree.
    pub(crate) fn tree(&self, id: &str) -> Result<Option<Vec<Entry>>, ObjectError> {
        let Some(bytes) = self.typed(id, "tree")? else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        each_entry(id, &bytes, |mode, name, id| {
            entries.push(Entry {
                name: name.to_owned(),
                is_tree: mode == "40000",
                is_file: mode.starts_with("100"),
                id: id.to_string(),
            });
        })?;
        Ok(Some(entries))
    }

    /// The tree of a commit.
    pub(crate) fn commit_tree(&self, id: &str) -> Result<Option<String>, ObjectError> {
        let Some(raw) = self.typed(id, "commit")? else {
            return Ok(None);
        };
        Ok(Commit::parse(&raw)
            .ok()
            .map(|commit| commit.tree().to_string()))
    }

    /// The object at `path` in a tree.
    pub(crate) fn at(&self, tree: &str, path: &str) -> Result<Option<Entry>, ObjectError> {
        let mut current = tree.to_owned();
        let mut found = None;
        for name in path.split('/') {
            let Some(entries) = self.tree(&current)? else {
                return Ok(None);
            };
            let Some(entry) = entries.into_iter().find(|entry| entry.name == name) else {
                return Ok(None);
            };
            current.clone_from(&entry.id);
            found = Some(entry);
        }
        Ok(found)
    }

    /// The file at `path` in a tree.
    pub(crate) fn file(&self, tree: &str, path: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        match self.at(tree, path)? {
            Some(entry) if entry.is_file => self.blob(&entry.id),
            _ => Ok(None),
        }
    }

    /// All files below a tree, as paths and contents, that `wanted` picks.
    pub(crate) fn files(
        &self,
        tree: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<(String, Vec<u8>)>, ObjectError> {
        let mut out = Vec::new();
        let mut stack = vec![(String::new(), tree.to_owned())];
        while let Some((prefix, id)) = stack.pop() {
            for entry in self.tree(&id)?.unwrap_or_default() {
                let path = format!("{prefix}{}", entry.name);
                if entry.is_tree {
                    stack.push((format!("{path}/"), entry.id));
                } else if wanted(&path)
                    && let Some(contents) = self.blob(&entry.id)?
                {
                    out.push((path, contents));
                }
            }
        }
        out.sort();
        Ok(out)
    }
}

impl Objects {
    /// The newest trust root in a tree `trust`, which `walk` finds from the first version of this digest on: once for each tree.
    pub(crate) fn walked<E>(
        &self,
        first: Digest,
        trust_tree: ObjectId,
        walk: impl FnOnce() -> Result<Verified<TrustRoot>, E>,
    ) -> Result<Verified<TrustRoot>, E> {
        if let Some(root) = self.walked.borrow().get(&(first, trust_tree)) {
            return Ok(root.clone());
        }
        let root = walk()?;
        self.walked
            .borrow_mut()
            .insert((first, trust_tree), root.clone());
        Ok(root)
    }

    /// A version's folder in a tree `trust`.
    fn version_folder(
        &self,
        trust_tree: &ObjectId,
        version: u64,
    ) -> Result<Option<ObjectId>, ObjectError> {
        let mut known = self.trust.borrow_mut();
        let (_, folders) = match &mut *known {
            Some(known) if known.0 == *trust_tree => known,
            other => {
                // Up to a thousand entries in each of a thousand trees: only what is asked for becomes text.
                let id = trust_tree.to_string();
                let bytes = self.typed(&id, "tree")?.unwrap_or_default();
                let mut folders = Versions::new();
                each_entry(&id, &bytes, |mode, name, id| {
                    // `+1` and `01` are no versions.
                    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
                    if mode == "40000" && !name.starts_with('0') && plain(name) {
                        folders.extend(name.parse().map(|version: u64| (version, id)));
                    }
                })?;
                folders.sort_unstable();
                other.insert((*trust_tree, folders))
            }
        };
        let found = folders.binary_search_by_key(&version, |(version, _)| *version);
        Ok(found.ok().map(|at| folders[at].1))
    }

    fn read_document(&self, folder: &str) -> Result<Option<RootDocument>, ObjectError> {
        let entries = self.tree(folder)?.unwrap_or_default();
        let named = |name: &str| entries.iter().find(|entry| entry.name == name);
        let document = named("root.json").filter(|entry| entry.is_file);
        let Some(bytes) = document.map_or(Ok(None), |entry| self.blob(&entry.id))? else {
            return Ok(None);
        };
        let signatures = match named("signatures").filter(|entry| entry.is_tree) {
            Some(folder) => {
                let files = self.files(&folder.id, &|path| {
                    path.ends_with(".sig") && !path.contains('/')
                })?;
                files.into_iter().map(|(_, contents)| contents).collect()
            }
            None => Vec::new(),
        };
        Ok(Some(RootDocument { bytes, signatures }))
    }
}

impl Repository for Objects {
    type Error = ObjectError;

    fn commit(&self, id: &ObjectId) -> Result<Option<Vec<u8>>, ObjectError> {
        self.typed(&id.to_string(), "commit")
    }

    fn approvals(&self, id: &ObjectId) -> Result<Vec<Vec<u8>>, ObjectError> {
        let folders = approval_folders().map(|folder| format!("{folder}{id}/"));
        let format = "--format=%(objecttype) %(objectname) %(refname)";
        let listed = self.repository.text(
            ["for-each-ref", format]
                .into_iter()
                .chain(folders.iter().map(String::as_str))
                .collect::<Vec<_>>(),
        )?;
        let mut approvals = Vec::new();
        for line in listed.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(kind), Some(object), Some(name)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let armored = match kind {
                "blob" => self.blob(object)?,
                "commit" => match self.commit_tree(object)? {
                    Some(tree) => self.file(&tree, APPROVAL_FILE)?,
                    None => None,
                },
                _ => None,
            };
            approvals.extend(armored.filter(|armored| is_named_after_its_key(name, armored)));
        }
        Ok(approvals)
    }

    fn trust_tree(&self, tree: &ObjectId) -> Result<Option<ObjectId>, ObjectError> {
        let entry = self
            .at(&tree.to_string(), "trust")?
            .filter(|entry| entry.is_tree);
        Ok(entry.and_then(|entry| ObjectId::from_hex(&entry.id)))
    }

    fn root_document(
        &self,
        trust_tree: &ObjectId,
        version: u64,
    ) -> Result<Option<RootDocument>, ObjectError> {
        let Some(folder) = self.version_folder(trust_tree, version)? else {
            return Ok(None);
        };
        if let Some(document) = self.documents.borrow().get(&folder) {
            return Ok(document.clone());
        }
        let document = self.read_document(&folder.to_string())?;
        let mut known = self.documents.borrow_mut();
        if known.len() >= MAX_DOCUMENTS {
            known.clear();
        }
        known.insert(folder, document.clone());
        Ok(document)
    }
}
