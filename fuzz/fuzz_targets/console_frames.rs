// SPDX-License-Identifier: Apache-2.0
//! Frames between a BMC and a reader of its console, in a row as they come on a stream. What is understood is written back as it came.
#![no_main]

use racklet_wire::{
    console::{Ask, ROOM, Tell},
    frame::Frame,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, length))) = Frame::first(rest) {
        if let Ok(ask) = Ask::read(frame) {
            let mut out = [0; ROOM];
            let taken = ask.write(&mut out).expect("any frame has room");
            assert_eq!(&out[..taken], &rest[..length]);
        }
        if let Ok(tell) = Tell::read(frame) {
            let mut out = [0; ROOM];
            let taken = tell.write(&mut out).expect("any frame has room");
            assert_eq!(&out[..taken], &rest[..length]);
        }
        rest = &rest[length..];
    }
});
