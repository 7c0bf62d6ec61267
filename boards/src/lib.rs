// SPDX-License-Identifier: Apache-2.0
//! The boards that trays are built on. Each is a folder in `trays/` with a `board.toml`, found when this crate is built: adding
//! a board is adding a folder.
//!
//! | shelf | what is on it | read by |
//! | --- | --- | --- |
//! | `trays/<name>/board.toml` | boards that trays are built on, and what is missing where no image is built for one yet | this module |
//! | `controllers/<name>/{pins,dimensions}.toml` | boards of ours with a controller on them | [`pins`], [`dimensions`] |
//! | `shapes/<name>.toml` | outlines of boards that others make | [`dimensions`] |
//! | `rack.toml` | the rack that all of them fit into | [`dimensions`] |
//!
//! Without the feature `std` (on by default) only [`pins`] is left, which is constants: that is what firmware takes.

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
pub mod dimensions;
pub mod pins;
#[cfg(feature = "std")]
mod trays;

#[cfg(feature = "std")]
pub use trays::*;
