// SPDX-License-Identifier: Apache-2.0
//! The small values rack objects are made of. Each can only be made from good text, so whoever holds one need not
//! check it again.

use crate::url::Parts;
use racklet_tell::text::{self, decimal};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What is wrong with one value; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Serde and text conversions shared by all values: text in, text out.
macro_rules! as_text {
    ($type:ident, $pattern:expr, $example:expr) => {
        impl TryFrom<String> for $type {
            type Error = ValueError;
            fn try_from(text: String) -> Result<Self, ValueError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": $pattern, "examples": [$example]})
            }
        }
    };
}

/// A DNS label (RFC 1123): the name of an object, usable in host names, file names and interface labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good = (1..=63).contains(&bytes.len())
            && bytes.iter().all(inner)
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::new(format!(
                "`{}` is not a name: use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
                shorten(text)
            )))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

as_text!(Name, "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", "web");

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

/// An amount of memory in bytes, written as `256Mi` or `1Gi`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u64);

impl Memory {
    /// Bytes; always a whole number of MiB.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0
    }

    /// This many mebibytes, at least one.
    #[must_use]
    pub fn from_mib(mib: u32) -> Self {
        Self(u64::from(mib.max(1)) << 20)
    }

    /// Mebibytes.
    #[must_use]
    pub fn mib(&self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Memory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = [("Mi", 20), ("Gi", 30), ("Ti", 40)]
            .iter()
            .find_map(|(unit, shift)| {
                let count: u64 = decimal(text.strip_suffix(unit)?)?;
                (count > 0 && count <= 1 << 20).then(|| count << shift)
            });
        parsed.map(Self).ok_or_else(|| {
            ValueError::new(format!(
                "`{}` is not an amount of memory: write for example 256Mi or 1Gi",
                shorten(text)
            ))
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1 << 30) {
            write!(f, "{}Gi", self.0 >> 30)
        } else {
            write!(f, "{}Mi", self.0 >> 20)
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(Memory, "^[1-9][0-9]*(Mi|Gi|Ti)$", "256Mi");

/// A network in CIDR notation, with no bits set behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The network address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are the network's.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `other` is this address family and inside.
    #[must_use]
    pub fn contains(&self, other: IpAddr) -> bool {
        self.address.is_ipv4() == other.is_ipv4()
            && bits(other) & mask(self.width(), self.length) == bits(self.address)
    }

    /// Whether all of `other` is inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.length >= self.length && self.contains(other.address)
    }

    /// Whether the two share any address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The `n`th address, the network address being 0; `None` outside.
    #[must_use]
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let value = bits(self.address).checked_add(u128::from(n))?;
        let address = if self.address.is_ipv4() {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(value).ok()?))
        } else {
            IpAddr::V6(Ipv6Addr::from(value))
        };
        self.contains(address).then_some(address)
    }

    /// Whether a workload or gateway may have `address`: inside, and neither the network's nor its broadcast address.
    #[must_use]
    pub fn is_host(&self, address: IpAddr) -> bool {
        let last = bits(self.address) | !mask(self.width(), self.length) & mask_all(self.width());
        let broadcast = self.address.is_ipv4() && bits(address) == last;
        self.contains(address) && address != self.address && !broadcast
    }

    /// How many addresses [`Self::is_host`] accepts, at most `u32::MAX`.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        let free = u32::from(self.width() - self.length);
        let all = 1u128.checked_shl(free).unwrap_or(u128::MAX);
        let unusable = if self.address.is_ipv4() { 2 } else { 1 };
        u32::try_from(all.saturating_sub(unusable)).unwrap_or(u32::MAX)
    }
}

/// The address as a number; IPv4 in the low 32 bits.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask_all(width: u8) -> u128 {
    u128::MAX >> (128 - u32::from(width))
}

