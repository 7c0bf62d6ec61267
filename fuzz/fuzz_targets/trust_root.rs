// SPDX-License-Identifier: Apache-2.0
//! Trust roots: what is accepted has exactly one spelling.
#![no_main]

use racklet_trust::TrustRoot;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(root) = TrustRoot::parse(bytes) {
        assert_eq!(root.to_canonical(), bytes);
    }
});
