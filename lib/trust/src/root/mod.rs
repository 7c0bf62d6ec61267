// SPDX-License-Identifier: Apache-2.0
//! The trust root: which keys may decide what, and how many of them it takes.
//!
//! ```text
//! baked into the image ──> version 1 ──advance──> version 2 ──advance──> …
//! ```
//!
//! A version is followed by the next one only when a threshold of the *old* version's root keys and a threshold of its own
//! signed it. No version is skipped and none comes back.

mod signers;

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Verified, digest::RackId, key::PublicKey, namespace};

pub use self::signers::{Refused, Unauthorised};

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
        let signers = self
            .check(Role::Root, namespace::TRUST_ROOT, bytes, signatures)
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
        // Mostly the same keys, whose signatures of these bytes were verified above: the mathematics is the same for both counts.
        next.count_signatures(
            Role::Root,
            namespace::TRUST_ROOT,
            bytes,
            signatures,
            &signers,
        )
        .decide(next.role(Role::Root).threshold)
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
        self.count_signatures(role, namespace, message, signatures, &[])
            .decide(self.role(role).threshold)
    }
}

#[cfg(test)]
mod tests;
