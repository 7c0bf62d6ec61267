// SPDX-License-Identifier: Apache-2.0
//! Which pieces of files became which chunks: lies beside a package on the builder's disk, so that the next build compresses only
//! what changed. It never travels, and nobody believes it: chunks are read and hashed before they are taken over.
//!
//! ```text
//! racklet pieces 1, zstd 1.5.7 level 6 …          the compressor: another one would make other chunks
//! <sha256 of the piece> <sha256 of the chunk> <bytes of the chunk> <bytes of the piece>
//! …
//! end <sha256 of all lines before>
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;

use racklet_trust::{Digest, manifest::Chunk};

use super::split::compressor_name;
use crate::chunk::sha256;

/// The most bytes that are read: 150 for each piece of a file of 16 GiB.
pub const MAX_PIECES: u64 = 16 << 20;

/// Pieces by their digest, and the chunks that they became.
#[derive(Debug, Default)]
pub struct Pieces {
    chunks: HashMap<Digest, Chunk>,
    /// In the order in which they came, for the same bytes each time.
    order: Vec<Digest>,
}

impl Pieces {
    pub(super) fn get(&self, piece: Digest) -> Option<&Chunk> {
        self.chunks.get(&piece)
    }

    pub(super) fn add(&mut self, piece: Digest, chunk: Chunk) {
        if self.chunks.insert(piece, chunk).is_none() {
            self.order.push(piece);
        }
    }

    /// Adds those of another file.
    pub fn extend(&mut self, other: Self) {
        let Self { mut chunks, order } = other;
        for piece in order {
            if let Some(chunk) = chunks.remove(&piece) {
                self.add(piece, chunk);
            }
        }
    }

    /// As it lies beside the package.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = first_line();
        for piece in &self.order {
            let Chunk {
                sha256,
                size,
                length,
            } = &self.chunks[piece];
            let _ = writeln!(text, "{piece} {sha256} {size} {length}");
        }
        let end = sha256(text.as_bytes());
        let _ = writeln!(text, "end {end}");
        text
    }

    /// Reads what [`Self::encode`] wrote. Nothing is known where another compressor made the chunks, or where anything is amiss: the
    /// build takes longer then.
    #[must_use]
    pub fn decode(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.strip_suffix('\n')?;
        let (lines, end) = lines.rsplit_once('\n')?;
        let before = &text.as_bytes()[..=lines.len()];
        if end.strip_prefix("end ")?.parse() != Ok(sha256(before)) {
            return None;
        }
        let lines = format!("{lines}\n");
        let mut pieces = Self::default();
        for line in lines.strip_prefix(&first_line())?.lines() {
            let mut words = line.split(' ');
            let piece: Digest = words.next()?.parse().ok()?;
            let chunk = Chunk {
                sha256: words.next()?.parse().ok()?,
                size: words.next()?.parse().ok()?,
                length: words.next()?.parse().ok()?,
            };
            pieces.add(piece, chunk);
        }
        Some(pieces)
    }
}

fn first_line() -> String {
    format!("racklet pieces 1, {}\n", compressor_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Pieces {
        let mut pieces = Pieces::default();
        for n in 0..3u32 {
            let chunk = Chunk {
                sha256: sha256(&[7, 7]),
                size: 2 + n,
                length: 9,
            };
            pieces.add(sha256(&n.to_le_bytes()), chunk);
        }
        pieces
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = some().encode();
        assert_eq!(Pieces::decode(&text).encode(), text);
        assert_eq!(Pieces::decode(&text).order.len(), 3);
        let none = Pieces::default().encode();
        assert_eq!(Pieces::decode(&none).encode(), none);
    }

    #[test]
    fn damage_and_another_compressor_make_it_say_nothing() {
        let text = some().encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let spoilt = String::from_utf8(bytes).unwrap();
            assert!(Pieces::decode(&spoilt).order.is_empty(), "{at}");
            assert!(Pieces::decode(&text[..at]).order.is_empty(), "{at}");
        }
        // Sealed again, as the program of another day would.
        let body = text
            .rsplit_once("end ")
            .unwrap()
            .0
            .replace("level 6", "level 5");
        let other = format!("{body}end {}\n", sha256(body.as_bytes()));
        assert!(Pieces::decode(&other).order.is_empty());
    }
}
