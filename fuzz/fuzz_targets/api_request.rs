// SPDX-License-Identifier: Apache-2.0
//! What a stranger sends to port 7443 inside TLS: head, headers and body of a request. None of it is let in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| racklet_hypervisor::fuzz::api_request(bytes));
