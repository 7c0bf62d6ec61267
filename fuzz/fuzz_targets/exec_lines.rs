// SPDX-License-Identifier: Apache-2.0
//! What a guest says of a process that was asked for, and what its caller says: whatever the bytes, a line is one that can be written and
//! read again, or an end.
#![no_main]

use racklet_api::guest::exec::{FromGuest, MAX_LINE, ToGuest, read, write};

macro_rules! all {
    ($kind:ty, $bytes:expr) => {
        let mut from: &[u8] = $bytes;
        while let Ok(Some(said)) = read::<$kind>(&mut from) {
            let mut line = Vec::new();
            write(&mut line, &said).unwrap();
            // A character may be written as an escape of six.
            assert!(line.len() <= 6 * MAX_LINE);
            if line.len() < MAX_LINE {
                assert_eq!(read::<$kind>(&mut &line[..]).unwrap(), Some(said));
            }
        }
    };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    all!(FromGuest, bytes);
    all!(ToGuest, bytes);
});
