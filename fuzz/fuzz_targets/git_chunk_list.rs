// SPDX-License-Identifier: Apache-2.0
//! Lists that say which Git object is which chunk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::chunk_list(bytes));
