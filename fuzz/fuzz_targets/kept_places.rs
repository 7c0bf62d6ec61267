// SPDX-License-Identifier: Apache-2.0
//! A place of a ring in flash. Its CRC is made right, as it is after an accident that nobody looks for, or by somebody with a clip.
#![no_main]

use racklet_firmware_core::kept::{LONGEST, decode};
use racklet_wire::serial::crc32;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut place = [0xff; 128];
    let length = bytes.len().min(place.len());
    place[..length].copy_from_slice(&bytes[..length]);
    let end = 5 + usize::from(place[4]);
    if end + 4 <= place.len() {
        let crc = crc32(&place[..end]);
        place[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
    match decode(&place) {
        Some((_, record)) => assert_eq!(*record, place[5..end]),
        None => assert!(end - 5 > LONGEST),
    }
});
