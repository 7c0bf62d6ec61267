// SPDX-License-Identifier: Apache-2.0
//! A noisy line: whatever was on it, of two frames behind the noise the second one is read, and noise is kept in no more than one frame.
#![no_main]

use racklet_wire::serial::{LONGEST, Receiver, frame};

libfuzzer_sys::fuzz_target!(|noise: &[u8]| {
    let mut receiver = Receiver::new();
    for &byte in noise {
        if let Some(Ok(body)) = receiver.take(byte) {
            assert!(body.len() <= LONGEST);
        }
    }
    let line = frame(&[b"whole"]).expect("five bytes");
    let mut last = None;
    for &byte in line.iter().chain(line.iter()) {
        if let Some(found) = receiver.take(byte) {
            last = Some(found == Ok(b"whole"));
        }
    }
    assert_eq!(last, Some(true));
});
