// SPDX-License-Identifier: Apache-2.0
//! Whether a tray's workloads fit into its memory: decided here, for `racklet check` by what `trays/<name>.yaml` says the tray
//! has, and for the hypervisor by what it really has.

use super::values::{Memory, Name};
use std::collections::BTreeMap;

/// How many virtual processors a microVM may have; `racklet check` and the monitor go by it.
pub const CPUS: std::ops::RangeInclusive<u32> = 1..=32;
/// How much memory a microVM may have, in MiB: a kernel, our PID 1 and a small program need 32 MiB, and no board has more than 64 GiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 32..=64 << 10;

/// What the tray keeps for its own programs. At rest they take about 60 MiB; fetching a payload takes more.
const OWN: u64 = 128 << 20;
/// What a microVM takes beside the guest's memory: its monitor, page tables, and logs.
const EACH: u64 = 8 << 20;

/// How many percent of its memory for guests a tray may promise them. Beyond twice, the tray would live of what guests do not use.
pub const OVERCOMMIT: std::ops::RangeInclusive<u32> = 100..=200;

/// The workloads that find no room, with the reason. Room is given in the order of names, so that `check` and every tray say the
/// same; one that does not fit takes nothing from those behind it.
///
/// With more than 100 percent, what guests are promised together may be more than the tray has for them: a guest takes memory when it
/// first uses it, and gives back what it does not use any more. What the tray and the monitors take themselves is not promised twice,
/// and no guest is promised more than it could have alone.
pub fn without_room<'w>(
    tray: u64,
    overcommit: Option<u32>,
    workloads: impl IntoIterator<Item = (&'w Name, Memory)>,
) -> BTreeMap<Name, String> {
    let mib = |bytes: u64| bytes >> 20;
    let percent = overcommit.unwrap_or(*OVERCOMMIT.start());
    let (mut real, mut promised) = (tray.saturating_sub(OWN), 0_u64);
    let mut refused = BTreeMap::new();
    let ordered: BTreeMap<&Name, Memory> = workloads.into_iter().collect();
    for (name, memory) in ordered {
        let memory = memory.bytes();
        // In u128 nothing overflows: a tray's 64 bits times a percentage of 32.
        let room = |real: u64| u128::from(real) * u128::from(percent) / 100;
        let with = promised.saturating_add(memory);
        let left = real.checked_sub(EACH);
        let fits = |left: u64| memory <= left && u128::from(with) <= room(left);
        match left.filter(|left| fits(*left)) {
            Some(left) => (real, promised) = (left, with),
            None => {
                let free = room(real).saturating_sub(promised.into());
                let free = u64::try_from(free).unwrap_or(u64::MAX).min(real);
                let stated = match overcommit {
                    Some(percent) => format!(" (with `overcommit: {percent}`)"),
                    None => String::new(),
                };
                let message = format!(
                    "needs {} MiB with what its monitor takes; the tray has {} MiB, keeps {} for itself, and {} are left{stated}: give it less memory, or another tray",
                    mib(memory.saturating_add(EACH)),
                    mib(tray),
                    mib(OWN),
                    mib(free),
                );
                refused.insert(name.clone(), message);
            }
        }
    }
    refused
}

/// Whether a tray that has `real` bytes may say that it has `stated`: firmware and kernel keep up to an eighth for themselves.
#[must_use]
pub fn is_there(stated: Memory, real: u64) -> bool {
    real >= stated.bytes() / 8 * 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tray: u64, workloads: &[(&str, u32)]) -> Vec<String> {
        promised(tray, None, workloads)
    }

    fn promised(tray: u64, overcommit: Option<u32>, workloads: &[(&str, u32)]) -> Vec<String> {
        let workloads: Vec<(Name, Memory)> = workloads
            .iter()
            .map(|(name, mib)| (name.parse().expect("a name"), Memory::from_mib(*mib)))
            .collect();
        let workloads = workloads.iter().map(|(name, memory)| (name, *memory));
        without_room(tray, overcommit, workloads)
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn workloads_get_room_in_the_order_of_their_names() {
        assert!(names(1 << 30, &[("a", 128), ("b", 256)]).is_empty());
        assert_eq!(names(1 << 30, &[("a", 64 << 10)]), ["a"]);
        // 1024 - 128 MiB: one of 800, and another only when it is small.
        assert_eq!(names(1 << 30, &[("b", 800), ("a", 800), ("c", 64)]), ["b"]);
        assert_eq!(names(0, &[("a", 32)]), ["a"]);
    }

    #[test]
    fn what_is_promised_beyond_the_memory_there_is_has_its_stated_bound() {
        // 1024 - 128 - 8 MiB for one guest, twice 880 for two and twice 872 for three.
        let two = [("a", 880), ("b", 880)];
        assert_eq!(promised(1 << 30, Some(100), &two), ["b"]);
        assert_eq!(promised(1 << 30, Some(199), &two), ["b"]);
        assert!(promised(1 << 30, Some(200), &two).is_empty());
        assert_eq!(promised(1 << 30, Some(200), &[("a", 889)]), ["a"], "alone");
        let three = [("a", 880), ("b", 864), ("c", 32)];
        assert_eq!(promised(1 << 30, Some(200), &three), ["c"]);
        assert!(promised(1 << 30, Some(200), &[("a", 880), ("b", 832), ("c", 32)]).is_empty());
        assert_eq!(
            promised(u64::MAX, Some(u32::MAX), &[("a", 64 << 10)]),
            [""; 0]
        );
        let why = without_room(
            1 << 30,
            Some(150),
            [(&"a".parse().expect("a name"), Memory::from_mib(900))],
        );
        assert!(
            why.values().all(|why| why.contains("908 MiB")
                && why.contains("896 are left (with `overcommit: 150`)")),
            "{why:?}"
        );
    }

    #[test]
    fn a_tray_may_lack_what_its_kernel_keeps_and_no_more() {
        let stated = Memory::from_mib(1024);
        assert!(is_there(stated, 983_040 << 10));
        assert!(!is_there(stated, 512 << 20));
    }
}
