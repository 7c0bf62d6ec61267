// SPDX-License-Identifier: Apache-2.0
//! Reads a pack (gitformat-pack.txt) from a stream, once, within bounds.
//!
//! gitoxide's pack reader trusts the sizes that a pack states and resolves deltas from files; here each stated size is held against
//! [`Limits`] before memory is spent, and large blobs may leave for disk as they come. Nothing is believed: the caller looks
//! objects up by name and verifies what they say.

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

use flate2::{Decompress, FlushDecompress, Status};
use gix_hash::{Kind as Format, ObjectId};
pub(crate) use gix_object::Kind;
use racklet_trust::Digest;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::{
    delta::{self, DeltaError},
    limits::Limits,
};

/// Why a pack is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The stream broke; the source says how.
    #[error("the pack could not be read to its end")]
    Read(#[source] io::Error),
    /// Neither version 2 nor 3, or no pack.
    #[error("this is no pack")]
    Header,
    /// More objects than allowed.
    #[error("the pack states {stated} objects; at most {limit} are taken")]
    Objects {
        /// In its head.
        stated: u32,
        /// Allowed.
        limit: u32,
    },
    /// An object larger than allowed.
    #[error("object {index} states {stated} bytes; at most {limit} are taken")]
    Object {
        /// Its place in the pack.
        index: usize,
        /// Its stated size.
        stated: u64,
        /// Allowed.
        limit: u64,
    },
    /// All together larger than allowed.
    #[error("the pack unpacks to more than {0} bytes")]
    Inflated(u64),
    /// More of it than memory is spent on.
    #[error("the pack's objects take more than {0} bytes in memory")]
    Held(u64),
    /// Not zlib, or more or fewer bytes than stated.
    #[error("object {0} does not inflate to the size it states")]
    Zlib(usize),
    /// An entry's head that cannot be.
    #[error("the head of object {0} is not proper")]
    Entry(usize),
    /// A bad delta.
    #[error("object {index} is no proper delta: {reason}")]
    Delta {
        /// Its place in the pack.
        index: usize,
        /// What is wrong.
        reason: DeltaError,
    },
    /// Deltas on deltas on deltas.
    #[error("object {index} is a delta more than {limit} deltas deep")]
    Depth {
        /// Its place in the pack.
        index: usize,
        /// Allowed.
        limit: u32,
    },
    /// Deltas whose base is nowhere, or that are each other's base.
    #[error("{0} deltas have no base, here or in the pack")]
    MissingBase(usize),
    /// The digest at the end.
    #[error("the pack's checksum is wrong")]
    Trailer,
    /// Bytes behind the end.
    #[error("bytes follow the pack's end")]
    Surplus,
    /// Two different objects with one SHA-1: somebody's attack.
    #[error("object {0} is one of a SHA-1 collision pair")]
    Collision(usize),
    /// What a [`Place`] says.
    #[error("an object could not be stored")]
    Store(#[source] io::Error),
}

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

/// A stream that knows its offset and the digest of what was read.
struct Counted<R> {
    source: R,
    offset: u64,
    digest: Context,
}

impl<R: BufRead> Counted<R> {
    fn available(&mut self) -> Result<&[u8], PackError> {
        let bytes = self.source.fill_buf().map_err(PackError::Read)?;
        if bytes.is_empty() {
            return Err(PackError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Steps over `count` bytes of what [`Self::available`] gave last.
    fn step(&mut self, count: usize) -> Result<(), PackError> {
        if count > 0 {
            let bytes = self.source.fill_buf().map_err(PackError::Read)?;
            self.digest.update(&bytes[..count]);
            self.source.consume(count);
            self.offset += count as u64;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, PackError> {
        let byte = self.available()?[0];
        self.step(1)?;
        Ok(byte)
    }

    fn exact(&mut self, out: &mut [u8]) -> Result<(), PackError> {
        let mut done = 0;
        while done < out.len() {
            let bytes = self.available()?;
            let count = bytes.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&bytes[..count]);
            self.step(count)?;
            done += count;
        }
        Ok(())
    }
}

/// Counts `size` bytes against the bounds before they are made.
fn charge(
    limits: &Limits,
    inflated: &mut u64,
    index: usize,
    size: u64,
) -> Result<usize, PackError> {
    if size > limits.object {
        return Err(PackError::Object {
            index,
            stated: size,
            limit: limits.object,
        });
    }
    *inflated += size;
    if *inflated > limits.inflated {
        return Err(PackError::Inflated(limits.inflated));
    }
    usize::try_from(size).map_err(|_| PackError::Entry(index))
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

    fn delta_on_offset(
        &mut self,
        index: usize,
        offset: u64,
        base: u64,
        delta: &[u8],
    ) -> Result<(), PackError> {
        let Some(entry) = self.by_offset.get(&base) else {
            // The base may itself be waiting for one: then this pack is stranger than Git makes them.
            return Err(PackError::MissingBase(1));
        };
        let (kind, depth) = (entry.kind, entry.depth);
        let size = self.check_delta(index, depth, delta)?;
        charge(self.limits, &mut self.inflated, index, size)?;
        let bytes = match entry.held {
            Held::Named(id) => delta::apply(&self.named[&id].1, delta),
            Held::Elsewhere(digest) => {
                delta::apply(&self.place.taken(digest).map_err(PackError::Store)?, delta)
            }
        };
        let bytes = bytes.map_err(|reason| PackError::Delta { index, reason })?;
        self.keep(index, offset, kind, depth + 1, bytes)
    }

    /// Depth and size of what a delta would make, before it is made.
    fn check_delta(&self, index: usize, depth: u32, delta: &[u8]) -> Result<u64, PackError> {
        if depth >= self.limits.delta_depth {
            return Err(PackError::Depth {
                index,
                limit: self.limits.delta_depth,
            });
        }
        delta::result_size(delta).map_err(|reason| PackError::Delta { index, reason })
    }

    /// Resolves the delta read last, if its base is at hand; most are.
    fn try_pending(&mut self) -> Result<(), PackError> {
        let Some(last) = self.pending.pop() else {
            return Ok(());
        };
        if let Some(still) = self.delta_on_name(last)? {
            self.pending.push(still);
        }
        Ok(())
    }

    /// Gives the delta back where its base is not at hand.
    fn delta_on_name(&mut self, waiting: Pending) -> Result<Option<Pending>, PackError> {
        let Pending {
            index,
            offset,
            base,
            delta,
        } = &waiting;
        let depth = self.depths.get(base).copied().unwrap_or(0);
        let outside;
        let (kind, base) = match self.named.get(base) {
            Some((kind, bytes)) => (*kind, bytes),
            None => match self.place.base(base) {
                Some((kind, bytes)) => {
                    outside = bytes;
                    (kind, &outside)
                }
                None => return Ok(Some(waiting)),
            },
        };
        let size = self.check_delta(*index, depth, delta)?;
        let reason = |reason| PackError::Delta {
            index: *index,
            reason,
        };
        charge(self.limits, &mut self.inflated, *index, size)?;
        let bytes = delta::apply(base, delta).map_err(reason)?;
        self.keep(*index, *offset, kind, depth + 1, bytes)?;
        Ok(None)
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

    /// Resolves what waits for bases that came later. Each round resolves all deltas whose base is known by now, so there are at most
    /// as many rounds as deltas may be deep; a cycle never gets a base.
    fn resolve(&mut self) -> Result<(), PackError> {
        let mut named = false;
        while !self.pending.is_empty() {
            let before = self.pending.len();
            for waiting in std::mem::take(&mut self.pending) {
                if let Some(still) = self.delta_on_name(waiting)? {
                    self.pending.push(still);
                }
            }
            if self.pending.len() == before {
                if std::mem::replace(&mut named, true) {
                    return Err(PackError::MissingBase(before));
                }
                self.name_what_left()?;
            }
        }
        Ok(())
    }

    /// Names the blobs that were taken, in case one of them is the base that is missing.
    fn name_what_left(&mut self) -> Result<(), PackError> {
        let wanted: std::collections::HashSet<ObjectId> =
            self.pending.iter().map(|waiting| waiting.base).collect();
        for entry in self.by_offset.values() {
            if let Held::Elsewhere(digest) = entry.held {
                let bytes = match self.place.taken(digest) {
                    Ok(bytes) => bytes,
                    // Taken, and of no use to anybody.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(PackError::Store(error)),
                };
                let id = gix_object::compute_hash(self.format, Kind::Blob, &bytes)
                    .map_err(|_| PackError::Collision(0))?;
                if wanted.contains(&id) {
                    self.named.insert(id, (Kind::Blob, bytes));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
