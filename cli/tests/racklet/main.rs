// SPDX-License-Identifier: Apache-2.0
//! The command line as a user has it: the real program, the real `ssh-keygen`, the real `git`.

#![allow(
    clippy::unwrap_used,
    reason = "the lint spares #[test] functions but not their helpers, and here is nothing else"
)]

mod branches;
mod checking;
mod consoles;
mod fake;
mod images;
mod keys;
mod packages;
mod pruning;
mod publishing;
mod racks;
mod schema;
mod trays;
mod trusting;
mod world;
