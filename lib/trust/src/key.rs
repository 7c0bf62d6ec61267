// SPDX-License-Identifier: Apache-2.0
//! SSH public keys: Ed25519, in software or on a FIDO token. Other algorithms are refused, not ignored.

use alloc::{format, string::String, vec::Vec};
use core::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use base64ct::{Base64, Base64Unpadded, Encoding};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::wire::{self, Reader, Truncated};

const ED25519: &str = "ssh-ed25519";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
/// Longer than any key line of the two types, application string included.
const MAX_LINE: usize = 1024;

/// Why a public key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither `ssh-ed25519` nor `sk-ssh-ed25519@openssh.com`.
    #[error("key type {0:?} is not accepted; use ssh-ed25519 or sk-ssh-ed25519@openssh.com")]
    Algorithm(String),
    /// Not `<type> <base64> [comment]`, or the base64 does not decode to a key of that type.
    #[error("not an OpenSSH public key")]
    Malformed,
    /// A point of small order or one with a second encoding: a signature by it proves nothing.
    #[error("the key is weak or not canonically encoded")]
    Weak,
}

impl From<Truncated> for KeyError {
    fn from(_: Truncated) -> Self {
        Self::Malformed
    }
}

/// A public key that signatures can be checked against.
///
/// Two keys are equal when their key material is, however they were spelt: a threshold counts material, never text.
#[derive(Clone)]
pub struct PublicKey {
    point: VerifyingKey,
    /// The application of a FIDO key, `ssh:` as a rule.
    application: Option<String>,
}

impl PublicKey {
    /// Parses the binary form (`string algorithm`, `string key`, for FIDO keys `string application`).
    ///
    /// # Errors
    /// [`KeyError`] when it is not a good key of an accepted type.
    // untrusted: public_key
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(blob);
        let algorithm = text(reader.string()?)?;
        let has_application = match algorithm {
            ED25519 => false,
            SK_ED25519 => true,
            other => return Err(KeyError::Algorithm(other.chars().take(64).collect())),
        };
        let point: [u8; 32] = reader
            .string()?
            .try_into()
            .map_err(|_| KeyError::Malformed)?;
        let application = match has_application {
            true => Some(String::from(text(reader.string()?)?)),
            false => None,
        };
        if !reader.is_empty() || application.as_ref().is_some_and(|a| a.len() > 256) {
            return Err(KeyError::Malformed);
        }
        let point = VerifyingKey::from_bytes(&point).map_err(|_| KeyError::Malformed)?;
        if point.is_weak() || point.to_edwards().compress().to_bytes() != point.to_bytes() {
            return Err(KeyError::Weak);
        }
        Ok(Self { point, application })
    }

    /// The binary form that [`PublicKey::from_blob`] reads.
    #[must_use]
    pub fn to_blob(&self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(128);
        wire::put_string(&mut blob, self.algorithm().as_bytes());
        wire::put_string(&mut blob, self.point.as_bytes());
        if let Some(application) = &self.application {
            wire::put_string(&mut blob, application.as_bytes());
        }
        blob
    }

    /// `ssh-ed25519` or `sk-ssh-ed25519@openssh.com`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.application {
            Some(_) => SK_ED25519,
            None => ED25519,
        }
    }

    /// The fingerprint that `ssh-keygen -l` shows: `SHA256:` and unpadded base64.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.to_blob());
        format!("SHA256:{}", Base64Unpadded::encode_string(&digest))
    }

    /// The 32 bytes of the Ed25519 point.
    #[must_use]
    pub fn material(&self) -> &[u8; 32] {
        self.point.as_bytes()
    }

    pub(crate) fn point(&self) -> &VerifyingKey {
        &self.point
    }

    pub(crate) fn application(&self) -> Option<&str> {
        self.application.as_deref()
    }
}

fn text(bytes: &[u8]) -> Result<&str, KeyError> {
    core::str::from_utf8(bytes).map_err(|_| KeyError::Malformed)
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Parses a line of `authorized_keys` or a `.pub` file; the comment is ignored.
    fn from_str(line: &str) -> Result<Self, KeyError> {
        if line.len() > MAX_LINE {
            return Err(KeyError::Malformed);
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
            return Err(KeyError::Malformed);
        };
        if ![ED25519, SK_ED25519].contains(&algorithm) {
            return Err(KeyError::Algorithm(algorithm.chars().take(64).collect()));
        }
        let key = Self::from_blob(&Base64::decode_vec(blob).map_err(|_| KeyError::Malformed)?)?;
        if key.algorithm() != algorithm {
            return Err(KeyError::Malformed);
        }
        Ok(key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = Base64::encode_string(&self.to_blob());
        write!(f, "{} {blob}", self.algorithm())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.material() == other.material()
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.material().cmp(other.material())
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.material().hash(state);
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Keypair;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn a_key_line_reads_back_as_written_without_its_comment() {
        let key = Keypair::new(1).public();
        assert_eq!(format!("{key} me@here\n").parse(), Ok(key.clone()));
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn the_same_material_in_two_encodings_is_one_key() {
        let plain = Keypair::new(1).public();
        let token = PublicKey {
            application: Some("ssh:".into()),
            ..plain.clone()
        };
        assert_ne!(plain.to_string(), token.to_string());
        assert_eq!(plain, token);
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn weak_points_and_other_algorithms_are_refused() {
        let mut blob = Vec::new();
        wire::put_string(&mut blob, ED25519.as_bytes());
        let mut identity = [0; 32];
        identity[0] = 1;
        wire::put_string(&mut blob, &identity);
        assert_eq!(PublicKey::from_blob(&blob), Err(KeyError::Weak));
        assert_eq!(
            "ssh-rsa AAAA".parse::<PublicKey>(),
            Err(KeyError::Algorithm("ssh-rsa".into()))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_back(blob: Vec<u8>) {
            if let Ok(key) = PublicKey::from_blob(&blob) {
                prop_assert_eq!(key.to_blob(), blob);
            }
        }
    }
}