fn mask(width: u8, length: u8) -> u128 {
    mask_all(width)
        & u128::MAX
            .checked_shl(u32::from(width - length))
            .unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || {
            ValueError::new(format!(
                "`{}` is not a network: write for example 10.80.0.0/24 or fd00:80::/64",
                shorten(text)
            ))
        };
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = decimal(length).ok_or_else(bad)?;
        let prefix = Self { address, length };
        if length > prefix.width() || length == 0 {
            return Err(bad());
        }
        let network = bits(address) & mask(prefix.width(), length);
        if network != bits(address) {
            let clean = if address.is_ipv4() {
                u32::try_from(network)
                    .map(|v| IpAddr::V4(Ipv4Addr::from(v)))
                    .map_err(|_| bad())?
            } else {
                IpAddr::V6(Ipv6Addr::from(network))
            };
            return Err(ValueError::new(format!(
                "`{}` has bits set behind its prefix: did you mean {clean}/{length}?",
                shorten(text)
            )));
        }
        Ok(prefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(Prefix, "^[0-9a-fA-F.:]+/[0-9]{1,3}$", "10.80.0.0/24");

/// Where a repository is: an `https://` address without credentials, query or fragment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryUrl(String);

impl RepositoryUrl {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Parts::parse(text)
            .map_err(|error| ValueError::new(format!("`{}`: {error}", shorten(text))))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

as_text!(
    RepositoryUrl,
    "^https://[^?#@\\s]+$",
    "https://git.example.org/rack.git"
);

/// What a stranger wrote, short enough for a message and without control characters.
fn shorten(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    let mut out = text::line(&start);
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
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
    use proptest::prelude::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "../x",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn memory_has_a_unit_and_no_overflow() {
        assert_eq!("256Mi".parse::<Memory>().expect("good").bytes(), 256 << 20);
        assert_eq!("1Gi".parse::<Memory>().expect("good").to_string(), "1Gi");
        for bad in [
            "",
            "256",
            "256M",
            "0Mi",
            "-1Mi",
            "+1Mi",
            "1.5Gi",
            "99999999999999999999Gi",
            "2000000Ti",
            "0256Mi",
        ] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
    }

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

    #[test]
    fn networks_have_clean_host_bits_and_known_hosts() {
        let lan: Prefix = "10.80.0.0/24".parse().expect("good");
        assert_eq!(lan.hosts(), 254);
        assert!(lan.is_host("10.80.0.1".parse().expect("ip")));
        for edge in ["10.80.0.0", "10.80.0.255", "10.80.1.1", "fd00::1"] {
            assert!(!lan.is_host(edge.parse().expect("ip")), "{edge}");
        }
        let error = "10.80.0.7/24".parse::<Prefix>().expect_err("host bits");
        assert!(
            error.to_string().contains("did you mean 10.80.0.0/24"),
            "{error}"
        );
        for bad in [
            "10.80.0.0",
            "10.80.0.0/33",
            "0.0.0.0/0",
            "fd00::/129",
            "10.80.0.0/+24",
            "10.80.0.0/024",
            "x/8",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories_are_https_without_secrets() {
        assert!(
            "https://git.example.org:8443/a/b.git"
                .parse::<RepositoryUrl>()
                .is_ok()
        );
        for bad in [
            "http://x/y",
            "git@host:x",
            "https://",
            "https://u:p@h/x",
            "https://h/x?y",
            "https://h/a b",
            "https://h/../r",
            "https://h",
        ] {
            assert!(bad.parse::<RepositoryUrl>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn prefixes_survive_text(v4 in any::<u32>(), length in 1u8..=32) {
            let address = Ipv4Addr::from(v4 & u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0));
            let text = format!("{address}/{length}");
            let prefix: Prefix = text.parse().expect("clean prefix");
            prop_assert_eq!(prefix.to_string(), text);
            prop_assert!(prefix.contains(IpAddr::V4(Ipv4Addr::from(v4))));
        }

        #[test]
        fn overlap_is_symmetric(a in any::<u32>(), la in 1u8..=32, b in any::<u32>(), lb in 1u8..=32) {
            let make = |v: u32, l: u8| -> Prefix {
                let clean = v & u32::MAX.checked_shl(u32::from(32 - l)).unwrap_or(0);
                format!("{}/{l}", Ipv4Addr::from(clean)).parse().expect("clean prefix")
            };
            let (p, q) = (make(a, la), make(b, lb));
            prop_assert_eq!(p.overlaps(&q), q.overlaps(&p));
        }
    }
}
