// SPDX-License-Identifier: Apache-2.0
//! What a client's certificate says that it may do. What is understood is written as it came.
#![no_main]

use racklet_wire::access::Holder;

libfuzzer_sys::fuzz_target!(|uri: &str| {
    if let Some(holder) = Holder::read(uri) {
        assert_eq!(holder.to_string(), uri);
    }
});
