// SPDX-License-Identifier: Apache-2.0
//! Time servers' answers. The first byte decides whether the answer repeats the question, as an honest one does.
#![no_main]

use std::time::Duration;

use racklet_net::sntp::{Query, agree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    let query = Query::new(0x0123_4567_89ab_cdef, Duration::from_secs(1));
    let mut answer = rest.to_vec();
    if mode & 1 == 0 && answer.len() >= 32 {
        answer[24..32].copy_from_slice(&query.packet()[40..]);
    }
    let floor = Duration::from_secs(1_790_000_000);
    if let Ok(sample) = query.judge(&answer, Duration::from_secs(2), floor) {
        assert!(sample.at(Duration::from_secs(2)) >= floor);
        assert!(agree(&[sample]).is_some());
    }
});
