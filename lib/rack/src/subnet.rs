// SPDX-License-Identifier: Apache-2.0
//! Which networks workloads may have: decided here, for `racklet check` and for `netd` alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a network cannot be one of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The kernel needs room for two hosts and a broadcast address, and nobody has more than a /8 or /32.
    #[error("the prefix must be /{0} to /{1}")]
    Length(u8, u8),
    /// Addresses that mean something else everywhere.
    #[error(
        "{0} are for {1}: take a private network such as 10.80.0.0/24, 192.168.80.0/24 or fd00:80::/64"
    )]
    Special(&'static str, &'static str),
}

/// Ranges that routers and kernels treat in their own way (IANA's special-purpose registries, RFC 6890).
const SPECIAL: [(IpAddr, u8, &str, &str); 7] = [
    (v4(0), 8, "addresses in 0.0.0.0/8", "this host alone"),
    (
        v4(127),
        8,
        "addresses in 127.0.0.0/8",
        "a machine's talk with itself",
    ),
    (
        IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)),
        16,
        "addresses in 169.254.0.0/16",
        "machines that found no other",
    ),
    (
        v4(224),
        3,
        "addresses from 224.0.0.0 on",
        "multicast, or reserved",
    ),
    (
        v6(0),
        8,
        "addresses in ::/8",
        "a machine's talk with itself, or carry IPv4",
    ),
    (
        v6(0xfe80),
        10,
        "addresses in fe80::/10",
        "the one link, each has them already",
    ),
    (v6(0xff00), 8, "addresses in ff00::/8", "multicast"),
];

const fn v4(first: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(first, 0, 0, 0))
}

const fn v6(first: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0))
}

/// Whether `address`/`length` can be the network of workloads.
pub fn check(address: IpAddr, length: u8) -> Result<(), Unusable> {
    let (shortest, longest) = if address.is_ipv4() {
        (8, 30)
    } else {
        (32, 126)
    };
    if !(shortest..=longest).contains(&length) {
        return Err(Unusable::Length(shortest, longest));
    }
    for (special, width, what, purpose) in SPECIAL {
        if overlap((address, length), (special, width)) {
            return Err(Unusable::Special(what, purpose));
        }
    }
    Ok(())
}

/// The address at the top of 128 bits, so that prefixes of both families are shifts.
fn top(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn overlap(one: (IpAddr, u8), two: (IpAddr, u8)) -> bool {
    // Lengths are above 0: the shift is below 128.
    let shift = 128 - u32::from(one.1.min(two.1));
    one.0.is_ipv4() == two.0.is_ipv4() && top(one.0) >> shift == top(two.0) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), Unusable> {
        let (address, length) = text.split_once('/').expect("a prefix");
        check(
            address.parse().expect("an address"),
            length.parse().expect("a length"),
        )
    }

    #[test]
    fn networks_with_a_meaning_of_their_own_are_none_of_workloads() {
        for bad in [
            "0.0.0.0/8",
            "127.0.0.0/8",
            "127.80.0.0/24",
            "169.254.0.0/16",
            "169.254.80.0/24",
            "224.0.0.0/8",
            "239.1.0.0/24",
            "240.0.0.0/8",
            "255.255.255.0/24",
            "168.0.0.0/7",
            "10.0.0.0/31",
            "::/64",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "fe80::/64",
            "febf::/64",
            "ff02::/64",
            "fe00::/8",
            "fd00::/127",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        for good in [
            "10.0.0.0/8",
            "10.80.0.0/24",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "203.0.113.0/24",
            "168.0.0.0/8",
            "fd00:80::/64",
            "2001:db8::/32",
            "fec0::/64",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
    }
}
