// SPDX-License-Identifier: Apache-2.0
//! A door for the fuzz target to what lies on a card that somebody else may have written; nothing else calls this.

use crate::state::{boots::Boots, last_time::LastTime, twin};

/// One copy of a kept record, and the records of starts and of time in it.
pub fn kept_record(bytes: &[u8]) {
    if let Some((sequence, body)) = twin::decode(bytes) {
        let again = twin::encode(sequence, body);
        assert_eq!(twin::decode(&again), Some((sequence, body)));
    }
    // The checksum would stop nearly everything: here nothing stands before it.
    let boots = Boots::decode(bytes);
    assert_eq!(Boots::decode(&boots.encode()).encode(), boots.encode());
    let time = LastTime::decode(bytes);
    assert_eq!(LastTime::decode(&time.encode()), time);
    let payload = racklet_trust::Digest::of(bytes);
    let before = boots.tries(payload);
    assert_eq!(
        boots.started(payload).tries(payload),
        before.saturating_add(1)
    );
}
