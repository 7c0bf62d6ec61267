// SPDX-License-Identifier: Apache-2.0
//! Random bytes out of a seed: SHA-256 over a key that is replaced with every use, so that who learns the memory's contents learns
//! nothing of what was given out before.

use core::cell::RefCell;

use critical_section::Mutex;
use rustls::crypto::{GetRandomFailed, SecureRandom};
use sha2::{Digest as _, Sha256};

/// The generator.
pub(crate) struct Random([u8; 32]);

impl Random {
    /// As good as the best of these.
    pub(crate) fn new(seeds: &[&[u8; 32]]) -> Self {
        let mut hash = Sha256::new();
        for seed in seeds {
            hash.update(seed);
        }
        Self(hash.finalize().into())
    }

    /// The next 32 bytes.
    pub(crate) fn next(&mut self) -> [u8; 32] {
        let derived = |what: u8| -> [u8; 32] {
            Sha256::new()
                .chain_update(self.0)
                .chain_update([what])
                .finalize()
                .into()
        };
        let (key, out) = (derived(0), derived(1));
        self.0 = key;
        out
    }
}

static RANDOM: Mutex<RefCell<Option<Random>>> = Mutex::new(RefCell::new(None));

/// 32 of them for a key; none before TLS has been set up.
pub(super) fn bytes() -> Option<[u8; 32]> {
    critical_section::with(|cs| Some(RANDOM.borrow_ref_mut(cs).as_mut()?.next()))
}

/// What rustls asks.
#[derive(Debug)]
pub(super) struct Shared;

impl Shared {
    /// All of TLS gets its bytes out of this generator.
    pub(super) fn new(random: Random) -> Self {
        critical_section::with(|cs| *RANDOM.borrow_ref_mut(cs) = Some(random));
        Self
    }
}

impl SecureRandom for Shared {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        for piece in out.chunks_mut(32) {
            let bytes = bytes().ok_or(GetRandomFailed)?;
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
        Ok(())
    }
}
