// SPDX-License-Identifier: Apache-2.0
//! Which network has addresses that another one wants: found by where prefixes begin, not by a look at every pair of networks.
//!
//! Two prefixes share addresses only when one lies inside the other. So a look asks for each length that occurs (at most 32 and 128)
//! whether a prefix of that length is around the new one, and then for what begins inside of it.

use crate::values::{Name, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The prefixes that networks have, and for each the first network, by name, that has it.
#[derive(Default)]
pub(super) struct Taken {
    prefixes: BTreeMap<(IpAddr, u8), Name>,
    /// Lengths that occur, apart by family.
    v4: BTreeSet<u8>,
    v6: BTreeSet<u8>,
}

impl Taken {
    pub(super) fn add(&mut self, prefix: Prefix, network: &Name) {
        match prefix.address() {
            IpAddr::V4(_) => self.v4.insert(prefix.length()),
            IpAddr::V6(_) => self.v6.insert(prefix.length()),
        };
        self.prefixes
            .entry((prefix.address(), prefix.length()))
            .and_modify(|first| *first = first.clone().min(network.clone()))
            .or_insert_with(|| network.clone());
    }

    /// The first network, by name, that shares addresses with `prefix`.
    pub(super) fn clash(&self, prefix: &Prefix) -> Option<&Name> {
        let lengths = match prefix.address() {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let around = lengths
            .range(..prefix.length())
            .filter_map(|length| self.prefixes.get(&(prefix.cut(*length), *length)));
        // Prefixes are nested or apart: whatever begins in it and is not around it lies in it.
        let inside = self
            .prefixes
            .range((prefix.address(), prefix.length())..=(prefix.last(), u8::MAX))
            .map(|(_, network)| network);
        around.chain(inside).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: usize) -> Name {
        format!("n{n}").parse().expect("a name")
    }

    proptest! {
        /// Few bits, so that many of them overlap.
        #[test]
        fn what_is_found_by_place_is_what_a_look_at_each_pair_finds(
            parts in proptest::collection::vec((any::<u8>(), 1u8..=8, any::<bool>()), 0..40)
        ) {
            let prefixes = parts.iter().map(|(bits, length, v4)| -> Prefix {
                let bits = bits & u8::MAX.checked_shl(u32::from(8 - length)).unwrap_or(0);
                let text = match v4 {
                    true => format!("10.{bits}.0.0/{}", 8 + length),
                    false => format!("fd{bits:02x}::/{}", 8 + length),
                };
                text.parse().expect("clean")
            });
            let mut taken = Taken::default();
            let mut before: Vec<(Name, Prefix)> = Vec::new();
            // Names in another order than they come in.
            for (n, prefix) in prefixes.enumerate() {
                let expected = before.iter().filter(|(_, other)| other.overlaps(&prefix)).map(|(name, _)| name).min();
                prop_assert_eq!(taken.clash(&prefix), expected);
                let network = name(n * 7 % 41);
                taken.add(prefix, &network);
                before.push((network, prefix));
            }
        }
    }
}
