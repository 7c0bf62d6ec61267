// SPDX-License-Identifier: Apache-2.0
//! Payloads and artifacts, published as `racklet payload publish` does.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use racklet_fetch::publish;
use racklet_trust::{Architecture, Digest, Manifest, manifest::Kind};

use super::git::{Key, Repository, run};
use super::import::{CommitInfo, write_fast_import};

pub struct Package {
    pub manifest: Manifest,
    pub chunks: BTreeMap<Digest, Vec<u8>>,
    /// Path to bytes, to be spoilt by tests before publication.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// Bytes that neither repeat nor compress.
pub fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Package {
    pub fn new(kind: Kind, name: &str, version: u64, files: &[(&str, &[u8])]) -> Self {
        let mut package = Self {
            manifest: Manifest::new(kind, name, version, Architecture::X86_64),
            chunks: BTreeMap::new(),
            extra: vec![],
        };
        if kind == Kind::Payload {
            package.manifest.boards = vec!["qemu-x86_64".into()];
        }
        package.manifest.created = 1_780_000_000;
        for (name, bytes) in files {
            let chunks = &mut package.chunks;
            let file = publish::split(name, *bytes, |chunk, packed| {
                chunks.insert(chunk.sha256, packed.to_vec());
                Ok(())
            });
            package.manifest.files.push(file.unwrap());
        }
        package
    }

    pub fn payload(version: u64, kernel: &[u8], initramfs: &[u8]) -> Self {
        Self::new(
            Kind::Payload,
            "stable",
            version,
            &[("kernel", kernel), ("initramfs", initramfs)],
        )
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest.to_canonical())
    }

    /// Publishes it as `racklet` does: its branch, and under `name` the small commit that says which object is which chunk.
    pub fn publish_as(&self, repository: &Repository, signers: &[&Key], name: &str) -> String {
        let is_small = |extra: &&(String, Vec<u8>)| !extra.0.contains('/');
        let rest = self.extra.iter().filter(|extra| !is_small(extra));
        let package = self.publish_with(repository, signers, rest);
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(&repository.bare).args(args);
            command
        };
        let listed = run(&mut git(&["ls-tree", "-r", &package]));
        let objects: BTreeMap<&str, &str> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(what, path)| (path, what.rsplit(' ').next().unwrap()))
            .collect();
        let list = publish::chunk_list(&self.manifest, |chunk| {
            let path = publish::chunk_path(chunk);
            Some((*objects.get(path.as_str())?).to_owned())
        });
        let mut files = vec![(publish::CHUNK_LIST.to_owned(), list.unwrap())];
        for (path, object) in &objects {
            if !path.starts_with("chunks/") {
                let bytes = git(&["cat-file", "blob", object]).output().unwrap().stdout;
                files.push(((*path).to_owned(), bytes));
            }
        }
        files.retain(|(path, _)| self.extra.iter().all(|extra| extra.0 != *path));
        files.extend(self.extra.iter().filter(is_small).cloned());
        let commit = CommitInfo {
            branch: name,
            parent: Some(&package),
            name: "Publisher",
            email: "publisher@example.org",
            time: 1_780_000_000 + self.manifest.version,
            message: "publish\n",
        };
        let mut import = git(&["fast-import", "--quiet", "--done", "--force"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let input = &mut import.stdin.take().unwrap();
        write_fast_import(input, &commit, files.into_iter().map(Ok)).unwrap();
        assert!(import.wait().unwrap().success());
        run(&mut git(&["rev-parse", name]))
    }

    /// Commits it on its branch in the served repository; returns the commit.
    pub fn publish(&self, repository: &Repository, signers: &[&Key]) -> String {
        self.publish_with(repository, signers, &self.extra)
    }

    fn publish_with<'a>(
        &self,
        repository: &Repository,
        signers: &[&Key],
        extra: impl IntoIterator<Item = &'a (String, Vec<u8>)>,
    ) -> String {
        let manifest = self.manifest.to_canonical();
        let mut files = vec![(publish::MANIFEST_PATH.to_owned(), manifest.clone())];
        for (n, key) in signers.iter().enumerate() {
            files.push((
                publish::signature_path(n),
                key.sign("manifest@racklet.dev", &manifest),
            ));
        }
        for (digest, bytes) in &self.chunks {
            files.push((publish::chunk_path(*digest), bytes.clone()));
        }
        for extra in extra {
            files.retain(|(path, _)| *path != extra.0);
            files.push(extra.clone());
        }
        let branch = format!("refs/heads/{}/{}", self.manifest.kind, self.manifest.name);
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(&repository.bare).args(args);
            command
        };
        let parent = git(&["rev-parse", "--verify", "-q", &branch])
            .output()
            .unwrap();
        let parent = String::from_utf8(parent.stdout).unwrap();
        let commit = CommitInfo {
            branch: &branch,
            parent: Some(parent.trim()).filter(|parent| !parent.is_empty()),
            name: "Publisher",
            email: "publisher@example.org",
            time: 1_780_000_000 + self.manifest.version,
            message: "publish\n",
        };
        let mut import = git(&["fast-import", "--quiet", "--done"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        write_fast_import(
            &mut import.stdin.take().unwrap(),
            &commit,
            files.into_iter().map(Ok),
        )
        .unwrap();
        assert!(import.wait().unwrap().success());
        run(&mut git(&["rev-parse", &branch]))
    }
}
