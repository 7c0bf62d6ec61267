// SPDX-License-Identifier: Apache-2.0
//! A small record kept in two files that are written alternately, so that power may go at any byte.
//!
//! Each file is one line `racklet-twin 1 <sequence> <sha256 of sequence and body>` and the body. The newest good one
//! counts; writing goes to the other. Nothing is renamed: the copy that counts is never touched while the other is written.
//!
//! A copy that cannot be read counts as damaged, as `racklet_trust::slot` has it: one bad sector must not cost the good copy.
//! It may become readable again later, so what is written beside it is numbered beyond whatever it may hold.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use racklet_fetch::disk;
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
        match write_over(&path, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => File::open(&self.folder)?.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(error),
            // A bad sector, or something in the way: a new file lies elsewhere.
            Err(_) => disk::replace(&disk::Files, &path, bytes),
        }
    }
}

/// Writes over what is there, and shortens it only afterwards: on a full disk the blocks that the copy has already are all
/// that it can get, and giving them up first would cost the spare copy. True when there was a file.
fn write_over(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let existed = path.exists();
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    Ok(existed)
}

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The disk does not give it.
    Unreadable(io::ErrorKind),
    /// A write that was cut, or bit rot.
    Altered,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(kind) => write!(f, "cannot be read ({kind})"),
            Self::Altered => f.write_str("is damaged"),
        }
    }
}

/// What the two copies say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The bodies of the good copies, the newest first.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// What is wrong with each copy. One altered copy is the ordinary trace of a power cut.
    pub(crate) damage: [Option<Damage>; 2],
    sequence: u64,
    /// The copy that does not count.
    next: usize,
}

impl Loaded {
    /// Something was kept here, and no copy of it can be used.
    pub(crate) fn lost(&self) -> bool {
        self.bodies.is_empty() && self.damage.iter().any(Option::is_some)
    }

    /// The number of the next write. A copy that cannot be read now may say any number when it can be read again, though
    /// none that was counted up to: nobody writes four billion times.
    fn next_sequence(&self) -> Option<u64> {
        let unknown = self
            .damage
            .iter()
            .any(|damage| matches!(damage, Some(Damage::Unreadable(_))));
        self.sequence.checked_add(if unknown { 1 << 32 } else { 1 })
    }
}

/// Reads both copies.
pub(crate) fn load(store: &mut impl Store) -> Loaded {
    let mut loaded = Loaded::default();
    for copy in 0..2 {
        let bytes = match store.read(copy) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) => {
                loaded.damage[copy] = Some(Damage::Unreadable(error.kind()));
                continue;
            }
        };
        match decode(&bytes) {
            Some((sequence, body)) => {
                let newest = loaded.bodies.is_empty() || sequence > loaded.sequence;
                if newest {
                    loaded.sequence = sequence;
                    loaded.next = 1 - copy;
                }
                let at = if newest { 0 } else { loaded.bodies.len() };
                loaded.bodies.insert(at, body.to_vec());
            }
            None => loaded.damage[copy] = Some(Damage::Altered),
        }
    }
    loaded
}

/// Writes a new body over the copy that does not count.
pub(crate) fn store(store: &mut impl Store, loaded: &mut Loaded, body: Vec<u8>) -> io::Result<()> {
    let sequence = loaded.next_sequence().ok_or(io::ErrorKind::InvalidData)?;
    store.write(loaded.next, &encode(sequence, &body))?;
    let mut damage = loaded.damage;
    damage[loaded.next] = None;
    *loaded = Loaded {
        bodies: vec![body],
        damage,
        sequence,
        next: 1 - loaded.next,
    };
    Ok(())
}

fn checksum(sequence: u64, body: &[u8]) -> Digest {
    Digest::of(&[format!("{sequence}\n").as_bytes(), body].concat())
}

pub(crate) fn encode(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{MAGIC} {sequence} {}\n", checksum(sequence, body)).into_bytes();
    bytes.extend(body);
    bytes
}

