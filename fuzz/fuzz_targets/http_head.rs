// SPDX-License-Identifier: Apache-2.0
//! The head of an HTTP answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::http_head(bytes));
