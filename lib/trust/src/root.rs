// SPDX-License-Identifier: Apache-2.0
//! The trust root: which keys may decide what, and how many of them it takes.
//!
//! ```text
//! baked into the image ──> version 1 ──advance──> version 2 ──advance──> …
//! ```
//!
//! A version is followed by the next one only when a threshold of the *old* version's root keys and a threshold of its own
//! signed it. No version is skipped and none comes back.

use alloc::{boxed::Box, collections::BTreeSet, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Verified,
    digest::RackId,
    key::PublicKey,
    namespace,
    sshsig::{SignatureError, SshSig},
};

/// The largest trust root that is read, in bytes.
pub const MAX_SIZE: usize = 64 * 1024;
/// The most keys of a role, and the most reasons that are given for signatures that did not count.
pub const MAX_KEYS: usize = 32;

const TYPE: &str = "racklet.dev/trust-root/v1";

/// What a key may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The next trust root.
    Root,
    /// The content of the rack repository.
    Config,
    /// Operating system payloads and workload images.
    Payload,
    /// Bootstrap slots and controller firmware.
    Firmware,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Config => "config",
            Self::Payload => "payload",
            Self::Firmware => "firmware",
        })
    }
}

/// The keys of a role and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKeys {
    /// How many different keys have to sign; at least 1, at most the number of keys.
    pub threshold: u8,
    /// Different keys, at most [`MAX_KEYS`].
    pub keys: Vec<PublicKey>,
}

/// The keys of every role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// See [`Role::Root`].
    pub root: RoleKeys,
    /// See [`Role::Config`].
    pub config: RoleKeys,
    /// See [`Role::Payload`].
    pub payload: RoleKeys,
    /// See [`Role::Firmware`].
    pub firmware: RoleKeys,
}

/// A well-formed trust root. Believed only inside a [`Verified`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRoot {
    rack: RackId,
    version: u64,
    roles: Roles,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    r#type: String,
    rack: RackId,
    version: u64,
    roles: Roles,
}

