// SPDX-License-Identifier: Apache-2.0
//! Why a pack is refused.

use std::io;

use crate::delta::DeltaError;

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
