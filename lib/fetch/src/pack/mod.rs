// SPDX-License-Identifier: Apache-2.0
//! Reads a pack (gitformat-pack.txt) from a stream, once, within bounds.
//!
//! gitoxide's pack reader trusts the sizes that a pack states and resolves deltas from files; here each stated size is held against
//! [`Limits`] before memory is spent, and large blobs may leave for disk as they come. Nothing is believed: the caller looks
//! objects up by name and verifies what they say.

mod deltas;
mod error;
mod source;

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::{Kind as Format, ObjectId};
pub(crate) use gix_object::Kind;
use racklet_trust::Digest;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::limits::Limits;

pub use self::error::PackError;
use self::source::{Counted, charge};

/// Where the blobs go that need not stay in memory, and where deltas find bases that are not in the pack.
pub(crate) trait Place {
    /// A base from outside the pack.
    fn base(&mut self, id: &ObjectId) -> Option<(Kind, Vec<u8>)>;

    /// Whether a blob is stored elsewhere from now on; if so, under which digest.
    fn take(&mut self, blob: &[u8]) -> io::Result<Option<Digest>>;

    /// A blob that was taken.
    fn taken(&mut self, digest: Digest) -> io::Result<Vec<u8>>;

    /// Whether the pack shall be read no further: what was named up to here is all that is given back.
    fn is_full(&self) -> bool {
        false
    }
}

/// Takes nothing and knows nothing.
pub(crate) struct Nowhere;

impl Place for Nowhere {
    fn base(&mut self, _: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        None
    }

    fn take(&mut self, _: &[u8]) -> io::Result<Option<Digest>> {
        Ok(None)
    }

    fn taken(&mut self, _: Digest) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Objects by name.
pub(crate) type Objects = HashMap<ObjectId, (Kind, Vec<u8>)>;

struct Entry {
    kind: Kind,
    depth: u32,
    held: Held,
}

enum Held {
    /// In [`Unpack::named`].
    Named(ObjectId),
    /// Where the [`Place`] put it.
    Elsewhere(Digest),
}

struct Pending {
    index: usize,
    offset: u64,
    base: ObjectId,
    delta: Vec<u8>,
}

/// Reads one pack from `source`, up to its end or until `place` is full, with objects named by `format`.
// untrusted: git_pack
pub(crate) fn read(
    source: impl BufRead,
    format: Format,
    limits: &Limits,
    place: &mut dyn Place,
) -> Result<Objects, PackError> {
    let mut unpack = Unpack {
        source: Counted {
            source,
            offset: 0,
            digest: Context::new(match format {
                Format::Sha256 => &SHA256,
                _ => &SHA1_FOR_LEGACY_USE_ONLY,
            }),
        },
        inflate: Decompress::new(true),
        format,
        limits,
        place,
        inflated: 0,
        held: 0,
        by_offset: HashMap::new(),
        named: Objects::new(),
        depths: HashMap::new(),
        pending: Vec::new(),
    };
    let mut head = [0; 12];
    unpack.source.exact(&mut head)?;
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if &head[..4] != b"PACK" || !matches!(number(4), 2 | 3) {
        return Err(PackError::Header);
    }
    let stated = number(8);
    if stated > limits.objects {
        return Err(PackError::Objects {
            stated,
            limit: limits.objects,
        });
    }
    for index in 0..stated as usize {
        unpack.entry(index)?;
        if unpack.place.is_full() {
            return Ok(unpack.named);
        }
    }
    unpack.trailer()?;
    unpack.resolve()?;
    Ok(unpack.named)
}

struct Unpack<'a, R> {
    source: Counted<R>,
    inflate: Decompress,
    format: Format,
    limits: &'a Limits,
    place: &'a mut dyn Place,
    inflated: u64,
    held: u64,
    by_offset: HashMap<u64, Entry>,
    named: Objects,
    /// How deep a named object's delta chain was, where it had one.
    depths: HashMap<ObjectId, u32>,
    pending: Vec<Pending>,
}

