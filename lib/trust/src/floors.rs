// SPDX-License-Identifier: Apache-2.0
//! What a tray never goes below: trust-root version, accepted head, payload versions, signed time.
//!
//! Floors only rise: whatever is merged into them, in whatever order, none of them sinks. [`crate::history::follow`] holds each head
//! against them. Where and how they are kept is `init`'s business.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{commit::ObjectId, history::Head};

/// The largest encoded form that is read, in bytes.
pub const MAX_SIZE: usize = 64 * 1024;
const MAX_PAYLOADS: usize = 256;

/// The floors of one tray.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Floors {
    /// Version of the newest accepted trust root; 0 before any.
    pub trust_root: u64,
    /// The newest accepted head and its generation.
    pub head: Option<(ObjectId, u64)>,
    /// Newest signed time, Unix seconds.
    pub time: u64,
    /// Version of the newest healthy payload by name.
    pub payloads: BTreeMap<String, u64>,
}

/// Why encoded floors are refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the floors are not of the form {TYPE}")]
pub struct BadFloors;

/// Why a properly signed head is refused all the same: somebody shows an old state of the rack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BelowFloor {
    /// Its trust root was replaced before.
    #[error(
        "head {head} has trust root {found}, below this tray's floor {floor}: an old state of the rack"
    )]
    TrustRoot {
        /// The head on offer.
        head: ObjectId,
        /// The version of its trust root.
        found: u64,
        /// The version accepted before.
        floor: u64,
    },
    /// No more commits were accepted up to it than up to another.
    #[error(
        "head {head} is of generation {found}, not above this tray's floor {floor}: an old state of the rack"
    )]
    Generation {
        /// The head on offer.
        head: ObjectId,
        /// Its generation.
        found: u64,
        /// The generation accepted before.
        floor: u64,
    },
    /// Nothing proves its place in the history, and its date does not speak for it.
    #[error(
        "head {0} was signed before the newest commit this tray has accepted: an old state of the rack; push a new commit"
    )]
    Time(ObjectId),
}

const TYPE: &str = "racklet.dev/floors/v1";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    r#type: String,
    trust_root: u64,
    head: Option<WireHead>,
    time: u64,
    payloads: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHead {
    commit: String,
    generation: u64,
}

impl Floors {
    /// Raises every floor to at least `other`'s. Of two heads of one generation the present one stays.
    pub fn raise(&mut self, other: &Self) {
        self.trust_root = self.trust_root.max(other.trust_root);
        self.time = self.time.max(other.time);
        let here = self.head.map_or(0, |(_, generation)| generation);
        if other
            .head
            .is_some_and(|(_, generation)| self.head.is_none() || generation > here)
        {
            self.head = other.head;
        }
        for (name, version) in &other.payloads {
            if self.payloads.len() >= MAX_PAYLOADS && !self.payloads.contains_key(name) {
                continue;
            }
            let floor = self.payloads.entry(name.clone()).or_default();
            *floor = (*floor).max(*version);
        }
    }

