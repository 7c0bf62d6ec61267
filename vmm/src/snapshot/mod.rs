// SPDX-License-Identifier: Apache-2.0
//! A microVM as one moment has found it, in two files: `state`, everything but its memory, and `memory`. Disks are not in it, nor is
//! any host's end: not connections, taps, logs.
//!
//! ```text
//! order --> vCPUs stand still (`gate`) --> devices stand still, nothing under way (`Window::hold`)
//!       --> vCPUs, interrupt controllers, memory, state to their files --> devices and vCPUs go on
//! ```
//!
//! `saver` is the thread that does it, `file` the format and its reading, `memory` the sparse file of guest memory. Neither the
//! monitor nor who asks for a snapshot writes into one that is there: it is made under another name, and is a snapshot once it has
//! been renamed.
//!
//! A snapshot may be the difference to a full one: its `memory` has what is other than there, and its `state` names it by its digest.
//! Differences to differences there are none, so that none depends on another.
//!
//! Restoring maps `memory` privately and reads nothing of it: what the guest touches comes page by page, and two guests of one
//! snapshot share what neither has written. So who changes the file changes the guests that were restored from it.

mod file;
mod memory;
mod saver;

pub(crate) use file::Snapshot;
pub use file::{MAX_STATE, SnapshotError, Summary, look, open_full, read_state};
pub(crate) use saver::{Desk, Order, Sources, spawn};

/// The name of the file with everything but memory.
pub const STATE: &str = "state";
/// The name of the file with memory.
pub const MEMORY: &str = "memory";
/// Where a snapshot that is a difference has, as a folder or a link to one, the full one that it is the difference to.
pub const BASE: &str = "base";
