// SPDX-License-Identifier: Apache-2.0
//! Where a long step stands, for consoles and progress bars.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes of a pack come in.
    Receiving,
    /// Chunks are verified and put together; counts uncompressed bytes.
    Assembling,
}

/// Told often: reports should be cheap, and print rarely.
pub trait Progress {
    /// `bytes` of `phase` are done.
    fn report(&mut self, phase: Phase, bytes: u64);
}

/// A function is told, too.
impl<F: FnMut(Phase, u64)> Progress for F {
    fn report(&mut self, phase: Phase, bytes: u64) {
        self(phase, bytes);
    }
}

/// Nobody is told.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _: Phase, _: u64) {}
}
