// SPDX-License-Identifier: Apache-2.0
//! Long histories, signed in this process and given to Git as one pack: `git commit` would take minutes for a thousand.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use flate2::{Compression, write::ZlibEncoder};
use gix_hash::{Kind as Format, ObjectId};
use gix_object::Kind;
use racklet_trust::{PublicKey, sshsig};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::git::Repository;

/// A key pair in memory.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    pub fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub fn public(&self) -> PublicKey {
        let mut blob = Vec::new();
        for field in [&b"ssh-ed25519"[..], self.0.public_key().as_ref()] {
            blob.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            blob.extend(field);
        }
        PublicKey::from_blob(&blob).unwrap()
    }

    pub fn sign(&self, namespace: &str, message: &[u8]) -> String {
        let signature = self.0.sign(&sshsig::to_be_signed(namespace, message));
        let signature = signature.as_ref().try_into().unwrap();
        sshsig::armor(&self.public(), namespace, signature)
    }
}

/// A folder of many files, being changed.
pub struct Folder {
    bytes: Vec<u8>,
    /// Where each entry's object is named.
    entries: Vec<usize>,
    /// Where it was written last, and on how many others that is built.
    deltas: Option<(usize, usize)>,
}

impl Folder {
    /// So many files with the same object.
    pub fn new(files: usize, id: ObjectId) -> Self {
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for n in 0..files {
            bytes.extend(format!("100644 workload-{n:06}.yaml\0").into_bytes());
            entries.push(bytes.len());
            bytes.extend(id.as_slice());
        }
        Self {
            bytes,
            entries,
            deltas: None,
        }
    }
}

/// A pack being written, of a SHA-256 repository.
pub struct History {
    objects: u32,
    pack: Vec<u8>,
    time: u64,
    /// What the signature of the commit made last is over; approvals are over the same.
    pub signed: Vec<u8>,
}

impl History {
    /// Commits made from now on are of this time, each a second later than the one before.
    pub fn from(time: u64) -> Self {
        Self {
            objects: 0,
            pack: Vec::new(),
            time,
            signed: Vec::new(),
        }
    }

    fn object(&mut self, kind: Kind, bytes: &[u8]) -> ObjectId {
        let number = match kind {
            Kind::Commit => 1u8,
            Kind::Tree => 2,
            _ => 3,
        };
        self.start(number, bytes.len());
        self.packed(bytes);
        gix_object::compute_hash(Format::Sha256, kind, bytes).unwrap()
    }

    /// Type and size of an object (gitformat-pack.txt).
    fn start(&mut self, number: u8, length: usize) {
        let mut size = length >> 4;
        let mut byte = number << 4 | u8::try_from(length & 0x0f).unwrap();
        while size > 0 {
            self.pack.push(byte | 0x80);
            byte = u8::try_from(size & 0x7f).unwrap();
            size >>= 7;
        }
        self.pack.push(byte);
    }

    fn packed(&mut self, bytes: &[u8]) {
        let mut zlib = ZlibEncoder::new(&mut self.pack, Compression::fast());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap();
        self.objects += 1;
    }

    /// The same folder with another object as its entry `n`, as a delta: a large folder that changes often, as Git stores it.
    pub fn edit(&mut self, folder: &mut Folder, n: usize, id: ObjectId) -> ObjectId {
        let at = folder.entries[n];
        folder.bytes[at..at + 32].copy_from_slice(id.as_slice());
        let offset = self.pack.len();
        match folder.deltas {
            // Git makes no longer chains of its own.
            Some((base, depth)) if depth < 40 => {
                let length = folder.bytes.len();
                let copy = |from: usize, count: usize| {
                    let bytes = [from, from >> 8, from >> 16, count, count >> 8, count >> 16];
                    let bytes = bytes.map(|byte| u8::try_from(byte & 0xff).unwrap());
                    [
                        0x80 | 0x77,
                        bytes[0],
                        bytes[1],
                        bytes[2],
                        bytes[3],
                        bytes[4],
                        bytes[5],
                    ]
                };
                let size = |mut size: usize| {
                    let mut bytes = Vec::new();
                    while size > 0x7f {
                        bytes.push(u8::try_from(size & 0x7f).unwrap() | 0x80);
                        size >>= 7;
                    }
                    bytes.push(u8::try_from(size).unwrap());
                    bytes
                };
                let mut delta = [size(length), size(length)].concat();
                delta.extend(copy(0, at));
                delta.push(32);
                delta.extend(id.as_slice());
                if at + 32 < length {
                    delta.extend(copy(at + 32, length - at - 32));
                }
                self.start(6, delta.len());
                let mut distance = offset - base;
                let mut bytes = vec![u8::try_from(distance & 0x7f).unwrap()];
                while distance > 0x7f {
                    distance = (distance >> 7) - 1;
                    bytes.push(u8::try_from(distance & 0x7f).unwrap() | 0x80);
                }
                bytes.reverse();
                self.pack.extend(bytes);
                self.packed(&delta);
                folder.deltas = Some((offset, depth + 1));
            }
            _ => {
                self.start(2, folder.bytes.len());
                let bytes = std::mem::take(&mut folder.bytes);
                self.packed(&bytes);
                folder.bytes = bytes;
                folder.deltas = Some((offset, 0));
            }
        }
        gix_object::compute_hash(Format::Sha256, Kind::Tree, &folder.bytes).unwrap()
    }

    pub fn blob(&mut self, bytes: &[u8]) -> ObjectId {
        self.object(Kind::Blob, bytes)
    }

    /// A folder; the names are in Git's order.
    pub fn tree(&mut self, entries: &[(&str, bool, ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (name, folder, id) in entries {
            bytes.extend(if *folder { &b"40000 "[..] } else { b"100644 " });
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(id.as_slice());
        }
        self.object(Kind::Tree, &bytes)
    }

    /// A commit as `git commit -S` makes it.
    pub fn commit(&mut self, tree: ObjectId, parents: &[ObjectId], signer: &Signer) -> ObjectId {
        self.time += 1;
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let person = format!("Tester <tester@example.org> {} +0000", self.time);
        let headers = format!("tree {tree}\n{parents}author {person}\ncommitter {person}\n");
        let message = "\nchange\n";
        self.signed = format!("{headers}{message}").into_bytes();
        let signature = signer.sign("git", &self.signed);
        let signature = signature.trim_end().replace('\n', "\n ");
        let commit = format!("{headers}gpgsig-sha256 {signature}\n{message}");
        self.object(Kind::Commit, commit.as_bytes())
    }

    /// Puts it all into the served repository, with `head` as its branch.
    pub fn push(self, repository: &Repository, head: ObjectId) {
        let mut pack = b"PACK\0\0\0\x02".to_vec();
        pack.extend(self.objects.to_be_bytes());
        pack.extend(self.pack);
        let digest = ring::digest::digest(&ring::digest::SHA256, &pack);
        pack.extend(digest.as_ref());
        let mut git = Command::new("git")
            .arg("-C")
            .arg(&repository.bare)
            .args(["index-pack", "--stdin", "--fix-thin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        git.stdin.take().unwrap().write_all(&pack).unwrap();
        assert!(git.wait().unwrap().success());
        let to = head.to_string();
        let bare = repository.bare.to_str().unwrap();
        repository.git(&["--git-dir", bare, "update-ref", "refs/heads/main", &to]);
    }
}
