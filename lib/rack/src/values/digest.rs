// SPDX-License-Identifier: Apache-2.0
//! Digests and ids: bytes in hex.

use super::{ValueError, as_text, shorten};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The rack's identity, as in its trust root: 16 bytes, written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RackId([u8; 16]);

impl RackId {
    /// The raw bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl From<[u8; 16]> for RackId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for RackId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        hex(text).map(Self).ok_or_else(|| {
            ValueError::new(format!(
                "`{}` is not a rack id: it has 32 lower-case hex digits, as in the trust root",
                shorten(text)
            ))
        })
    }
}

impl fmt::Display for RackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for RackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(RackId, "^[0-9a-f]{32}$", "0123456789abcdef0123456789abcdef");

/// The SHA-256 of a manifest, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestDigest([u8; 32]);

impl ManifestDigest {
    /// The raw digest.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The 64 hex digits without the prefix, as used in the cache's folder names.
    #[must_use]
    pub fn hex(&self) -> String {
        self.to_string().split_off("sha256:".len())
    }
}

impl From<[u8; 32]> for ManifestDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for ManifestDigest {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.strip_prefix("sha256:").and_then(hex).map(Self).ok_or_else(|| {
            ValueError::new(format!(
                "`{}` is not a manifest digest: write sha256: and 64 lower-case hex digits, as printed by `racklet payload publish` and `racklet artifact publish`",
                shorten(text)
            ))
        })
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(
    ManifestDigest,
    "^sha256:[0-9a-f]{64}$",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000"
);

impl From<ManifestDigest> for racklet_trust::Digest {
    fn from(digest: ManifestDigest) -> Self {
        racklet_trust::digest::Hex(digest.0)
    }
}

impl From<RackId> for racklet_trust::digest::RackId {
    fn from(id: RackId) -> Self {
        racklet_trust::digest::Hex(id.0)
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *slot = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_lower_case_and_complete() {
        let good = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(
            good.parse::<ManifestDigest>().expect("good").to_string(),
            good
        );
        for bad in [
            good.to_uppercase(),
            good[7..].to_owned(),
            good[..70].to_owned(),
            format!("{good}0"),
        ] {
            assert!(bad.parse::<ManifestDigest>().is_err(), "{bad}");
        }
    }
}
