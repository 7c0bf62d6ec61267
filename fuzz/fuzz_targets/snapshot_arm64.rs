// SPDX-License-Identifier: Apache-2.0
//! The arm64 machine in a snapshot's state, written by anybody, on whatever processor this runs: what is refused leaves nothing, what
//! is taken has whole registers, and parts that serve and can be saved again.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| racklet_vmm::arch::arm64_fuzz::state(body));
