// SPDX-License-Identifier: Apache-2.0
//! Names and addresses of what netd makes: the same for the same network or workload, always.
//!
//! Interface names have at most 15 bytes, names of networks and workloads up to 63. A short one stands as it is; a long
//! one by its beginning and part of its hash, with a `.`, which no short one has.

use racklet_rack::Name;
use racklet_trust::Digest;

/// What bridges' names begin with.
pub(crate) const BRIDGE: &str = "rkb-";
/// What taps' names begin with.
pub(crate) const TAP: &str = "rkt-";
const ROOM: usize = 11;

/// The bridge of a network.
pub(crate) fn bridge(network: &Name) -> String {
    interface(BRIDGE, network.as_str())
}

/// The tap of a workload.
pub(crate) fn tap(workload: &Name) -> String {
    interface(TAP, workload.as_str())
}

fn interface(prefix: &str, name: &str) -> String {
    if name.len() <= ROOM {
        return format!("{prefix}{name}");
    }
    let hash = Digest::of(name.as_bytes()).to_string();
    format!("{prefix}{}.{}", &name[..4], &hash[..6])
}

/// A bridge's MAC: fixed, so that guests' neighbour tables stay true when ports come and go. Locally administered.
pub(crate) fn bridge_mac(network: &Name) -> [u8; 6] {
    let hash = Digest::of(format!("racklet bridge {network}").as_bytes()).0;
    [0x02, 0x52, 0x42, hash[0], hash[1], hash[2]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn short_names_stand_as_they_are() {
        assert_eq!(bridge(&name("lan")), "rkb-lan");
        assert_eq!(tap(&name("abcdefghijk")), "rkt-abcdefghijk");
    }

    #[test]
    fn long_names_differ_by_their_hash() {
        let (one, two) = (name("frontend-web-1"), name("frontend-web-2"));
        assert_ne!(tap(&one), tap(&two));
        assert!(tap(&one).starts_with("rkt-fron."));
    }

    proptest! {
        #[test]
        fn every_name_fits_an_interface(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let made = tap(&name(&text));
            prop_assert!(made.len() <= 15 && made.is_ascii());
        }
    }
}
