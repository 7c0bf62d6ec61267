// SPDX-License-Identifier: Apache-2.0
//! `status.json` of a monitor, as the hypervisor takes it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_hypervisor::fuzz::monitor_status(bytes));
