// SPDX-License-Identifier: Apache-2.0
//! What one boot stage tells the next.
#![no_main]

use racklet_api::handoff::{BootInfo, Handoff, SlotName};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<BootInfo>(bytes);
    let _ = serde_json::from_slice::<SlotName>(bytes);
    let _ = serde_json::from_slice::<Handoff>(bytes);
});
