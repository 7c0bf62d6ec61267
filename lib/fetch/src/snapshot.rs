// SPDX-License-Identifier: Apache-2.0
//! An accepted head with everything in its tree, as one file.
//!
//! ```text
//!   "racklet-snapshot-1\n"  format (1 = SHA-1, 2 = SHA-256)  head  generation: u64
//!   number of approvals: u32, then each: length: u32, bytes
//!   number of objects: u32, then each: kind (1 = commit, 2 = tree, 3 = blob)  length: u32, bytes
//!   SHA-256 of all of the above                                          (numbers are little-endian)
//! ```
//!
//! The digest finds bit rot, not forgers: whoever reads it verifies the head again.

use std::sync::Arc;

use gix_hash::{Kind as Format, ObjectId};

use crate::{
    chunk::sha256,
    limits::Limits,
    pack::{Kind, Objects},
};

const MAGIC: &[u8] = b"racklet-snapshot-1\n";

/// Why a snapshot cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Its own digest is wrong: cut, or bit rot.
    #[error("its checksum is wrong")]
    Checksum,
    /// Written by something else.
    #[error("it is not of a form known here")]
    Form,
    /// An object that is one of a SHA-1 collision pair.
    #[error("an object in it is one of a SHA-1 collision pair")]
    Collision,
}

/// An accepted head, or what claims to have been one.
#[derive(Clone)]
pub struct Snapshot {
    format: Format,
    head: ObjectId,
    generation: u64,
    approvals: Vec<Vec<u8>>,
    objects: Arc<Objects>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(
        format: Format,
        head: ObjectId,
        generation: u64,
        approvals: Vec<Vec<u8>>,
        objects: Objects,
    ) -> Self {
        Self {
            format,
            head,
            generation,
            approvals,
            objects: Arc::new(objects),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn head(&self) -> ObjectId {
        self.head
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn objects(&self) -> Arc<Objects> {
        self.objects.clone()
    }

    /// The approvals of the head, armored.
    pub(crate) fn approvals(&self) -> &[Vec<u8>] {
        &self.approvals
    }

    /// The largest file that is read: files, trees and heads.
    pub(crate) fn max_size(limits: &Limits) -> u64 {
        limits.tree * 2 + (1 << 20)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(if self.format == Format::Sha256 { 2 } else { 1 });
        out.extend_from_slice(self.head.as_slice());
        out.extend_from_slice(&self.generation.to_le_bytes());
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&number(self.approvals.len()));
        for approval in &self.approvals {
            out.extend_from_slice(&number(approval.len()));
            out.extend_from_slice(approval);
        }
        out.extend_from_slice(&number(self.objects.len()));
        let mut objects: Vec<_> = self.objects.iter().collect();
        objects.sort_by_key(|(id, _)| **id);
        for (_, (kind, bytes)) in objects {
            out.push(match kind {
                Kind::Commit => 1,
                Kind::Tree => 2,
                _ => 3,
            });
            out.extend_from_slice(&number(bytes.len()));
            out.extend_from_slice(bytes);
        }
        let digest = sha256(&out);
        out.extend_from_slice(&digest.0);
        out
    }

    // untrusted: rack_snapshot
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (body, digest) = bytes
            .split_last_chunk::<32>()
            .ok_or(SnapshotError::Checksum)?;
        if sha256(body).0 != *digest {
            return Err(SnapshotError::Checksum);
        }
        let mut rest = Rest(body.strip_prefix(MAGIC).ok_or(SnapshotError::Form)?);
        let format = match rest.take(1)? {
            [1] => Format::Sha1,
            [2] => Format::Sha256,
            _ => return Err(SnapshotError::Form),
        };
        let head = ObjectId::try_from(rest.take(format.len_in_bytes())?)
            .map_err(|_| SnapshotError::Form)?;
        let generation =
            u64::from_le_bytes(rest.take(8)?.try_into().map_err(|_| SnapshotError::Form)?);
        let mut approvals = Vec::new();
        for _ in 0..rest.number()? {
            let length = rest.number()? as usize;
            approvals.push(rest.take(length)?.to_vec());
        }
        let mut objects = Objects::new();
        for _ in 0..rest.number()? {
            let kind = match rest.take(1)? {
                [1] => Kind::Commit,
                [2] => Kind::Tree,
                [3] => Kind::Blob,
                _ => return Err(SnapshotError::Form),
            };
            let length = rest.number()? as usize;
            let bytes = rest.take(length)?;
            let id = gix_object::compute_hash(format, kind, bytes)
                .map_err(|_| SnapshotError::Collision)?;
            objects.insert(id, (kind, bytes.to_vec()));
        }
        if !rest.0.is_empty() {
            return Err(SnapshotError::Form);
        }
        Ok(Self::new(format, head, generation, approvals, objects))
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SnapshotError::Form)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, SnapshotError> {
        let bytes = self.take(4)?.try_into().map_err(|_| SnapshotError::Form)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(contents: &[Vec<u8>]) -> Snapshot {
        let mut objects = Objects::new();
        for bytes in contents {
            objects.insert(
                gix_object::compute_hash(Format::Sha256, Kind::Blob, bytes).unwrap(),
                (Kind::Blob, bytes.clone()),
            );
        }
        Snapshot::new(
            Format::Sha256,
            Format::Sha256.null(),
            7,
            contents.to_vec(),
            objects,
        )
    }

    proptest! {
        #[test]
        fn it_comes_back_whole(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let before = sample(&contents);
            let after = Snapshot::decode(&before.encode()).unwrap();
            prop_assert_eq!(&after.objects, &before.objects);
            prop_assert_eq!(&after.approvals, &before.approvals);
            prop_assert_eq!((after.head, after.generation), (before.head, 7));
        }

        #[test]
        fn no_altered_byte_passes(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = sample(&[b"a".to_vec(), b"b".to_vec()]).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(Snapshot::decode(&bytes).unwrap_err(), SnapshotError::Checksum);
        }

        #[test]
        fn no_bytes_with_a_good_checksum_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            bytes.splice(0..0, MAGIC.iter().copied());
            bytes.extend(sha256(&bytes).0);
            let _ = Snapshot::decode(&bytes);
        }
    }
}
