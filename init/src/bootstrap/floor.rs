// SPDX-License-Identifier: Apache-2.0
//! Whether an accepted head is above this tray's floors: what the history rule cannot know when it begins anew.

use racklet_trust::commit::ObjectId;
use racklet_trust::floors::Floors;

/// A head as the history rule reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The commit.
    pub(crate) id: ObjectId,
    /// Its generation.
    pub(crate) generation: u64,
    /// The newest committer's date verified on the way.
    pub(crate) time: u64,
    /// Version of the trust root in force behind it.
    pub(crate) trust_root: u64,
    /// Whether its descent from the accepted head was proved. It cannot be when the kept head is lost.
    pub(crate) descends: bool,
}

/// Why a properly signed head is refused all the same: somebody shows an old state of the rack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BelowFloor {
    #[error("head {0} has trust root {1}, below this tray's floor {2}: an old state of the rack")]
    TrustRoot(ObjectId, u64, u64),
    #[error("head {0} is of generation {1}, below this tray's floor {2}: an old state of the rack")]
    Generation(ObjectId, u64, u64),
    #[error(
        "head {0} was signed before the newest commit this tray has accepted: an old state of the rack; push a new commit"
    )]
    Time(ObjectId),
}

/// Judges a head by the floors.
pub(crate) fn judge(seen: &Seen, floors: &Floors) -> Result<(), BelowFloor> {
    if seen.trust_root < floors.trust_root {
        return Err(BelowFloor::TrustRoot(
            seen.id,
            seen.trust_root,
            floors.trust_root,
        ));
    }
    let Some((head, generation)) = floors.head else {
        return Ok(());
    };
    if seen.id == head {
        return Ok(());
    }
    if seen.generation <= generation {
        return Err(BelowFloor::Generation(seen.id, seen.generation, generation));
    }
    // Alone, a head proves nothing about its place in the history; its signed date is all there is.
    if !seen.descends && seen.time < floors.time {
        return Err(BelowFloor::Time(seen.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId::from_bytes(&[n; 20]).expect("20 bytes")
    }

    fn floors() -> Floors {
        Floors {
            trust_root: 2,
            head: Some((id(5), 50)),
            time: 1000,
            ..Floors::default()
        }
    }

    fn seen(n: u8, generation: u64, time: u64, trust_root: u64, descends: bool) -> Seen {
        Seen {
            id: id(n),
            generation,
            time,
            trust_root,
            descends,
        }
    }

    #[test]
    fn the_first_head_of_a_new_tray_passes() {
        assert_eq!(judge(&seen(1, 1, 0, 1, false), &Floors::default()), Ok(()));
    }

    #[test]
    fn the_accepted_head_itself_and_its_descendants_pass() {
        assert_eq!(judge(&seen(5, 50, 900, 2, false), &floors()), Ok(()));
        assert_eq!(
            judge(&seen(6, 51, 900, 2, true), &floors()),
            Ok(()),
            "a clock that went back between two commits"
        );
    }

    #[test]
    fn old_states_of_the_rack_are_refused() {
        assert_eq!(
            judge(&seen(4, 49, 2000, 2, true), &floors()),
            Err(BelowFloor::Generation(id(4), 49, 50))
        );
        assert_eq!(
            judge(&seen(6, 51, 2000, 1, true), &floors()),
            Err(BelowFloor::TrustRoot(id(6), 1, 2))
        );
        assert_eq!(
            judge(&seen(4, 51, 999, 2, false), &floors()),
            Err(BelowFloor::Time(id(4)))
        );
        assert_eq!(
            judge(&seen(6, 51, 1000, 2, false), &floors()),
            Ok(()),
            "newer by its signed date"
        );
    }
}
