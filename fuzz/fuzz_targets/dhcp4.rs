// SPDX-License-Identifier: Apache-2.0
//! DHCPv4 messages from whoever answers on the link.
#![no_main]

use racklet_net::dhcp4::Message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Message::parse(bytes);
});
