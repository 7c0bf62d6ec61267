// SPDX-License-Identifier: Apache-2.0
//! What stands in the alias text of a bridge or tap, from which a netd that starts learns its networks: whoever may name
//! interfaces may write it.
#![no_main]

use racklet_netd::alias;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some((name, network)) = alias::read_network(text) {
        let written = alias::network(&name, &network);
        assert_eq!(alias::read_network(&written), Some((name, network)));
    }
    if let Some((workload, tap)) = alias::read_tap(text) {
        let written = alias::tap(&workload, &tap);
        assert_eq!(alias::read_tap(&written), Some((workload, tap)));
    }
});
