// SPDX-License-Identifier: Apache-2.0
//! Questions for a tray's name, which everybody on its network may send.
#![no_main]

use racklet_net::mdns;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(asked) = mdns::asked(bytes, "tray-1") {
        let answer = mdns::answer("tray-1", &[[192, 0, 2, 7].into()], &asked, true);
        assert!(answer.is_none_or(|answer| answer.len() <= 1500));
    }
});
