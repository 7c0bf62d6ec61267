// SPDX-License-Identifier: Apache-2.0
//! Manifests and their chunk lists: what is accepted has one spelling, and its chunks add up.
#![no_main]

use racklet_trust::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse_unverified(bytes) {
        assert_eq!(manifest.to_canonical(), bytes);
        assert!(!manifest.arguments.contains(['"', '\'', '\\', '\n', '\0']));
        for file in &manifest.files {
            let total: u64 = file
                .chunks
                .iter()
                .map(|chunk| u64::from(chunk.length))
                .sum();
            assert!(file.chunks.is_empty() || total == file.size);
        }
    }
});
