// SPDX-License-Identifier: Apache-2.0
//! The slot record on the boot partition.
#![no_main]

use racklet_trust::slot::{SIZE, SlotRecord};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = bytes.first_chunk::<SIZE>() else {
        return;
    };
    if let Ok((generation, record)) = SlotRecord::decode(bytes) {
        assert_eq!(&record.encode(generation), bytes);
    }
});
