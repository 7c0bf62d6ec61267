// SPDX-License-Identifier: Apache-2.0
//! Who signed, counted by key, and for each signature that did not count: why.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use core::fmt;

use super::{MAX_KEYS, Role, TrustRoot};
use crate::{
    key::PublicKey,
    sshsig::{SignatureError, SshSig},
};

/// Too few good signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unauthorised {
    /// The role whose keys were wanted.
    pub role: Role,
    /// How many different keys had to sign.
    pub needed: u8,
    /// How many did.
    pub valid: usize,
    /// For each signature that did not count, why.
    pub refused: Vec<Refused>,
}

/// Why one signature did not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is no good in itself.
    Signature(SignatureError),
    /// By a key that does not have the role, good or not.
    NotAuthorised(Box<PublicKey>),
    /// Good, but this key has signed already.
    Repeated(Box<PublicKey>),
    /// So many more, for reasons like those before.
    Others(usize),
}

impl fmt::Display for Unauthorised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            needed,
            valid,
            refused,
        } = self;
        let plural = if *needed == 1 { "" } else { "s" };
        write!(
            f,
            "{needed} signature{plural} by {role} keys needed, {valid} valid"
        )?;
        if refused.is_empty() && *valid == 0 {
            f.write_str(" (not signed)")?;
        }
        for (index, reason) in refused.iter().enumerate() {
            f.write_str(if index == 0 { " (" } else { "; " })?;
            match reason {
                Refused::Signature(error) => write!(f, "signature {error}")?,
                Refused::NotAuthorised(key) => {
                    write!(f, "{} is not a {role} key", key.fingerprint())?;
                }
                Refused::Repeated(key) => write!(f, "{} signed twice", key.fingerprint())?,
                Refused::Others(count) => write!(f, "{count} more")?,
            }
        }
        if !refused.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl core::error::Error for Unauthorised {}

impl TrustRoot {
    /// Counts the different keys of `role` that signed `message` for `namespace`. All signatures are looked at, in any order: whoever
    /// gathers them bounds their number. `known` are keys that were found to have signed this message for this purpose, with one of
    /// these signatures: whether they count is still asked, and the signature is not verified again.
    pub(crate) fn count_signatures(
        &self,
        role: Role,
        namespace: &str,
        message: &[u8],
        signatures: &[impl AsRef<[u8]>],
        known: &[PublicKey],
    ) -> Count {
        let keys = &self.role(role).keys;
        let mut count = Count {
            role,
            signers: BTreeSet::new(),
            refused: Vec::new(),
        };
        for armored in signatures {
            match SshSig::parse(armored.as_ref()) {
                Err(error) => count.refuse(Refused::Signature(error)),
                // What cannot count is not worth the mathematics, however much of it there is.
                Ok(signature) if !keys.contains(signature.claimed_key()) => {
                    let key = signature.claimed_key().clone();
                    count.refuse(Refused::NotAuthorised(Box::new(key)));
                }
                Ok(signature)
                    if count.signers.contains(signature.claimed_key())
                        || known.contains(signature.claimed_key()) =>
                {
                    count.add(signature.claimed_key().clone());
                }
                Ok(signature) => match signature.verify(namespace, message) {
                    Err(error) => count.refuse(Refused::Signature(error)),
                    Ok(key) => count.add(key.clone()),
                },
            }
        }
        count
    }
}

/// Who signed, and why the rest did not count; a decision only with a threshold.
pub(crate) struct Count {
    role: Role,
    pub(crate) signers: BTreeSet<PublicKey>,
    refused: Vec<Refused>,
}

impl Count {
    fn add(&mut self, key: PublicKey) {
        match self.signers.contains(&key) {
            true => self.refuse(Refused::Repeated(Box::new(key))),
            false => _ = self.signers.insert(key),
        }
    }

    /// Keeps the reasons that a person may want to read.
    fn refuse(&mut self, reason: Refused) {
        let more = match reason {
            Refused::Others(count) => count,
            _ => 1,
        };
        if let Some(Refused::Others(count)) = self.refused.get_mut(MAX_KEYS) {
            *count += more;
        } else if self.refused.len() < MAX_KEYS {
            self.refused.push(reason);
        } else {
            self.refused.push(Refused::Others(more));
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        other.signers.into_iter().for_each(|key| self.add(key));
        other.refused.into_iter().for_each(|why| self.refuse(why));
        self
    }

    pub(crate) fn decide(self, threshold: u8) -> Result<Vec<PublicKey>, Unauthorised> {
        if self.signers.len() >= usize::from(threshold) {
            return Ok(self.signers.into_iter().collect());
        }
        Err(Unauthorised {
            role: self.role,
            needed: threshold,
            valid: self.signers.len(),
            refused: self.refused,
        })
    }
}
