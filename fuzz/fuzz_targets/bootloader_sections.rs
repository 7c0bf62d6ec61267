// SPDX-License-Identifier: Apache-2.0
//! The sections of the bootloader's own image, as the firmware loaded it.
#![no_main]

use racklet_bootloader::baked::Baked;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(baked) = Baked::from_image(bytes) {
        assert_eq!(
            racklet_trust::arguments::check(&baked.board.arguments),
            Ok(())
        );
        assert_eq!(baked.root.to_canonical(), baked.root_json);
    }
});
