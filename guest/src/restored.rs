// SPDX-License-Identifier: Apache-2.0
//! What a guest does when it learns that it goes on from a snapshot: its random numbers, its clock and the addresses of its cards may
//! be those of another guest, too. Whatever fails is said, and the rest is done.

use std::time::Duration;

use racklet_api::vmm::Mac;
use racklet_linux::rtnl::Rtnl;
use racklet_linux::{clock, random};

use crate::console::say;

/// A clock that differs by less is left alone: the monitor has let it follow already where the guest counts by what KVM keeps.
const APART: Duration = Duration::from_secs(1);

/// Becomes a machine of its own.
pub(crate) fn settle(seed: &[u8], time: Duration, cards: &[Mac]) {
    say("goes on from a snapshot");
    // First: everything below may ask for a random number.
    if let Err(error) = random::reseed(seed) {
        say(&format!(
            "the random numbers cannot be seeded again: {error}"
        ));
    }
    if clock::wall().abs_diff(time) > APART
        && let Err(error) = clock::set_wall(time)
    {
        say(&format!("the clock cannot be set: {error}"));
    }
    for (n, mac) in cards.iter().enumerate() {
        let name = format!("eth{n}");
        let changed = Rtnl::open().and_then(|mut netlink| match netlink.link(&name)? {
            Some(card) => netlink.set_mac(card.index, mac.0),
            None => Ok(()),
        });
        if let Err(error) = changed {
            say(&format!("{name} cannot have the address {mac}: {error}"));
        }
    }
}
