// SPDX-License-Identifier: Apache-2.0
//! Real repositories, real keys, and an HTTPS server in front of the real `git http-backend` that can be told to misbehave.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "this is part of the tests")]

pub mod disk;
pub mod git;
pub mod history;
pub mod import;
pub mod nginx;
pub mod package;
pub mod server;
pub mod world;

/// An error with everything behind it, as a console shows it.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
