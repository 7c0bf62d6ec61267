// SPDX-License-Identifier: Apache-2.0
//! Power cuts replayed from a log of a card's writes: what a card may hold after a cut at any moment, judged without booting it.
//!
//! The log is QEMU's blklogwrites, in the format of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/
//! log-writes.rst): a sector with the magic and the number of entries, then for each entry a sector with place, length and
//! flags, and the bytes. A card owes what was written before its last flush; of later writes it may hold any.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use racklet_trust::{
    Digest,
    slot::{self, Copies, SIZE},
};

use crate::{card::StateOf, process::output};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One thing that was done to the card.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where on the card, in bytes.
    place: u64,
    length: u64,
    flags: u64,
    /// Where its bytes are in the log.
    data: u64,
}

/// A log of what was done to a card.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// What becomes of the writes that were not flushed when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unflushed {
    /// All are on the card.
    Kept,
    /// None is.
    Dropped,
    /// Every other one is.
    Mixed,
}

impl WriteLog {
    /// Reads the log of a machine that is off. It may end in an entry that was cut.
    ///
    /// # Errors
    /// When it is not such a log.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let word = |at: u64| -> Result<u64> {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at)?;
            Ok(u64::from_le_bytes(bytes))
        };
        ensure!(word(0)? == MAGIC, "{} is no write log", path.display());
        let (mut entries, mut at) = (Vec::new(), SECTOR);
        // The number in the first sector is brought up to date with each flush only: the entries themselves tell.
        while at + SECTOR <= size {
            let (place, sectors, flags) = (word(at)?, word(at + 8)?, word(at + 16)?);
            let data = at + SECTOR;
            let length = sectors * SECTOR;
            at = data + if flags & DISCARD == 0 { length } else { 0 };
            if at > size || (sectors == 0 && flags == 0) {
                break;
            }
            entries.push(Entry {
                place: place * SECTOR,
                length,
                flags,
                data,
            });
        }
        Ok(Self { file, entries })
    }

    /// How many things were done.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// `most` moments to cut the power at: each in the middle between two flushes, where most can be lost, spread over all that
    /// have writes between them.
    #[must_use]
    pub fn moments(&self, most: usize) -> Vec<usize> {
        let flushes: Vec<usize> = (0..self.len())
            .filter(|n| self.entries[*n].flags & FLUSH != 0)
            .collect();
        let between: Vec<usize> = flushes
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > 2)
            .map(|pair| pair[0] + (pair[1] - pair[0]).div_ceil(2))
            .collect();
        let step = between.len().div_ceil(most.max(1)).max(1);
        between.into_iter().step_by(step).collect()
    }

    /// Makes `card`, on which everything up to entry `from` was done, one on which the power went at entry `to`. The writes up to
    /// the last flush are made on `base` too, so that the next moment goes on from there; gives the entry it stands at.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn cut(
        &self,
        base: &Path,
        card: &Path,
        (from, to): (usize, usize),
        unflushed: Unflushed,
    ) -> Result<usize> {
        let flushed = (from..to)
            .rev()
            .find(|n| self.entries[*n].flags & FLUSH != 0)
            .unwrap_or(from);
        let on_base = File::options().write(true).open(base)?;
        for entry in &self.entries[from..flushed] {
            self.apply(entry, &on_base)?;
        }
        let _ = fs::remove_file(card);
        output(
            Command::new("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .args([base, card]),
        )?;
        let on_card = File::options().write(true).open(card)?;
        let rest = self.entries[flushed..to].iter().enumerate();
        // In the order of the log: of two writes to one place that are kept, the later one counts.
        let kept = rest
            .filter(|(n, entry)| match unflushed {
                Unflushed::Kept => true,
                // A write that asked to be made last is.
                Unflushed::Dropped => entry.flags & FUA != 0,
                Unflushed::Mixed => n % 2 == 1 || entry.flags & FUA != 0,
            })
            .map(|(_, entry)| entry);
        for entry in kept {
            self.apply(entry, &on_card)?;
        }
        Ok(flushed)
    }

    fn apply(&self, entry: &Entry, card: &File) -> Result<()> {
        if entry.flags & DISCARD != 0 {
            return Ok(());
        }
        let mut bytes = vec![0; usize::try_from(entry.length)?];
        self.file.read_exact_at(&mut bytes, entry.data)?;
        card.write_all_at(&bytes, entry.place)?;
        Ok(())
    }
}

/// What a card that lost its power holds of what must not be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Number of the newest good copy of the floors; 0 when there is none yet.
    pub floors: u64,
    /// The same of the counted starts.
    pub boots: u64,
}

impl Held {
    /// Whether nothing is missing here that was held then.
    #[must_use]
    pub fn covers(&self, then: &Self) -> bool {
        self.floors >= then.floors && self.boots >= then.boots
    }
}

