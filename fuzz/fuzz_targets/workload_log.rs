// SPDX-License-Identifier: Apache-2.0
//! A guest's output, as those who ask for its logs see it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_hypervisor::fuzz::workload_log(bytes));
