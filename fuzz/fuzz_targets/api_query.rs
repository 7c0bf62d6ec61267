// SPDX-License-Identifier: Apache-2.0
//! What is asked of a workload's log: the query of a target, with a cursor.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| racklet_hypervisor::fuzz::api_query(text));
