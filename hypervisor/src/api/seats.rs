// SPDX-License-Identifier: Apache-2.0
//! Room for connections over the network, and who has to go when there is none.
//!
//! ```text
//!   accepted ──> silent ──> heard ──> proven ──> answered
//!                  └──────────┴── sent away: 3 s are over, or somebody new needs the place
//! ```
//!
//! Whoever has shown a good signature keeps the place until the answer is given. Everybody else can be anybody. One that never said a
//! word costs a descriptor and nothing else, so that there is room for many of them; few of those that speak are held, and fewer
//! from one address. When there is no room, the address with the most connections loses the one that was silent for longest:
//! whoever fills the room does so at his own cost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How many connections without a signature are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) total: usize,
    pub(super) per_address: usize,
}

/// For those that have not said anything: they have no thread and no TLS. Between a client's connection and its first word others may
/// come, and with a handful of places these would push it out.
pub(super) const SILENT: Room = Room {
    total: 256,
    per_address: 64,
};
/// For those that speak.
pub(super) const HEARD: Room = Room {
    total: 32,
    per_address: 4,
};
/// Requests of key holders that are being answered; some wait for a log for 20 s.
pub(super) const MAX_PROVEN: usize = 16;
/// So long a client has for TLS and its request: three exchanges, also over a bad line, and no person is waited for.
pub(super) const ASKING: Duration = Duration::from_secs(3);

/// A connection that has not shown a signature yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    pub(super) from: IpAddr,
    pub(super) accepted: Instant,
    /// When it was heard last, if it ever was.
    pub(super) heard: Option<Instant>,
}

impl Unproven {
    pub(super) fn new(from: IpAddr, now: Instant) -> Self {
        Self {
            from: from.to_canonical(),
            accepted: now,
            heard: None,
        }
    }

    /// When it is sent away at the latest.
    pub(super) fn end(&self) -> Instant {
        self.accepted + ASKING
    }
}

/// Who of `held` has to go before one more connection from `from` can stay.
pub(super) fn leaver<'u, I>(held: I, from: IpAddr, room: Room) -> Option<u64>
where
    I: Iterator<Item = (u64, &'u Unproven)> + Clone,
{
    let mut addresses: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, one) in held.clone() {
        *addresses.entry(one.from).or_default() += 1;
    }
    let from = from.to_canonical();
    let full = addresses.values().sum::<usize>() >= room.total;
    let loses = if addresses
        .get(&from)
        .is_some_and(|own| *own >= room.per_address)
    {
        from
    } else if full {
        *addresses.iter().max_by_key(|(_, count)| **count)?.0
    } else {
        return None;
    };
    held.filter(|(_, one)| one.from == loses)
        .min_by_key(|(_, one)| (one.heard, one.accepted))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(address: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, address])
    }

    /// Who leaves `room`; connections are (address, when it was heard in milliseconds).
    fn leaves(connections: &[(u8, u64)], from: u8, room: Room) -> Option<u64> {
        let begin = Instant::now();
        let all: Vec<Unproven> = connections
            .iter()
            .map(|(address, heard)| Unproven {
                heard: Some(begin + Duration::from_millis(*heard)),
                ..Unproven::new(at(*address), begin)
            })
            .collect();
        leaver((0..).zip(all.iter()), at(from), room)
    }

    const SMALL: Room = Room {
        total: 6,
        per_address: 4,
    };

    #[test]
    fn while_there_is_room_nobody_goes() {
        assert_eq!(leaves(&[], 1, SMALL), None);
        assert_eq!(leaves(&[(1, 0); 3], 1, SMALL), None);
        assert_eq!(leaves(&[(1, 0); 4], 2, SMALL), None);
    }

    #[test]
    fn an_address_makes_room_for_itself_by_the_longest_silent() {
        let connections = [(1, 9), (2, 0), (1, 5), (1, 7), (1, 8)];
        assert_eq!(leaves(&connections, 1, SMALL), Some(2));
    }

    #[test]
    fn when_all_places_are_taken_whoever_has_most_loses_one() {
        let connections = [(1, 0), (2, 9), (3, 1), (2, 8), (2, 7), (3, 2)];
        assert_eq!(leaves(&connections, 1, SMALL), Some(4));
        assert_eq!(leaves(&connections, 9, SMALL), Some(4));
    }

    #[test]
    fn one_machine_is_one_address_over_either_protocol() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        let one = Unproven::new(mapped, Instant::now());
        assert_eq!(one.from, at(1));
        assert_eq!(leaver((0..).zip([one; 4].iter()), mapped, SMALL), Some(0));
    }

    proptest! {
        #[test]
        fn whoever_comes_the_bounds_hold_and_nobody_loses_a_place_to_others_who_have_more(
            arrivals in prop::collection::vec(0u8..9, 0..300),
        ) {
            let now = Instant::now();
            let mut held: Vec<(u64, Unproven)> = Vec::new();
            let count = |held: &[(u64, Unproven)], of: IpAddr| {
                held.iter().filter(|(_, one)| one.from == of).count()
            };
            for (id, address) in (0..).zip(arrivals) {
                let from = at(address);
                let all = held.iter().map(|(id, one)| (*id, one));
                if let Some(leaver) = leaver(all, from, SMALL) {
                    let place = held.iter().position(|(id, _)| *id == leaver).expect("held");
                    let loses = held[place].1.from;
                    prop_assert!(loses == from || count(&held, loses) >= count(&held, from));
                    held.remove(place);
                }
                held.push((id, Unproven::new(from, now)));
                prop_assert!(held.len() <= SMALL.total && count(&held, from) <= SMALL.per_address);
            }
        }
    }
}
