// SPDX-License-Identifier: Apache-2.0
//! The clock that patience goes by.
//!
//! Waiting for a server is cut into stretches of at most [`BEAT`], and between them somebody is told that the program is alive:
//! a watchdog can be fed there. It cannot be fed for ever, because every wait has an end that goes by the same clock.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// The longest wait for a server without a beat.
pub const BEAT: Duration = Duration::from_secs(1);

/// The time, and who is told that it passes.
pub trait Pulse: Debug + Send + Sync {
    /// Now, by a clock that is never set.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A server is being waited for, and that is not over yet. False ends the wait, and with it the request.
    fn beat(&self) -> bool {
        true
    }
}

/// The operating system's clock, and nobody is told.
#[derive(Debug, Clone, Copy)]
pub struct Untold;

impl Pulse for Untold {}
