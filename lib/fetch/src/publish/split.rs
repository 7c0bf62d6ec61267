// SPDX-License-Identifier: Apache-2.0
//! Cuts a file into chunks while it is written, and compresses each; whatever was compressed before is not compressed again.
//!
//! ```text
//!   bytes ──> cuts (FastCDC) ──> piece ──known?──> chunk of the package before, or of this file ──┐
//!                                  └────────────> zstd ──> new chunk ────────────────────────────┴──> manifest
//! ```
//!
//! Where the cuts are and what a chunk's bytes are follows from the piece alone. What is known of a package before saves work and
//! changes nothing: it counts only for the same compressor with the same settings ([`Pieces::decode`]).

use std::io::{self, Read, Write};

use racklet_trust::manifest::{Chunk, File, Kind, MAX_CHUNK_LENGTH};
use ring::digest::{Context, SHA256};
use zstd::zstd_safe::{self, CParameter, Strategy};

use super::pieces::Pieces;
use crate::{chunk::sha256, verity};

/// Shortest chunk but for a file's last, in bytes.
const MIN: usize = 64 * 1024;
/// Usual chunk, in bytes: small enough for a one-byte edit to travel as little, large enough for zstd to find something.
const USUAL: usize = 256 * 1024;
/// Longest chunk, in bytes.
const MAX: usize = MAX_CHUNK_LENGTH as usize;
/// Bytes that are held at once: a cut looks at the next [`MAX`], and what is left behind it is moved to the front.
const BUFFER: usize = 4 * MAX;

/// zstd's level, whose settings of window and tables are taken, and what is set otherwise: a match of four bytes is worth taking
/// in programs, and a search of eight places finds most of them. 135 MiB of programs in pieces of 300,000 bytes: 47.9 MiB in 3.0 s;
/// level 12 as it is, 47.9 MiB in 7 to 8 s, level 6 as it is, 48.5 MiB in 3.0 s.
const LEVEL: i32 = 6;
const SETTINGS: [CParameter; 4] = [
    CParameter::Strategy(Strategy::ZSTD_lazy),
    CParameter::MinMatch(4),
    CParameter::SearchLog(3),
    CParameter::HashLog(17),
];

/// What compresses, with its settings: the same pieces give the same chunks as long as this is the same.
pub(super) fn compressor_name() -> String {
    let version = zstd_safe::version_string();
    format!("zstd {version} level {LEVEL} lazy match 4 search 3 hash 17")
}

/// Where chunks go.
pub trait Shelf {
    /// Takes over a chunk of the package before. `false` when it is not there or damaged: the piece is compressed then.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn reuse(&mut self, _: &Chunk) -> io::Result<bool> {
        Ok(false)
    }

    /// Takes a new chunk.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn put(&mut self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()>;

    /// So many bytes of the file are done.
    fn done(&mut self, _: u64) {}
}

impl<F: FnMut(&Chunk, &[u8]) -> io::Result<()>> Shelf for F {
    fn put(&mut self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()> {
        self(chunk, bytes)
    }
}

/// A file on its way to chunks: what is written to it is cut, compressed and put on the shelf.
pub struct Splitter<'a> {
    shelf: &'a mut dyn Shelf,
    /// Of the package before.
    known: &'a Pieces,
    /// Of this file.
    pieces: Pieces,
    zeros: Option<Zeros>,
    compressor: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
    whole: Context,
    /// Of a root file system, which is read block by block on a tray.
    verity: Option<verity::Tree>,
    file: File,
    /// What is not cut yet begins at `start`.
    buffer: Vec<u8>,
    start: usize,
}

/// The first piece of [`MAX`] zeros: sparse files are made of them.
struct Zeros {
    length: usize,
    chunk: Chunk,
}

