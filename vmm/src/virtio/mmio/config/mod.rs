// SPDX-License-Identifier: Apache-2.0
//! The configuration space as vCPUs see it: a copy that the device's thread replaces, with the number of its version (virtio 1.2,
//! 2.5.1 and 4.2.2, ConfigGeneration).
//!
//! A driver reads a field of 64 bits with two accesses, and may get halves of two versions: it reads the number before and behind
//! them, and reads again where it is another one. So bytes and number change together, under one lock that is held for a copy only.

use std::sync::Mutex;

use crate::lock::lock;

pub(super) struct Config(Mutex<Version>);

struct Version {
    bytes: Box<[u8]>,
    /// Counts on past resets, and wraps.
    generation: u32,
}

impl Config {
    pub(super) fn new(bytes: &[u8]) -> Config {
        Config(Mutex::new(Version {
            bytes: bytes.into(),
            generation: 0,
        }))
    }

    /// A guest's read; what lies behind the end is 0.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let version = lock(&self.0);
        for (to, from) in data.iter_mut().zip(version.bytes.iter().skip(from)) {
            *to = *from;
        }
    }

    pub(super) fn generation(&self) -> u32 {
        lock(&self.0).generation
    }

    /// From now on it is this, of the same length; says whether that is something else than before.
    pub(super) fn show(&self, bytes: &[u8]) -> bool {
        let mut version = lock(&self.0);
        if *version.bytes == *bytes {
            return false;
        }
        version.bytes.copy_from_slice(bytes);
        version.generation = version.generation.wrapping_add(1);
        true
    }
}

#[cfg(test)]
mod tests;
