// SPDX-License-Identifier: Apache-2.0
//! Commit objects of a Git server: whatever else is read, the signed bytes hold no signature header.
#![no_main]

use racklet_trust::commit::Commit;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(commit) = Commit::parse(bytes) {
        assert!(commit.signed_bytes().len() <= bytes.len());
        assert!(Commit::parse(commit.signed_bytes()).is_ok());
    }
});
