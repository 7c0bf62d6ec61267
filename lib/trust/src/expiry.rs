// SPDX-License-Identifier: Apache-2.0
//! By which time something signed has expired.

/// The time that expiry dates are judged by, Unix seconds: the clock only when it was `set_by_owner`, that is by time servers
/// which the tray's owner named, and otherwise the time floor, the newest time that anything accepted was signed at.
///
/// A clock that is wrong, or servers that a stranger's DHCP named, must not make everything look expired. A clock behind the
/// floor counts as little: time does not go back.
#[must_use]
pub fn now(set_by_owner: bool, clock: u64, floor: u64) -> u64 {
    if set_by_owner {
        clock.max(floor)
    } else {
        floor
    }
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn only_a_clock_that_the_owner_vouches_for_makes_anything_expire() {
        for (set_by_owner, clock, expected) in [
            (true, 2_000, 2_000),
            (true, 500, 1_000),
            (false, 2_000, 1_000),
            (false, 500, 1_000),
        ] {
            assert_eq!(now(set_by_owner, clock, 1_000), expected);
        }
    }
}
