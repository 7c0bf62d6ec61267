// SPDX-License-Identifier: Apache-2.0
//! The repositories and servers of `lib/fetch`'s tests.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "this is part of the tests")]

#[path = "../../../fetch/tests/support/git.rs"]
pub mod git;
#[path = "../../../fetch/tests/support/import.rs"]
pub mod import;
#[path = "../../../fetch/tests/support/package.rs"]
pub mod package;
#[path = "../../../fetch/tests/support/server.rs"]
pub mod server;
#[path = "../../../fetch/tests/support/world.rs"]
pub mod world;

use racklet_follow::{Keeper, News};
use racklet_trust::floors::Floors;

/// Floors in memory.
#[derive(Default)]
pub struct Kept(Floors);

impl Keeper for Kept {
    fn floors(&mut self) -> Floors {
        self.0.clone()
    }

    fn accepted(&mut self, news: News<'_>) {
        self.0.raise(&news.head.floors());
    }
}

/// An error with everything behind it, as a console shows it.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
