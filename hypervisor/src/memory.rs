// SPDX-License-Identifier: Apache-2.0
//! How much memory the whole tray has and how much of it is available, from `/proc/meminfo`. Limits are made elsewhere.

use racklet_api::hypervisor::MemoryState;

/// What the kernel says now; `None` when it says nothing of use.
pub(crate) fn of_tray() -> Option<MemoryState> {
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<MemoryState> {
    let bytes = |name: &str| -> Option<u64> {
        let (_, value) = meminfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)?;
        let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(MemoryState {
        total: bytes("MemTotal")?,
        available: bytes("MemAvailable")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_kib_become_bytes() {
        let text = "MemTotal:         983040 kB\nMemFree:          500000 kB\nMemAvailable:     900000 kB\n";
        let memory = parse(text).expect("both lines are there");
        assert_eq!(
            (memory.total, memory.available),
            (983_040 << 10, 900_000 << 10)
        );
    }

    #[test]
    fn what_is_missing_or_odd_is_not_guessed() {
        for text in [
            "",
            "MemTotal: 983040 kB\n",
            "MemTotal: 983040 kB\nMemAvailable: 9 pages\n",
            "MemTotal: 983040 kB\nMemAvailable: 99999999999999999999 kB\n",
            "MemTotal: 983040 kB\nMemAvailable: 18446744073709551615 kB\n",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn this_kernel_says_how_much_is_available() {
        let memory = of_tray().expect("Linux says it");
        assert!(0 < memory.available && memory.available <= memory.total);
    }
}
