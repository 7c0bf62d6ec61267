// SPDX-License-Identifier: Apache-2.0
//! A pack from a Git server: bounded, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::pack(bytes));