/// Judges a card as the next start would: its file system is put right from its journal alone, records and slots are there.
/// Changes the card.
///
/// # Errors
/// With what is lost.
pub fn judge(card: &Path) -> Result<Held> {
    let mut slots = SlotsOf::find(card)?;
    ensure!(!slot::load(&mut slots).lost(), "both slot records are lost");
    let state = StateOf::find(card)?.recovered()?;
    Ok(Held {
        floors: newest(&state, "floors")?,
        boots: newest(&state, "boots")?,
    })
}

/// The number of the newest good copy. One copy may be cut, never both.
fn newest(state: &StateOf, name: &str) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let (mut there, mut best) = (0, 0);
    for copy in 0..2 {
        let to = folder.path().join("copy");
        let _ = fs::remove_file(&to);
        // What is not there, debugfs says and does not make.
        state.debugfs(&[], &format!("dump {name}.{copy} {}", to.display()))?;
        let Ok(bytes) = fs::read(&to) else { continue };
        there += 1;
        best = best.max(sequence(&bytes).unwrap_or(0));
    }
    // The first copy may be cut while it is the only one: then nothing was promised yet.
    ensure!(
        there < 2 || best > 0,
        "both copies of the {name} are damaged"
    );
    Ok(best)
}

/// Its number, if a copy is whole: `racklet-twin 1 <number> <sha256 of number, newline and body>`, newline, body.
fn sequence(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let (number, sum) = line.strip_prefix("racklet-twin 1 ")?.split_once(' ')?;
    let covered = [number.as_bytes(), b"\n", &bytes[end + 1..]].concat();
    (Digest::of(&covered).to_string() == sum).then(|| number.parse().ok())?
}

struct SlotsOf {
    card: File,
    offsets: [u64; 2],
}

impl SlotsOf {
    fn find(path: &Path) -> Result<Self> {
        let card = File::open(path)?;
        let mut first = [0; 8];
        card.read_exact_at(&mut first, 2 * SECTOR + 32)?;
        let start = u64::from_le_bytes(first) * SECTOR;
        let mut offsets = [0; 2];
        for (copy, offset) in offsets.iter_mut().enumerate() {
            let read = |at: u64, sector: &mut [u8; racklet_fat::SECTOR]| {
                card.read_exact_at(sector, start + at)
            };
            let place = racklet_fat::locate(read, &format!("racklet/slots.{copy}"))
                .map_err(|error| anyhow::anyhow!("slot record {copy}: {error}"))?;
            *offset = start + place.offset;
        }
        Ok(Self { card, offsets })
    }
}

impl Copies for SlotsOf {
    type Error = std::io::Error;

    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Self::Error> {
        let mut bytes = [0; SIZE];
        self.card.read_exact_at(&mut bytes, self.offsets[copy])?;
        Ok(bytes)
    }

    fn write(&mut self, _: usize, _: &[u8; SIZE]) -> Result<(), Self::Error> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut log = vec![0; 512];
        log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        for (place, bytes, flags) in entries {
            let mut head = vec![0; 512];
            for (at, value) in [(0, *place), (8, bytes.len() as u64 / SECTOR), (16, *flags)] {
                head[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            log.extend(head);
            log.extend_from_slice(bytes);
        }
        log
    }

    #[test]
    fn what_was_flushed_is_kept_and_what_was_not_may_be() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let sector = |byte: u8| [byte; 512];
        let written = log(&[
            (0, &sector(1), 0),
            (0, &[], FLUSH),
            (1, &sector(2), 0),
            (2, &sector(3), 0),
            (3, &sector(4), FUA),
            (0, &[], FLUSH),
        ]);
        fs::write(path("log"), &written[..])?;
        let log = WriteLog::read(&path("log"))?;
        assert_eq!((log.len(), log.moments(10)), (6, vec![3]));
        for (unflushed, expected) in [
            (Unflushed::Kept, [1, 2, 3, 4]),
            (Unflushed::Dropped, [1, 0, 0, 4]),
            (Unflushed::Mixed, [1, 2, 0, 4]),
        ] {
            fs::write(path("base"), [0; 2048])?;
            assert_eq!(log.cut(&path("base"), &path("card"), (0, 5), unflushed)?, 1);
            let card = fs::read(path("card"))?;
            let found: Vec<u8> = card.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!(found, expected, "{unflushed:?}");
            assert_eq!(fs::read(path("base"))?[..512], sector(1), "{unflushed:?}");
        }
        // Cut itself.
        fs::write(path("log"), &written[..512 * 5 + 100])?;
        assert_eq!(WriteLog::read(&path("log"))?.len(), 2);
        Ok(())
    }
}
