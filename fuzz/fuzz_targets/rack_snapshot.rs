// SPDX-License-Identifier: Apache-2.0
//! The accepted head, as it lies on the state partition.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::snapshot(bytes));
