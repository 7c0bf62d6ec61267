// SPDX-License-Identifier: Apache-2.0
//! What emulated pins say: what is understood is said in exactly these bytes.
#![no_main]

use racklet_wire::{pins::Message, serial::Receiver};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Ok(message) = Message::decode(body) {
        let line = message.encode().expect("what was decoded fits a frame");
        let mut receiver = Receiver::new();
        let said = line
            .iter()
            .find_map(|&byte| Some(receiver.take(byte)?.expect("it is whole").to_vec()));
        assert_eq!(said.as_deref(), Some(body));
    }
});
