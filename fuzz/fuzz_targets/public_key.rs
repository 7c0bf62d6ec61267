// SPDX-License-Identifier: Apache-2.0
//! Public keys, as text and as blobs inside signatures.
#![no_main]

use racklet_trust::PublicKey;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = PublicKey::from_blob(bytes) {
        assert_eq!(key.to_blob(), bytes);
        assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<PublicKey>();
    }
});
