// SPDX-License-Identifier: Apache-2.0
//! Trays by their labels, and which of them a workload with a selector runs on.
//!
//! A tray is chosen by rendezvous hashing: each pair of workload and tray has a weight, and the heaviest tray wins. A tray that comes or
//! goes moves only the workloads that it wins or had, and with a handful of trays they are spread more evenly than over a ring.
//! Names are hashed once, and selectors looked up once, so that what is left to do for each pair is one multiplication.

use super::mix;
use crate::kind::tray::Tray;
use crate::values::Name;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

type Labels = BTreeMap<String, String>;

/// The trays that have all of `labels`.
pub(super) fn matching<'t>(
    trays: &'t BTreeMap<Name, Tray>,
    labels: &'t Labels,
) -> impl Iterator<Item = &'t Name> {
    trays
        .iter()
        .filter(|(_, tray)| labels.iter().all(|(k, v)| tray.labels.get(k) == Some(v)))
        .map(|(name, _)| name)
}

/// The selectors that were looked up, and what they select.
pub(super) struct Selection<'t> {
    trays: &'t BTreeMap<Name, Tray>,
    found: BTreeMap<&'t Labels, Vec<(u64, &'t Name)>>,
}

impl<'t> Selection<'t> {
    pub(super) fn of(trays: &'t BTreeMap<Name, Tray>) -> Self {
        Self {
            trays,
            found: BTreeMap::new(),
        }
    }

    /// One tray with all of `labels`, always the same one for a workload of this name while it exists.
    pub(super) fn choose(&mut self, workload: &Name, labels: &'t Labels) -> Option<&'t Name> {
        let trays = match self.found.entry(labels) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(empty) => {
                let found = matching(self.trays, labels);
                empty.insert(found.map(|name| (mix(&[name.as_str()]), name)).collect())
            }
        };
        let own = mix(&[workload.as_str()]);
        let best = trays
            .iter()
            .max_by_key(|(hash, name)| (weight(own, *hash), *name));
        best.map(|(_, name)| *name)
    }
}

/// Both halves of the product, so that every bit of both hashes counts: the multiply-and-fold of wyhash.
fn weight(workload: u64, tray: u64) -> u64 {
    let product = u128::from(workload ^ 0x9e37_79b9_7f4a_7c15) * u128::from(tray | 1);
    let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
    u64::try_from(low ^ high).expect("64 bits of each")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn trays(names: &[String]) -> BTreeMap<Name, Tray> {
        let mut files = good();
        files.remove("workloads/web.yaml");
        for tray in names {
            files.insert(format!("trays/{tray}.yaml"), TRAY.replace("tray-1", tray));
        }
        state(&files).trays
    }

    #[test]
    fn workloads_are_spread_over_trays_and_a_new_tray_moves_only_its_share() {
        let names: Vec<String> = (1..=8).map(|n| format!("tray-{n}")).collect();
        let labels = Labels::from([("zone".to_owned(), "left".to_owned())]);
        let workloads: Vec<Name> = (0..4000).map(|n| name(&format!("web-{n}"))).collect();
        let chosen = |trays: &BTreeMap<Name, Tray>| -> Vec<Name> {
            let mut selection = Selection::of(trays);
            let choose = |workload| selection.choose(workload, &labels).cloned();
            workloads.iter().filter_map(choose).collect()
        };
        let (seven, eight) = (trays(&names[..7]), trays(&names));
        let (before, after) = (chosen(&seven), chosen(&eight));
        for (trays, chosen) in [(&seven, &before), (&eight, &after)] {
            let share = workloads.len() / trays.len();
            for tray in trays.keys() {
                let count = chosen.iter().filter(|name| *name == tray).count();
                assert!(
                    (share * 3 / 4..share * 5 / 4).contains(&count),
                    "{tray}: {count} of {share}"
                );
            }
        }
        let new = name("tray-8");
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new);
        assert!(moved.into_iter().all(|(_, to)| *to == new));
    }
}
