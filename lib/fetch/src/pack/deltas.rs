// SPDX-License-Identifier: Apache-2.0
//! Deltas: resolved as they come where the base is at hand, at the end where it came later.

use std::io::{self, BufRead};

use gix_hash::ObjectId;

use super::{Held, Kind, PackError, Pending, Unpack, charge};
use crate::delta;

impl<R: BufRead> Unpack<'_, R> {
    pub(super) fn delta_on_offset(
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
    pub(super) fn try_pending(&mut self) -> Result<(), PackError> {
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

    /// Resolves what waits for bases that came later. Each round resolves all deltas whose base is known by now, so there are at most
    /// as many rounds as deltas may be deep; a cycle never gets a base.
    pub(super) fn resolve(&mut self) -> Result<(), PackError> {
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
