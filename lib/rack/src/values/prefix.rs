// SPDX-License-Identifier: Apache-2.0
//! Networks in CIDR notation.

use super::{ValueError, as_text, shorten};
use racklet_tell::text::decimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

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

    /// The network address of the prefix of `length` bits (at most this one's) around it.
    pub(crate) fn cut(&self, length: u8) -> IpAddr {
        self.with(bits(self.address) & mask(self.width(), length))
    }

    /// The last address.
    pub(crate) fn last(&self) -> IpAddr {
        let free = !mask(self.width(), self.length) & mask_all(self.width());
        self.with(bits(self.address) | free)
    }

    /// The address of this family with these bits.
    fn with(&self, bits: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => {
                let low = u32::try_from(bits).expect("made of 32 bits and a mask of as many");
                IpAddr::V4(Ipv4Addr::from(low))
            }
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(bits)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