impl<'a> Splitter<'a> {
    /// Begins the manifest's file `name`.
    ///
    /// # Errors
    /// When zstd does not start.
    pub fn new(name: &str, known: &'a Pieces, shelf: &'a mut dyn Shelf) -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        for setting in SETTINGS {
            compressor.set_parameter(setting)?;
        }
        Ok(Self {
            shelf,
            known,
            pieces: Pieces::default(),
            zeros: None,
            compressor,
            packed: vec![0; zstd_safe::compress_bound(MAX)],
            whole: Context::new(&SHA256),
            verity: Kind::Artifact
                .file_names()
                .contains(&name)
                .then(verity::Tree::default),
            file: File {
                name: name.into(),
                size: 0,
                sha256: sha256(b""),
                verity: None,
                chunks: Vec::new(),
            },
            buffer: Vec::with_capacity(BUFFER),
            start: 0,
        })
    }

    /// Reads all that `reader` gives.
    ///
    /// # Errors
    /// What `reader` or the shelf says.
    pub fn read(&mut self, mut reader: impl Read) -> io::Result<()> {
        loop {
            let room = BUFFER - self.buffer.len();
            let mut part = Read::by_ref(&mut reader).take(room as u64);
            let count = part.read_to_end(&mut self.buffer)?;
            if count < room {
                return Ok(());
            }
            self.cut()?;
        }
    }

    /// The end of the file: what a manifest says of it, and its pieces.
    ///
    /// # Errors
    /// What the shelf says.
    pub fn finish(mut self) -> io::Result<(File, Pieces)> {
        while self.start < self.buffer.len() {
            self.piece()?;
        }
        self.file
            .sha256
            .0
            .copy_from_slice(self.whole.finish().as_ref());
        self.file.verity = self.verity.map(verity::Tree::finish);
        Ok((self.file, self.pieces))
    }

    /// Cuts as long as the cut does not depend on what is still to come.
    fn cut(&mut self) -> io::Result<()> {
        while self.buffer.len() - self.start >= MAX {
            self.piece()?;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(())
    }

    /// The next piece of what is held.
    fn piece(&mut self) -> io::Result<()> {
        let rest = &self.buffer[self.start..];
        let ahead = &rest[..rest.len().min(MAX)];
        let empty = ahead.len() == MAX && is_zero(ahead);
        let (length, chunk) = match &self.zeros {
            Some(zeros) if empty => (zeros.length, zeros.chunk),
            _ => {
                let cdc = fastcdc::v2020::FastCDC::new(ahead, MIN, USUAL, MAX);
                let (_, length) = cdc.cut(0, ahead.len());
                let chunk = self.chunk(length)?;
                if empty {
                    self.zeros = Some(Zeros { length, chunk });
                }
                (length, chunk)
            }
        };
        let piece = &self.buffer[self.start..self.start + length];
        self.whole.update(piece);
        if let Some(verity) = &mut self.verity {
            verity.update(piece);
        }
        self.start += length;
        self.file.size += length as u64;
        self.shelf.done(length as u64);
        self.file.chunks.push(chunk);
        Ok(())
    }

    /// The chunk of the next `length` bytes.
    fn chunk(&mut self, length: usize) -> io::Result<Chunk> {
        let piece = &self.buffer[self.start..self.start + length];
        let name = sha256(piece);
        if let Some(chunk) = self.pieces.get(name) {
            return Ok(*chunk);
        }
        if let Some(chunk) = self.known.get(name)
            && chunk.length as usize == length
            && self.shelf.reuse(chunk)?
        {
            self.pieces.add(name, *chunk);
            return Ok(*chunk);
        }
        let size = self
            .compressor
            .compress_to_buffer(piece, self.packed.as_mut_slice())?;
        let packed = &self.packed[..size];
        let too_large = |_| io::Error::other("a chunk grew beyond its bounds");
        let chunk = Chunk {
            sha256: sha256(packed),
            size: size.try_into().map_err(too_large)?,
            length: length.try_into().map_err(too_large)?,
        };
        self.shelf.put(&chunk, packed)?;
        self.pieces.add(name, chunk);
        Ok(chunk)
    }
}

impl Write for Splitter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER {
            self.cut()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether there is nothing but zeros: mostly told by the first eight bytes.
fn is_zero(bytes: &[u8]) -> bool {
    const BLOCK: [u8; 4096] = [0; 4096];
    bytes.iter().take(8).all(|byte| *byte == 0)
        && bytes
            .chunks(BLOCK.len())
            .all(|part| part == &BLOCK[..part.len()])
}

/// Cuts what `reader` gives into chunks, hands each different one, compressed, to `sink`, and returns what a manifest says of the file
/// called `name`. An empty file has no chunks.
///
/// # Errors
/// What `reader` or `sink` says.
pub fn split(
    name: &str,
    reader: impl Read,
    mut sink: impl FnMut(&Chunk, &[u8]) -> io::Result<()>,
) -> io::Result<File> {
    let nothing = Pieces::default();
    let mut splitter = Splitter::new(name, &nothing, &mut sink)?;
    splitter.read(reader)?;
    splitter.finish().map(|(file, _)| file)
}