/// Why a trust root document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Longer than [`MAX_SIZE`].
    #[error("the trust root is longer than 64 KiB")]
    TooLarge,
    /// Not JSON of the right shape; the text says where.
    #[error("the trust root is not of the form {TYPE}: {0}")]
    Malformed(String),
    /// Well-formed, but not spelt as `racklet` writes it: it could be two things to two readers.
    #[error("the trust root is not in canonical form; write it with `racklet trust`")]
    NotCanonical,
    /// A threshold of zero, above the number of keys, too many keys, or one key twice.
    #[error("role {0}: the threshold must be from 1 to the number of its different keys")]
    Threshold(Role),
    /// Another rack's.
    #[error("it belongs to rack {found}, not to {expected}")]
    OtherRack {
        /// The rack it names.
        found: RackId,
        /// This rack.
        expected: RackId,
    },
    /// Not the direct successor.
    #[error("it is version {found}, where version {expected} has to come next")]
    Version {
        /// Its version.
        found: u64,
        /// The version that would be accepted.
        expected: u64,
    },
    /// Too few signatures by the root keys of the version before.
    #[error("root keys of the version before")]
    Old(#[source] Unauthorised),
    /// Too few signatures by its own root keys.
    #[error("its own root keys")]
    Own(#[source] Unauthorised),
}

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
    /// Makes a trust root from its parts.
    ///
    /// # Errors
    /// [`RootError::Threshold`] when a role cannot work as stated.
    pub fn new(rack: RackId, version: u64, roles: Roles) -> Result<Self, RootError> {
        for (role, keys) in [
            (Role::Root, &roles.root),
            (Role::Config, &roles.config),
            (Role::Payload, &roles.payload),
            (Role::Firmware, &roles.firmware),
        ] {
            let distinct: BTreeSet<_> = keys.keys.iter().collect();
            let possible = 1..=keys.keys.len();
            if distinct.len() != keys.keys.len()
                || keys.keys.len() > MAX_KEYS
                || !possible.contains(&usize::from(keys.threshold))
            {
                return Err(RootError::Threshold(role));
            }
        }
        Ok(Self {
            rack,
            version,
            roles,
        })
    }

    /// Reads the canonical form. Says nothing about whether it may be believed.
    ///
    /// # Errors
    /// [`RootError`] when it is malformed, not canonical or cannot work as stated.
    // untrusted: trust_root
    pub fn parse(bytes: &[u8]) -> Result<Self, RootError> {
        if bytes.len() > MAX_SIZE {
            return Err(RootError::TooLarge);
        }
        let malformed = |error: serde_json::Error| RootError::Malformed(alloc::format!("{error}"));
        let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
        if document.r#type != TYPE {
            return Err(RootError::Malformed(alloc::format!(
                "its type is {:?}",
                document.r#type.chars().take(64).collect::<String>()
            )));
        }
        let root = Self::new(document.rack, document.version, document.roles)?;
        if root.to_canonical() != bytes {
            return Err(RootError::NotCanonical);
        }
        Ok(root)
    }

    /// The one spelling of this trust root: compact JSON with a line end.
    #[must_use]
    pub fn to_canonical(&self) -> Vec<u8> {
        let document = Document {
            r#type: TYPE.into(),
            rack: self.rack,
            version: self.version,
            roles: self.roles.clone(),
        };
        let mut bytes = serde_json::to_vec(&document).expect("plain data always serialises");
        bytes.push(b'\n');
        bytes
    }

    /// The rack it belongs to.
    #[must_use]
    pub fn rack(&self) -> RackId {
        self.rack
    }

    /// Its version, from 1 up.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The keys of every role.
    #[must_use]
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The keys of one role.
    #[must_use]
    pub fn role(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.roles.root,
            Role::Config => &self.roles.config,
            Role::Payload => &self.roles.payload,
            Role::Firmware => &self.roles.firmware,
        }
    }

    /// Counts the different keys of `role` that signed `message` for `namespace`. All signatures are looked at, in any order: whoever
    /// gathers them bounds their number.
    pub(crate) fn count_signatures(
        &self,
        role: Role,
        namespace: &str,
        message: &[u8],
        signatures: &[impl AsRef<[u8]>],
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
                Ok(signature) if count.signers.contains(signature.claimed_key()) => {
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

impl Verified<TrustRoot> {
    /// Believes the trust root that is part of the verified image: the anchor of everything else. The caller answers for where
    /// the bytes come from.
    ///
    /// # Errors
    /// [`RootError`] when it is no trust root at all.
    pub fn baked(bytes: &[u8]) -> Result<Self, RootError> {
        TrustRoot::parse(bytes).map(Verified::new)
    }

    /// Accepts the next version.
    ///
    /// # Errors
    /// [`RootError`] with the reason; the present version stays in force.
    pub fn advance(
        &self,
        bytes: &[u8],
        signatures: &[impl AsRef<[u8]>],
    ) -> Result<Self, RootError> {
        // Verified before it is parsed: by the keys that are already believed.
        self.check(Role::Root, namespace::TRUST_ROOT, bytes, signatures)
            .map_err(RootError::Old)?;
        let next = TrustRoot::parse(bytes)?;
        if next.rack != self.rack {
            return Err(RootError::OtherRack {
                found: next.rack,
                expected: self.rack,
            });
        }
        let expected = self.version.saturating_add(1);
        if next.version != expected || next.version == self.version {
            return Err(RootError::Version {
                found: next.version,
                expected,
            });
        }
        let next = Verified::new(next);
        next.check(Role::Root, namespace::TRUST_ROOT, bytes, signatures)
            .map_err(RootError::Own)?;
        Ok(next)
    }

    /// Whether enough different keys of `role` signed `message` for the purpose `namespace`; returns who did.
    ///
    /// # Errors
    /// [`Unauthorised`] with the reason for each signature that did not count.
    pub fn check(
        &self,
        role: Role,
        namespace: &str,
        message: &[u8],
        signatures: &[impl AsRef<[u8]>],
    ) -> Result<Vec<PublicKey>, Unauthorised> {
        self.count_signatures(role, namespace, message, signatures)
            .decide(self.role(role).threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Keypair, roles, trust_root};
    use alloc::string::ToString;
    use proptest::prelude::*;

    const MESSAGE: &[u8] = b"message";

    fn signatures(seeds: &[u8]) -> Vec<Vec<u8>> {
        let sign = |seed: &u8| Keypair::new(*seed).sign(namespace::MANIFEST, MESSAGE);
        seeds.iter().map(sign).collect()
    }

    fn check(threshold: u8, keys: &[u8], signed_by: &[u8]) -> Result<usize, String> {
        let root = trust_root(1, roles(threshold, keys));
        root.check(
            Role::Payload,
            namespace::MANIFEST,
            MESSAGE,
            &signatures(signed_by),
        )
        .map(|signers| signers.len())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_threshold_counts_different_authorised_keys() {
        assert_eq!(check(1, &[1, 2], &[2]), Ok(1));
        assert_eq!(check(2, &[1, 2, 3], &[3, 1]), Ok(2));
        assert_eq!(check(2, &[1, 2, 3], &[9, 3, 1, 1]), Ok(2));
        for signed_by in [&[][..], &[1], &[1, 1], &[1, 9], &[9, 9]] {
            let error = check(2, &[1, 2, 3], signed_by).unwrap_err();
            assert!(
                error.starts_with("2 signatures by payload keys needed"),
                "{error}"
            );
        }
    }

    #[test]
    fn junk_beside_good_signatures_never_matters_whatever_its_order_or_number() {
        let root = trust_root(1, roles(2, &[1, 2, 3]));
        let good = signatures(&[1, 2]);
        let other = |seed: u8| Keypair::new(seed).sign(namespace::MANIFEST, b"another message");
        let kinds = [
            b"junk".to_vec(),
            other(3),
            other(1),
            signatures(&[9]).remove(0),
            signatures(&[1]).remove(0),
        ];
        let junk: Vec<_> = kinds.iter().cycle().take(200).cloned().collect();
        for at in [0, 100, 200] {
            let mut all = junk.clone();
            all.splice(at..at, good.clone());
            let signers = root.check(Role::Payload, namespace::MANIFEST, MESSAGE, &all);
            assert_eq!(signers.unwrap().len(), 2, "behind {at}");
        }
        let error = root
            .check(Role::Payload, namespace::MANIFEST, MESSAGE, &junk)
            .unwrap_err();
        assert_eq!(error.valid, 1);
        assert_eq!(error.refused.len(), MAX_KEYS + 1);
        assert_eq!(error.refused[MAX_KEYS], Refused::Others(200 - 1 - MAX_KEYS));
    }

    #[test]
    fn one_key_in_two_encodings_counts_once() {
        let root = trust_root(1, roles(2, &[1, 2]));
        let pair = Keypair::new(1);
        let both = [
            pair.sign(namespace::MANIFEST, MESSAGE),
            pair.sign_as_token(namespace::MANIFEST, MESSAGE, 1),
        ];
        let error = root
            .check(Role::Payload, namespace::MANIFEST, MESSAGE, &both)
            .unwrap_err();
        assert_eq!(error.valid, 1);
    }

    #[test]
    fn a_refusal_says_whose_signature_did_not_count() {
        let error = check(1, &[1], &[9]).unwrap_err();
        let stranger = Keypair::new(9).public().fingerprint();
        assert_eq!(
            error,
            alloc::format!(
                "1 signature by payload keys needed, 0 valid ({stranger} is not a payload key)"
            )
        );
        assert!(
            check(1, &[1], &[])
                .unwrap_err()
                .ends_with("0 valid (not signed)")
        );
    }

    fn advance(
        from: u64,
        to: u64,
        new_keys: &[u8],
        signed_by: &[u8],
    ) -> Result<Verified<TrustRoot>, RootError> {
        let old = trust_root(from, roles(1, &[1]));
        let next = trust_root(to, roles(1, new_keys)).to_canonical();
        let sign = |seed: &u8| Keypair::new(*seed).sign(namespace::TRUST_ROOT, &next);
        old.advance(&next, &signed_by.iter().map(sign).collect::<Vec<_>>())
    }

    #[test]
    fn the_next_root_needs_the_old_keys_and_its_own() {
        assert_eq!(advance(1, 2, &[2], &[1, 2]).unwrap().version(), 2);
        assert!(matches!(advance(1, 2, &[2], &[2]), Err(RootError::Old(_))));
        assert!(matches!(advance(1, 2, &[2], &[1]), Err(RootError::Own(_))));
    }

    #[test]
    fn no_root_version_is_skipped_repeated_or_brought_back() {
        for to in [1, 2, 4, u64::MAX] {
            let outcome = advance(2, to, &[1], &[1]);
            assert_eq!(
                outcome.unwrap_err(),
                RootError::Version {
                    found: to,
                    expected: 3
                }
            );
        }
        assert!(advance(u64::MAX, u64::MAX, &[1], &[1]).is_err());
    }

    #[test]
    fn roles_that_nobody_or_anybody_could_meet_are_refused() {
        for (threshold, keys) in [(0, &[1][..]), (2, &[1]), (1, &[]), (2, &[1, 1])] {
            let root = TrustRoot::new(crate::testing::RACK, 1, roles(threshold, keys));
            assert_eq!(root.unwrap_err(), RootError::Threshold(Role::Root));
        }
    }

    #[test]
    fn a_second_spelling_of_the_same_root_is_refused() {
        let text = String::from_utf8(trust_root(1, roles(1, &[1])).to_canonical()).unwrap();
        let spaced = text.replacen(':', ": ", 1);
        assert_eq!(
            TrustRoot::parse(spaced.as_bytes()),
            Err(RootError::NotCanonical)
        );
        let unknown = text.replacen("\"rack\"", "\"extra\":1,\"rack\"", 1);
        assert!(matches!(
            TrustRoot::parse(unknown.as_bytes()),
            Err(RootError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(TrustRoot::parse(&bytes).is_err());
        }
    }
}
