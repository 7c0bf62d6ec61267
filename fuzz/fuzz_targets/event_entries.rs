// SPDX-License-Identifier: Apache-2.0
//! Entries of the event log: what is understood means the same when it is written again.
#![no_main]

use racklet_firmware_core::events::Entry;

libfuzzer_sys::fuzz_target!(|record: &[u8]| {
    if let Some(entry) = Entry::decode(record) {
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
    }
});