impl<R: BufRead> Unpack<'_, R> {
    fn entry(&mut self, index: usize) -> Result<(), PackError> {
        let offset = self.source.offset;
        let first = self.source.byte()?;
        let mut size = u64::from(first & 0x0f);
        let mut byte = first;
        for shift in (4..).step_by(7) {
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 53 {
                return Err(PackError::Entry(index));
            }
            byte = self.source.byte()?;
            size |= u64::from(byte & 0x7f) << shift;
        }
        let whole = match first >> 4 & 7 {
            1 => Kind::Commit,
            2 => Kind::Tree,
            3 => Kind::Blob,
            4 => Kind::Tag,
            6 => {
                let base = self.distance(index)?;
                let base = offset.checked_sub(base).ok_or(PackError::Entry(index))?;
                let delta = self.inflate(index, size)?;
                return self.delta_on_offset(index, offset, base, &delta);
            }
            7 => {
                let mut name = [0; 32];
                let name = &mut name[..self.format.len_in_bytes()];
                self.source.exact(name)?;
                let base = ObjectId::try_from(&*name).map_err(|_| PackError::Entry(index))?;
                let delta = self.inflate(index, size)?;
                self.pending.push(Pending {
                    index,
                    offset,
                    base,
                    delta,
                });
                return self.try_pending();
            }
            _ => return Err(PackError::Entry(index)),
        };
        let bytes = self.inflate(index, size)?;
        self.keep(index, offset, whole, 0, bytes)
    }

    /// The distance to the base of an offset delta.
    fn distance(&mut self, index: usize) -> Result<u64, PackError> {
        let mut byte = self.source.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.source.byte()?;
            distance = distance
                .checked_add(1)
                .and_then(|d| d.checked_mul(128))
                .ok_or(PackError::Entry(index))?
                | u64::from(byte & 0x7f);
        }
        Ok(distance)
    }

    fn inflate(&mut self, index: usize, size: u64) -> Result<Vec<u8>, PackError> {
        let size = charge(self.limits, &mut self.inflated, index, size)?;
        // One byte more than stated, so that too much is noticed.
        let mut out = vec![0; size + 1];
        self.inflate.reset(true);
        loop {
            let available = self.source.available()?;
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let done = usize::try_from(before_out).map_err(|_| PackError::Zlib(index))?;
            let status = self
                .inflate
                .decompress(available, &mut out[done..], FlushDecompress::None)
                .map_err(|_| PackError::Zlib(index))?;
            let used = usize::try_from(self.inflate.total_in() - before_in)
                .map_err(|_| PackError::Zlib(index))?;
            self.source.step(used)?;
            let made = self.inflate.total_out();
            match status {
                Status::StreamEnd if made == size as u64 => break,
                Status::StreamEnd => return Err(PackError::Zlib(index)),
                _ if made > size as u64 || (used == 0 && made == before_out) => {
                    return Err(PackError::Zlib(index));
                }
                _ => {}
            }
        }
        out.truncate(size);
        Ok(out)
    }

    fn keep(
        &mut self,
        index: usize,
        offset: u64,
        kind: Kind,
        depth: u32,
        bytes: Vec<u8>,
    ) -> Result<(), PackError> {
        let taken = match kind {
            Kind::Blob => self.place.take(&bytes).map_err(PackError::Store)?,
            _ => None,
        };
        let held = match taken {
            Some(digest) => Held::Elsewhere(digest),
            None => {
                let id = gix_object::compute_hash(self.format, kind, &bytes)
                    .map_err(|_| PackError::Collision(index))?;
                self.held += bytes.len() as u64;
                if self.held > self.limits.held {
                    return Err(PackError::Held(self.limits.held));
                }
                self.named.insert(id, (kind, bytes));
                if depth > 0 {
                    self.depths.insert(id, depth);
                }
                Held::Named(id)
            }
        };
        self.by_offset.insert(offset, Entry { kind, depth, held });
        Ok(())
    }

    fn trailer(&mut self) -> Result<(), PackError> {
        let expected = self.source.digest.clone().finish();
        let mut found = [0; 32];
        let found = &mut found[..self.format.len_in_bytes()];
        self.source.exact(found)?;
        if found != expected.as_ref() {
            return Err(PackError::Trailer);
        }
        if !self
            .source
            .source
            .fill_buf()
            .map_err(PackError::Read)?
            .is_empty()
        {
            return Err(PackError::Surplus);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