    /// The generation of the newest accepted head; 0 before any.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.head.map_or(0, |(_, generation)| generation)
    }

    /// Whether raising these floors to `by` lowers none of them, and forgets no head. Time is no reason: a clock may go back between
    /// two commits.
    ///
    /// # Errors
    /// [`BelowFloor`] with what would be lowered.
    pub fn judge(&self, by: &Self) -> Result<(), BelowFloor> {
        let Some((head, found)) = by.head else {
            return Ok(());
        };
        if by.trust_root < self.trust_root {
            return Err(BelowFloor::TrustRoot {
                head,
                found: by.trust_root,
                floor: self.trust_root,
            });
        }
        match self.head {
            Some((newest, floor)) if found < floor || (found == floor && head != newest) => {
                Err(BelowFloor::Generation { head, found, floor })
            }
            _ => Ok(()),
        }
    }

    /// Judges a head whose descent from the floor's was not proved: its signed date is all there is. The same second passes, since
    /// commits may be made within one.
    pub(crate) fn judge_date(&self, head: &Head) -> Result<(), BelowFloor> {
        match self.head {
            Some(_) if head.time < self.time => Err(BelowFloor::Time(head.id)),
            _ => Ok(()),
        }
    }

    /// The lowest version of the payload `name` that is still accepted.
    #[must_use]
    pub fn payload(&self, name: &str) -> u64 {
        self.payloads.get(name).copied().unwrap_or(0)
    }

    /// Bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            r#type: TYPE.into(),
            trust_root: self.trust_root,
            head: self.head.map(|(id, generation)| WireHead {
                commit: alloc::format!("{id}"),
                generation,
            }),
            time: self.time,
            payloads: self.payloads.clone(),
        };
        serde_json::to_vec(&wire).expect("numbers and strings always serialise")
    }

    /// Reads what [`Floors::encode`] wrote.
    ///
    /// # Errors
    /// When it did not write them.
    // untrusted: floors
    pub fn decode(bytes: &[u8]) -> Result<Self, BadFloors> {
        if bytes.len() > MAX_SIZE {
            return Err(BadFloors);
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| BadFloors)?;
        if wire.r#type != TYPE || wire.payloads.len() > MAX_PAYLOADS {
            return Err(BadFloors);
        }
        let head = match wire.head {
            None => None,
            Some(head) => {
                let id = ObjectId::from_hex(&head.commit).ok_or(BadFloors)?;
                Some((id, head.generation))
            }
        };
        Ok(Self {
            trust_root: wire.trust_root,
            head,
            time: wire.time,
            payloads: wire.payloads,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors(root: u64, head: Option<(u8, u64)>, time: u64, payload: u64) -> Floors {
        Floors {
            trust_root: root,
            head: head.map(|(byte, generation)| {
                (
                    ObjectId::from_bytes(&[byte; 20]).expect("20 bytes"),
                    generation,
                )
            }),
            time,
            payloads: [("stable".into(), payload)].into(),
        }
    }

    #[test]
    fn encoded_floors_come_back() {
        for one in [
            Floors::default(),
            floors(3, Some((7, 9)), 1_790_000_000, 14),
            floors(u64::MAX, None, u64::MAX, 0),
        ] {
            assert_eq!(Floors::decode(&one.encode()), Ok(one));
        }
        assert!(Floors::decode(b"{}").is_err());
        assert!(Floors::decode(&alloc::vec![b' '; MAX_SIZE + 1]).is_err());
    }

    #[test]
    fn no_floor_ever_sinks_in_any_order() {
        let all = [
            floors(1, None, 50, 3),
            floors(2, Some((1, 4)), 10, 2),
            floors(1, Some((2, 9)), 20, 5),
            floors(0, Some((3, 9)), 0, 0),
        ];
        for start in 0..all.len() {
            let mut now = Floors::default();
            for step in 0..all.len() {
                let before = now.clone();
                now.raise(&all[(start + step) % all.len()]);
                assert!(now.trust_root >= before.trust_root && now.time >= before.time);
                assert!(now.payload("stable") >= before.payload("stable"));
                assert!(now.head.map(|h| h.1) >= before.head.map(|h| h.1));
            }
            assert_eq!(
                (now.trust_root, now.time, now.payload("stable")),
                (2, 50, 5)
            );
            assert_eq!(now.head.map(|h| h.1), Some(9));
        }
    }

    #[test]
    fn another_head_of_the_same_generation_does_not_replace_the_first() {
        let mut now = floors(0, Some((1, 4)), 0, 0);
        now.raise(&floors(0, Some((2, 4)), 0, 0));
        assert_eq!(now.head, floors(0, Some((1, 4)), 0, 0).head);
    }

    #[test]
    fn floors_are_never_asked_to_sink() {
        let now = floors(2, Some((5, 50)), 1000, 0);
        for (by, good) in [
            (floors(2, Some((5, 50)), 900, 0), true),
            (floors(2, Some((6, 51)), 900, 0), true),
            (floors(3, Some((6, 51)), 1000, 0), true),
            (floors(1, Some((6, 51)), 2000, 0), false),
            (floors(2, Some((4, 49)), 2000, 0), false),
            (floors(2, Some((6, 50)), 2000, 0), false),
        ] {
            assert_eq!(now.judge(&by).is_ok(), good, "{by:?}");
        }
        assert_eq!(Floors::default().judge(&now), Ok(()));
    }
}
