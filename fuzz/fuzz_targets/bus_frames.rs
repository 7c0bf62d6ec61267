// SPDX-License-Identifier: Apache-2.0
//! Frames of the backplane's bus: what is understood is said in exactly these bytes.
#![no_main]

use racklet_wire::{bus::Frame, serial::Receiver};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Ok(frame) = Frame::decode(body) {
        let line = frame.encode().expect("what was decoded fits a frame");
        let mut receiver = Receiver::new();
        let said = line
            .iter()
            .find_map(|&byte| Some(receiver.take(byte)?.expect("it is whole").to_vec()));
        assert_eq!(said.as_deref(), Some(body));
    }
});
