// SPDX-License-Identifier: Apache-2.0
//! UDP packets as they come from a packet socket.
#![no_main]

use racklet_net::udp4;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = udp4::parse(bytes, false);
});
