// SPDX-License-Identifier: Apache-2.0
//! The rack repository's objects: signed, and still written by hand.
#![no_main]

use racklet_rack as rack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the kind of file, the rest is its text.
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let path = rack::KINDS[usize::from(*kind) % rack::KINDS.len()].file("one");
    if let Err(problems) = rack::load([(path.as_str(), text)]) {
        assert!(!problems.list().is_empty());
        let _ = problems.to_string();
    }
});