// untrusted: kept_record
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, &[u8])> {
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
        unreadable: [bool; 2],
    }

    impl Store for Memory {
        fn read(&mut self, copy: usize) -> io::Result<Option<Vec<u8>>> {
            if self.unreadable[copy] {
                return Err(io::Error::other("EIO"));
            }
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

    fn newest(loaded: &Loaded) -> Option<Vec<u8>> {
        loaded.bodies.first().cloned()
    }

    /// A disk with `one` in copy 0 and `two`, the newer, in copy 1.
    fn two_copies() -> Memory {
        let mut disk = Memory::default();
        let mut loaded = load(&mut disk);
        store(&mut disk, &mut loaded, b"one".to_vec()).expect("stores");
        store(&mut disk, &mut loaded, b"two".to_vec()).expect("stores");
        disk
    }

    #[test]
    fn a_copy_that_cannot_be_read_costs_neither_the_other_nor_what_comes_after_it() {
        for copy in 0..2 {
            let mut disk = two_copies();
            disk.unreadable[copy] = true;
            let mut loaded = load(&mut disk);
            let good = [b"two", b"one"][copy].to_vec();
            assert_eq!((newest(&loaded), loaded.lost()), (Some(good), false));
            store(&mut disk, &mut loaded, b"three".to_vec()).expect("stores");
            // The write went to the bad sector, and never reached it: what was good still is.
            assert!(!load(&mut disk).lost());
            // The sector reads again: what it held does not come back over what was written since.
            disk.unreadable = [false; 2];
            assert_eq!(newest(&load(&mut disk)), Some(b"three".to_vec()));
        }
    }

    #[test]
    fn what_two_unreadable_copies_held_does_not_win_over_what_was_written_since() {
        let mut disk = two_copies();
        disk.unreadable = [true; 2];
        let mut loaded = load(&mut disk);
        assert_eq!((newest(&loaded), loaded.lost()), (None, true));
        store(&mut disk, &mut loaded, b"three".to_vec()).expect("stores");
        disk.unreadable = [false; 2];
        let loaded = load(&mut disk);
        assert_eq!(
            loaded.bodies,
            [b"three".to_vec(), b"two".to_vec()],
            "and the older one is there for who can use it"
        );
    }

    #[test]
    fn a_copy_is_written_over_in_place_and_shortened_afterwards() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut files = Files::new(folder.path(), "floors");
        let mut loaded = load(&mut files);
        for body in [
            &b"longer than the next"[..],
            b"longer than the next one",
            b"x",
        ] {
            store(&mut files, &mut loaded, body.to_vec()).expect("stores");
            assert_eq!(newest(&load(&mut files)), Some(body.to_vec()));
        }
    }

    #[test]
    fn power_cut_at_any_byte_of_a_write_leaves_the_old_or_the_new_record() {
        for earlier in 0..4_u8 {
            let mut before = Memory::default();
            let mut loaded = load(&mut before);
            for n in 0..earlier {
                store(&mut before, &mut loaded, vec![n; 10]).expect("stores");
            }
            let old = newest(&loaded);
            let length = encode(u64::from(earlier) + 1, &[0xFF; 10]).len();
            for cut in 0..=length {
                let mut disk = Memory {
                    power: Some(cut),
                    ..before.clone()
                };
                let mut loaded = load(&mut disk);
                let _ = store(&mut disk, &mut loaded, vec![0xFF; 10]);
                let after = load(&mut disk);
                let whole = cut == length;
                assert_eq!(
                    newest(&after),
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
                assert_eq!(newest(&load(&mut disk)), Some(b"next".to_vec()));
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_newest_copy_brings_back_the_one_before() {
        let mut disk = Memory::default();
        let mut loaded = load(&mut disk);
        store(&mut disk, &mut loaded, b"one".to_vec()).expect("stores");
        store(&mut disk, &mut loaded, b"two".to_vec()).expect("stores");
        let second = disk.copies[1].as_mut().expect("second copy");
        let end = second.len() - 1;
        second[end] ^= 1;
        let loaded = load(&mut disk);
        assert_eq!(
            (newest(&loaded), loaded.damage),
            (Some(b"one".to_vec()), [None, Some(Damage::Altered)])
        );
    }

    #[test]
    fn files_hold_the_record_over_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut files = Files::new(folder.path(), "floors");
        let mut loaded = load(&mut files);
        assert_eq!((newest(&loaded), loaded.lost()), (None, false));
        for n in 0..5_u8 {
            store(&mut files, &mut loaded, vec![n]).expect("stores");
            assert_eq!(newest(&load(&mut files)), Some(vec![n]));
        }
        assert!(folder.path().join("floors.0").exists() && folder.path().join("floors.1").exists());
    }
}
