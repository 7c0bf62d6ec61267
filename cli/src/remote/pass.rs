// SPDX-License-Identifier: Apache-2.0
//! What the user's key signs: once per command, that a key of this command's own may ask the trays of the rack for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use racklet_api::hypervisor::access::{
    self, Pass, Request, canonical_request, signature_to_header,
};
use racklet_trust::sshsig::{armor, to_be_signed};
use racklet_trust::{PublicKey, namespace};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::RemoteError;
use crate::ssh::{self, Key, SshError};

/// A pass that ends this soon, in seconds, is not used for another request.
const MARGIN: u64 = 30;

/// Has the user's key sign when it is needed for the first time, and never again until that has run out.
pub(crate) struct Signer {
    rack: String,
    key: Key,
    lifetime: Duration,
    made: Mutex<Made>,
}

enum Made {
    NotYet,
    Good(Arc<Credentials>),
    /// Said no, or could not: nobody asks again for the next tray.
    Failed(Arc<SshError>),
}

/// A key that only this process has, and the pass for it.
pub(super) struct Credentials {
    pub(super) pass: String,
    pair: Ed25519KeyPair,
    public: PublicKey,
    until: u64,
}

impl Signer {
    /// `lifetime` is at most [`access::MAX_PASS`] seconds.
    pub(crate) fn new(rack: String, key: Key, lifetime: Duration) -> Self {
        Self {
            rack,
            key,
            lifetime,
            made: Mutex::new(Made::NotYet),
        }
    }

    /// Whoever comes while the user is being asked waits here for the same answer.
    pub(super) fn credentials(&self) -> Result<Arc<Credentials>, RemoteError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        match &*made {
            Made::Good(credentials) if now + MARGIN < credentials.until => {
                return Ok(Arc::clone(credentials));
            }
            Made::Failed(error) => return Err(RemoteError::Sign(Arc::clone(error))),
            _ => {}
        }
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .ok()
            .and_then(|document| Ed25519KeyPair::from_pkcs8(document.as_ref()).ok())
            .ok_or(RemoteError::Random)?;
        let public =
            access::ed25519(pair.public_key().as_ref()).map_err(|_| RemoteError::Random)?;
        let pass = Pass {
            key: public.clone(),
            from: now,
            until: now + self.lifetime.as_secs(),
        };
        match ssh::sign(&self.key, namespace::API, &pass.canonical(&self.rack)) {
            Ok(armored) => {
                let credentials = Arc::new(Credentials {
                    pass: pass.to_header(&String::from_utf8_lossy(&armored)),
                    pair,
                    public,
                    until: pass.until,
                });
                *made = Made::Good(Arc::clone(&credentials));
                Ok(credentials)
            }
            Err(error) => {
                let error = Arc::new(error);
                *made = Made::Failed(Arc::clone(&error));
                Err(RemoteError::Sign(error))
            }
        }
    }
}

impl Credentials {
    /// The signature header for a request.
    pub(super) fn sign(&self, request: &Request<'_>) -> String {
        let signature = self
            .pair
            .sign(&to_be_signed(namespace::API, &canonical_request(request)));
        let signature = signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes");
        signature_to_header(&armor(&self.public, namespace::API, signature))
    }
}
