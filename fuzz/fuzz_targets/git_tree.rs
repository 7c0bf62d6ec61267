// SPDX-License-Identifier: Apache-2.0
//! Trees of a Git server: names stay where they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::tree(bytes));
