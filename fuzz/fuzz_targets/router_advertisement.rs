// SPDX-License-Identifier: Apache-2.0
//! The options of IPv6 router advertisements.
#![no_main]

use racklet_net::ra;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ra::dns_servers(bytes);
});
