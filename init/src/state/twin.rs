// SPDX-License-Identifier: Apache-2.0
//! A small record kept in two files that are written alternately, so that power may go at any byte.
//!
//! Each file is one line `racklet-twin 1 <sequence> <sha256 of sequence and body>` and the body. The newest good one
//! counts; writing goes to the other. Nothing is renamed: the copy that counts is never touched while the other is written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use racklet_trust::Digest;

const MAGIC: &str = "racklet-twin 1";
/// Longest body, in bytes.
const MAX_BODY: u64 = 64 * 1024;

/// Where the two copies lie: the seam at which a test cuts the power.
pub(crate) trait Store {
    /// The bytes of copy 0 or 1; `None` when there are none.
    fn read(&mut self, copy: usize) -> io::Result<Option<Vec<u8>>>;
    /// Replaces a copy and returns when it is on the disk.
    fn write(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()>;
}

/// Files `<name>.0` and `<name>.1` in a folder.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    name: &'static str,
}

impl Files {
    /// In `folder`.
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
        }
    }
}

impl Store for Files {
    fn read(&mut self, copy: usize) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.folder.join(format!("{}.{copy}", self.name))) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_BODY + 256).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(format!("{}.{copy}", self.name));
        let existed = path.exists();
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if existed {
            Ok(())
        } else {
            fs::File::open(&self.folder)?.sync_all()
        }
    }
}

/// What the two copies say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The newest good body.
    pub(crate) body: Option<Vec<u8>>,
    /// Copies that were there but not good: a write that was cut, or bit rot.
    pub(crate) damaged: usize,
    sequence: u64,
    /// The copy that does not count.
    next: usize,
}

/// Reads both copies.
pub(crate) fn load(store: &mut impl Store) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    for copy in 0..2 {
        let Some(bytes) = store.read(copy)? else {
            continue;
        };
        match decode(&bytes) {
            Some((sequence, body)) => {
                if loaded.body.is_none() || sequence > loaded.sequence {
                    loaded.body = Some(body.to_vec());
                    loaded.sequence = sequence;
                    loaded.next = 1 - copy;
                }
            }
            None => loaded.damaged += 1,
        }
    }
    Ok(loaded)
}

/// Writes a new body over the copy that does not count.
pub(crate) fn store(store: &mut impl Store, loaded: &mut Loaded, body: Vec<u8>) -> io::Result<()> {
    let sequence = loaded
        .sequence
        .checked_add(1)
        .ok_or(io::ErrorKind::InvalidData)?;
    store.write(loaded.next, &encode(sequence, &body))?;
    *loaded = Loaded {
        body: Some(body),
        damaged: 0,
        sequence,
        next: 1 - loaded.next,
    };
    Ok(())
}

fn checksum(sequence: u64, body: &[u8]) -> Digest {
    Digest::of(&[format!("{sequence}\n").as_bytes(), body].concat())
}

fn encode(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{MAGIC} {sequence} {}\n", checksum(sequence, body)).into_bytes();
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (line, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let (sequence, sum) = line
        .strip_prefix(MAGIC)?
        .strip_prefix(' ')?
        .split_once(' ')?;
    let sequence = sequence.parse().ok()?;
    (checksum(sequence, body).to_string() == sum).then_some((sequence, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store whose power goes after so many bytes: what was being written is left cut.
    #[derive(Clone, Default)]
    struct Memory {
        copies: [Option<Vec<u8>>; 2],
        power: Option<usize>,
    }

    impl Store for Memory {
        fn read(&mut self, copy: usize) -> io::Result<Option<Vec<u8>>> {
            Ok(self.copies[copy].clone())
        }

        fn write(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
            let left = self.power.unwrap_or(usize::MAX);
            self.copies[copy] = Some(bytes[..bytes.len().min(left)].to_vec());
            if bytes.len() > left {
                Err(io::Error::other("power"))
            } else {
                Ok(())
            }
        }
    }

    #[test]
    fn power_cut_at_any_byte_of_a_write_leaves_the_old_or_the_new_record() {
        for earlier in 0..4_u8 {
            let mut before = Memory::default();
            let mut loaded = load(&mut before).expect("loads");
            for n in 0..earlier {
                store(&mut before, &mut loaded, vec![n; 10]).expect("stores");
            }
            let old = loaded.body.clone();
            let length = encode(u64::from(earlier) + 1, &[0xFF; 10]).len();
            for cut in 0..=length {
                let mut disk = Memory {
                    power: Some(cut),
                    ..before.clone()
                };
                let mut loaded = load(&mut disk).expect("loads");
                let _ = store(&mut disk, &mut loaded, vec![0xFF; 10]);
                let after = load(&mut disk).expect("loads");
                let whole = cut == length;
                assert_eq!(
                    after.body,
                    if whole {
                        Some(vec![0xFF; 10])
                    } else {
                        old.clone()
                    },
                    "cut at {cut}"
                );
                // And it goes on from there.
                disk.power = None;
                let mut loaded = after;
                store(&mut disk, &mut loaded, b"next".to_vec()).expect("stores");
                assert_eq!(
                    load(&mut disk).expect("loads").body.as_deref(),
                    Some(&b"next"[..])
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_newest_copy_brings_back_the_one_before() {
        let mut disk = Memory::default();
        let mut loaded = load(&mut disk).expect("loads");
        store(&mut disk, &mut loaded, b"one".to_vec()).expect("stores");
        store(&mut disk, &mut loaded, b"two".to_vec()).expect("stores");
        let newest = disk.copies[1].as_mut().expect("second copy");
        let end = newest.len() - 1;
        newest[end] ^= 1;
        let loaded = load(&mut disk).expect("loads");
        assert_eq!(
            (loaded.body.as_deref(), loaded.damaged),
            (Some(&b"one"[..]), 1)
        );
    }

    #[test]
    fn files_hold_the_record_over_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut files = Files::new(folder.path(), "floors");
        let mut loaded = load(&mut files).expect("loads");
        assert_eq!(loaded.body, None);
        for n in 0..5_u8 {
            store(&mut files, &mut loaded, vec![n]).expect("stores");
            assert_eq!(load(&mut files).expect("loads").body, Some(vec![n]));
        }
        assert!(folder.path().join("floors.0").exists() && folder.path().join("floors.1").exists());
    }
}
