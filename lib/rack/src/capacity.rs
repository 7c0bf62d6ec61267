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

/// The workloads that find no room, with the reason. Room is given in the order of names, so that `check` and every tray say the
/// same; one that does not fit takes nothing from those behind it.
pub fn without_room<'w>(
    tray: u64,
    workloads: impl IntoIterator<Item = (&'w Name, Memory)>,
) -> BTreeMap<Name, String> {
    let mib = |bytes: u64| bytes >> 20;
    let mut free = tray.saturating_sub(OWN);
    let mut refused = BTreeMap::new();
    let ordered: BTreeMap<&Name, Memory> = workloads.into_iter().collect();
    for (name, memory) in ordered {
        let needed = memory.bytes().saturating_add(EACH);
        match free.checked_sub(needed) {
            Some(left) => free = left,
            None => {
                let message = format!(
                    "needs {} MiB with what its monitor takes; the tray has {} MiB, keeps {} for itself, and {} are left: give it less memory, or another tray",
                    mib(needed),
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
        let workloads: Vec<(Name, Memory)> = workloads
            .iter()
            .map(|(name, mib)| (name.parse().expect("a name"), Memory::from_mib(*mib)))
            .collect();
        without_room(tray, workloads.iter().map(|(name, memory)| (name, *memory)))
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
    fn a_tray_may_lack_what_its_kernel_keeps_and_no_more() {
        let stated = Memory::from_mib(1024);
        assert!(is_there(stated, 983_040 << 10));
        assert!(!is_there(stated, 512 << 20));
    }
}
