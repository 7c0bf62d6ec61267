// SPDX-License-Identifier: Apache-2.0
//! Records as they lie on the state partition, and how often payloads were started.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_init::fuzz::kept_record(bytes));
