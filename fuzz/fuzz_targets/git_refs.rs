// SPDX-License-Identifier: Apache-2.0
//! What a Git server answers before there is a pack: capabilities, lists of refs, where it cut a history.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_fetch::fuzz::ref_lists(bytes));
