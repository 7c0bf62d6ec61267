// SPDX-License-Identifier: Apache-2.0
//! The rack repository's objects: signed, and still written by hand.
#![no_main]

use racklet_rack as rack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses the kind of file, the rest is its text.
    let Some((kind, text)) = bytes.split_first() else { return };
    let path = match kind % 5 {
        0 => "rack.yaml",
        1 => "trays/tray-1.yaml",
        2 => "releases/stable.yaml",
        3 => "networks/lan.yaml",
        _ => "workloads/web.yaml",
    };
    if let Err(problems) = rack::load([(path, text)]) {
        assert!(!problems.list().is_empty());
        let _ = problems.to_string();
    }
});
