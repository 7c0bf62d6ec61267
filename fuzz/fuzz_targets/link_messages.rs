// SPDX-License-Identifier: Apache-2.0
//! Messages of the control link: what is understood is said in exactly these bytes, and a tray that hears them stays in its states.
#![no_main]

use std::time::Duration;

use racklet_wire::{
    link::{Message, Stage, tray::Tray},
    serial::{Receiver, frame},
};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Ok((message, number)) = Message::decode(body) {
        let line = message.encode(number).expect("messages fit a frame");
        let mut receiver = Receiver::new();
        let said = line
            .iter()
            .find_map(|&byte| Some(receiver.take(byte)?.expect("it is whole").to_vec()));
        assert_eq!(said.as_deref(), Some(body));
    }
    // Several messages in a row, parted by 0xfe.
    let mut tray = Tray::new(Stage::System, Duration::ZERO);
    for (second, body) in body.split(|&byte| byte == 0xfe).enumerate() {
        let Ok(line) = frame(&[body]) else { return };
        for &byte in line.iter() {
            let _ = tray.take(byte);
        }
        let _ = tray.due(Duration::from_secs(second as u64));
        let _ = tray.answer(true);
    }
});
