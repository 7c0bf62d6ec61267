// SPDX-License-Identifier: Apache-2.0
//! Pkt-lines and the side band of a Git server, with a pack in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::side_band(bytes));
