// SPDX-License-Identifier: Apache-2.0
//! The floors as they lie on the state partition: what is read can be written, and means the same again.
#![no_main]

use racklet_trust::floors::Floors;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(floors) = Floors::decode(bytes) {
        assert_eq!(Floors::decode(&floors.encode()).as_ref(), Ok(&floors));
    }
});
