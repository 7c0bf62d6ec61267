// SPDX-License-Identifier: Apache-2.0
//! Which payload was started how often, and which one was last seen healthy. Pure: a record and its rules.

use racklet_api::V1;
use racklet_trust::Digest;
use serde::{Deserialize, Serialize};

/// After so many starts without becoming healthy a payload is left alone until the repository pins another.
pub(crate) const TRIES: u32 = 3;

/// The record, kept as `/state/boots.0` and `.1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Boots {
    v: V1,
    /// The payload that was healthy last.
    good: Option<Digest>,
    /// Payloads that were started and not healthy since, with the number of starts; newest last.
    trying: Vec<(Digest, u32)>,
}

/// More than this are not remembered: the oldest go.
const REMEMBERED: usize = 16;

impl Boots {
    /// Reads what [`Boots::encode`] wrote; anything else counts as nothing known.
    // untrusted: kept_record
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes)
            .ok()
            .filter(|boots: &Self| boots.trying.len() <= REMEMBERED)
            .unwrap_or_default()
    }

    /// Bytes to keep.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and strings always serialise")
    }

    /// The payload that was healthy last.
    pub(crate) fn good(&self) -> Option<Digest> {
        self.good
    }

    /// How often it was started without becoming healthy.
    pub(crate) fn tries(&self, payload: Digest) -> u32 {
        self.trying
            .iter()
            .find(|(digest, _)| *digest == payload)
            .map_or(0, |(_, tries)| *tries)
    }

    /// Counts a start; to be kept before the start.
    #[must_use]
    pub(crate) fn started(mut self, payload: Digest) -> Self {
        let tries = self.tries(payload).saturating_add(1);
        self.trying.retain(|(digest, _)| *digest != payload);
        self.trying.push((payload, tries));
        if self.trying.len() > REMEMBERED {
            self.trying.remove(0);
        }
        self
    }

    /// The running payload is healthy.
    #[must_use]
    pub(crate) fn healthy(mut self, payload: Digest) -> Self {
        self.trying.retain(|(digest, _)| *digest != payload);
        self.good = Some(payload);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn starts_count_until_healthy() {
        let boots = Boots::default()
            .started(payload(1))
            .started(payload(2))
            .started(payload(1));
        assert_eq!(
            (
                boots.tries(payload(1)),
                boots.tries(payload(2)),
                boots.tries(payload(3))
            ),
            (2, 1, 0)
        );
        let boots = boots.healthy(payload(1));
        assert_eq!(
            (
                boots.tries(payload(1)),
                boots.tries(payload(2)),
                boots.good()
            ),
            (0, 1, Some(payload(1)))
        );
    }

    #[test]
    fn a_failing_payload_does_not_make_the_good_one_forgotten() {
        let mut boots = Boots::default().started(payload(1)).healthy(payload(1));
        for _ in 0..5 {
            boots = boots.started(payload(2));
        }
        assert_eq!(
            (boots.good(), boots.tries(payload(2))),
            (Some(payload(1)), 5)
        );
    }

    #[test]
    fn the_record_is_bounded_and_comes_back() {
        let boots = (0..100).fold(Boots::default(), |boots, n| boots.started(payload(n)));
        let again = Boots::decode(&boots.encode());
        assert_eq!((again.tries(payload(99)), again.tries(payload(0))), (1, 0));
        assert_eq!(Boots::decode(b"garbage"), Boots::default());
    }
}
