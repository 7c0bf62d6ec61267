// SPDX-License-Identifier: Apache-2.0
//! SHA-256 and its HMAC.

use alloc::boxed::Box;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::crypto::{
    hash::{Context, Hash, HashAlgorithm, Output},
    hmac as tls,
};
use sha2::{Digest as _, Sha256};

/// Bytes of either.
const LENGTH: usize = 32;

pub(super) struct Sha;

impl Hash for Sha {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Running(Sha256::new()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&Sha256::digest(data))
    }

    fn output_len(&self) -> usize {
        LENGTH
    }

    fn algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }
}

struct Running(Sha256);

impl Context for Running {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

pub(super) struct ShaHmac;

impl tls::Hmac for ShaHmac {
    fn with_key(&self, key: &[u8]) -> Box<dyn tls::Key> {
        Box::new(Keyed(
            Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
        ))
    }

    fn hash_output_len(&self) -> usize {
        LENGTH
    }
}

struct Keyed(Hmac<Sha256>);

impl tls::Key for Keyed {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> tls::Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        for part in middle {
            mac.update(part);
        }
        mac.update(last);
        tls::Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        LENGTH
    }
}
