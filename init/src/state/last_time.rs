// SPDX-License-Identifier: Apache-2.0
//! The time of day, kept on the card for boards whose clock stops with the power: a Raspberry Pi without a battery begins each start in
//! 1970. Pure: a record and its rules.
//!
//! It is no floor: it is not signed, a wrong one must not outlast the next answer of a time server, and nothing expires by it. It is where a
//! clock that knows less begins, so that a certificate which was renewed since the newest signed commit is still one of today.

use racklet_api::V1;
use serde::{Deserialize, Serialize};

/// The record, kept as `/state/time.0` and `.1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastTime {
    v: V1,
    /// Unix seconds; 0 where none was ever kept.
    unix: u64,
}

impl LastTime {
    /// Of this moment.
    pub(crate) fn at(unix: u64) -> Self {
        Self { v: V1, unix }
    }

    /// Reads what [`LastTime::encode`] wrote; anything else counts as nothing known.
    // untrusted: kept_record
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Bytes to keep.
    pub(crate) fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("numbers always serialise")
    }

    /// Unix seconds.
    pub(crate) fn unix(self) -> u64 {
        self.unix
    }

    /// Whether `now` is to be kept instead: it is `grain` seconds newer, or older, because a time server put back what was kept.
    pub(crate) fn is_stale(self, now: u64, grain: u64) -> bool {
        now < self.unix || now - self.unix >= grain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_garbage_is_no_time() {
        let time = LastTime::at(1_790_000_000);
        assert_eq!(LastTime::decode(&time.encode()), time);
        for garbage in ["", "7", r#"{"v":2,"unix":7}"#, r#"{"v":1,"unix":-1}"#] {
            assert_eq!(LastTime::decode(garbage.as_bytes()).unix(), 0, "{garbage}");
        }
    }

    #[test]
    fn it_is_kept_once_in_its_grain_and_whenever_the_clock_was_put_back() {
        let time = LastTime::at(10_000);
        for (now, stale) in [
            (10_000, false),
            (13_599, false),
            (13_600, true),
            (9_999, true),
            (u64::MAX, true),
        ] {
            assert_eq!(time.is_stale(now, 3_600), stale, "{now}");
        }
    }
}
